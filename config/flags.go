package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// AddFlags defines the flags of the named keys, or of all keys if no names are passed.
func AddFlags(flags *pflag.FlagSet, names ...string) {
	for _, k := range keys {
		if k.Flag != "" && (len(names) == 0 || slices.Contains(names, k.Name)) {
			flags.String(k.Flag, k.Default, fmt.Sprintf("%s (%s%s)", firstSentence(k.Doc), k.Name, emptyMeaning(k.Doc)))
		}
	}
}

// EnvOf returns the name of the variable that sets a key.
func EnvOf(name string) string { return Key{Name: name}.Env() }

// DefaultOf returns the default of a key, as the file would contain it.
func DefaultOf(name string) string {
	k, _ := findKey(name)
	return k.Default
}

// Choices returns the valid values of a flag, or nil if the flag takes other values.
func Choices(flag string) []string {
	i := slices.IndexFunc(keys, func(k Key) bool { return k.Flag == flag })
	if i < 0 {
		return nil
	}
	return keys[i].value.choices
}

// emptyMeaning returns the sentence of doc about an empty value, for the end of a bracket.
func emptyMeaning(doc string) string {
	_, meaning, found := strings.Cut(strings.ReplaceAll(doc, "\n", " "), " Empty: ")
	if !found {
		return ""
	}
	return "; empty: " + firstSentence(meaning)
}

var sentenceEnd = regexp.MustCompile(`\.( [A-Z]|$)`)

// firstSentence returns the first sentence of doc on one line, without its full stop.
func firstSentence(doc string) string {
	doc = strings.ReplaceAll(doc, "\n", " ")
	return doc[:sentenceEnd.FindStringIndex(doc)[0]]
}
