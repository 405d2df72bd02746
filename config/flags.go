package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// AddFlags defines flags for the keys of these names, or for each key that has one.
func AddFlags(flags *pflag.FlagSet, names ...string) {
	for _, k := range keys {
		if k.Flag != "" && (len(names) == 0 || slices.Contains(names, k.Name)) {
			flags.String(k.Flag, k.Default, fmt.Sprintf("%s (%s)", firstSentence(k.Doc), k.Name))
		}
	}
}

// EnvOf returns the variable that sets a key.
func EnvOf(name string) string { return Key{Name: name}.Env() }

// DefaultOf returns the default of a key, as it would be written.
func DefaultOf(name string) string {
	k, _ := find(name)
	return k.Default
}

// Choices returns the values that the key of a flag may have, where they are few.
func Choices(flag string) []string {
	i := slices.IndexFunc(keys, func(k Key) bool { return k.Flag == flag })
	if i < 0 {
		return nil
	}
	return keys[i].value.choices
}

var sentenceEnd = regexp.MustCompile(`\.( [A-Z]|$)`)

// firstSentence returns it on one line, without its full stop.
func firstSentence(doc string) string {
	doc = strings.ReplaceAll(doc, "\n", " ")
	return doc[:sentenceEnd.FindStringIndex(doc)[0]]
}
