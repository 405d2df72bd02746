package config

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// Example returns the commented configuration file. It contains every key with its
// default, commented out, except the keys that flags set. AddFlags must have defined
// flags; nil sets none.
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

// These are the values of explain, a parameter of write.
const (
	explained = true
	bare      = false
)

// write renders all keys as YAML. value returns the text and the comment of a key, and
// whether the key is set. A key that is not set is commented out, with its default.
// explain adds the documentation of each key.
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

// unquoted matches what YAML reads as text without quotes, except for the words that quote
// lists.
var unquoted = regexp.MustCompile(`^[A-Za-z0-9./][A-Za-z0-9./_-]*$`)

// quote formats a value so that YAML reads it back as the same text. Some YAML readers
// take the listed words for booleans or null.
func quote(s string) string {
	switch strings.ToLower(s) {
	case "on", "off", "yes", "no", "null":
	default:
		if unquoted.MatchString(s) {
			return s
		}
	}
	return strconv.Quote(s)
}
