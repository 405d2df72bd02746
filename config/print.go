package config

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// Example is the commented configuration file: every key with its default,
// commented out, but for those that are set among the flags, which AddFlags was
// called on. No flags, nil, sets none.
func Example(flags *pflag.FlagSet) ([]byte, error) {
	set := map[string]string{}
	for _, k := range keys {
		if k.Flag == "" || flags == nil || !flags.Changed(k.Flag) {
			continue
		}
		text := flags.Lookup(k.Flag).Value.String()
		if err := k.value.set(&Config{}, text); err != nil {
			return nil, fmt.Errorf("--%s: %q %w", k.Flag, text, err)
		}
		set[k.Name] = text
	}
	var b strings.Builder
	b.WriteString("# Configuration of collectord. Every key is shown with its default; remove the\n" +
		"# # before it to change it. Each can also be set by a variable: http.listen by\n" +
		"# COLLECTORD_HTTP_LISTEN. Check the result with: collectord config check\n")
	write(&b, explained, func(k Key) (text, comment string, isSet bool) {
		text, isSet = set[k.Name]
		return text, "", isSet
	})
	return []byte(b.String()), nil
}

// How write renders the keys.
const (
	explained = true
	bare      = false
)

// write renders all keys as YAML, each with the comment that value returns. What is not
// set is commented out, with its default.
func write(b *strings.Builder, explain bool, value func(Key) (text, comment string, set bool)) {
	var sections []string
	for _, k := range keys {
		parts := strings.Split(k.Name, ".")
		depth := len(parts) - 1
		indent := strings.Repeat("  ", depth)
		for i, section := range parts[:depth] {
			if i < len(sections) && sections[i] == section {
				continue
			}
			sections = sections[:min(i, len(sections))]
			if explain && i == 0 {
				b.WriteString("\n")
			}
			fmt.Fprintf(b, "%s%s:\n", strings.Repeat("  ", i), section)
		}
		sections = parts[:depth]
		if explain {
			if depth == 0 {
				b.WriteString("\n")
			}
			for line := range strings.SplitSeq(k.Doc, "\n") {
				fmt.Fprintf(b, "%s# %s\n", indent, line)
			}
		}
		text, comment, set := value(k)
		mark := ""
		if explain && set {
			fmt.Fprintf(b, "%s# The default is %s.\n", indent, quote(k.Default))
		}
		if !set {
			text, mark = k.Default, "# "
		}
		if comment != "" {
			comment = " # " + comment
		}
		fmt.Fprintf(b, "%s%s%s: %s%s\n", indent, mark, parts[depth], quote(text), comment)
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
