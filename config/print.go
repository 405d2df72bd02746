package config

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Example is the commented configuration file: every key with its default,
// commented out.
func Example() []byte {
	var b strings.Builder
	b.WriteString("# Configuration of collectord. Every key is shown with its default; remove the\n" +
		"# # before it to change it. Each can also be set by a variable: http.listen by\n" +
		"# COLLECTORD_HTTP_LISTEN. Check the result with: collectord config check\n")
	write(&b, func(k Key) (string, bool) { return k.Default, true })
	return []byte(b.String())
}

// Print returns the effective settings as a configuration file.
func (c *Config) Print() []byte {
	var b strings.Builder
	write(&b, func(k Key) (string, bool) { return c.raw[k.Name], false })
	return []byte(b.String())
}

// write renders all keys as YAML, either commented and explained, or bare.
func write(b *strings.Builder, value func(Key) (text string, commented bool)) {
	var sections []string
	for _, k := range keys {
		parts := strings.Split(k.Name, ".")
		depth := len(parts) - 1
		indent := strings.Repeat("  ", depth)
		text, commented := value(k)
		for i, section := range parts[:depth] {
			if i < len(sections) && sections[i] == section {
				continue
			}
			sections = sections[:min(i, len(sections))]
			if commented && i == 0 {
				b.WriteString("\n")
			}
			fmt.Fprintf(b, "%s%s:\n", strings.Repeat("  ", i), section)
		}
		sections = parts[:depth]
		mark := ""
		if commented {
			if depth == 0 {
				b.WriteString("\n")
			}
			for line := range strings.SplitSeq(k.Doc, "\n") {
				fmt.Fprintf(b, "%s# %s\n", indent, line)
			}
			mark = "# "
		}
		fmt.Fprintf(b, "%s%s%s: %s\n", indent, mark, parts[depth], quote(text))
	}
}

// plain is what YAML takes for text without quotes, but for the words that some
// readers take for something else.
var plain = regexp.MustCompile(`^[A-Za-z0-9./][A-Za-z0-9./_-]*$`)

// quote writes a value so that YAML reads it back as the same text.
func quote(s string) string {
	switch strings.ToLower(s) {
	case "on", "off", "yes", "no", "null":
	default:
		if plain.MatchString(s) {
			return s
		}
	}
	return strconv.Quote(s)
}
