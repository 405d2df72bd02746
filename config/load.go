package config

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// Mistakes contains every error in the settings.
type Mistakes []Mistake

// Mistake is one error in the settings.
type Mistake struct {
	Key    string
	Origin string // "collectord.yaml line 3", a variable, a flag, or "default"
	Reason string
}

func (m Mistakes) Error() string {
	lines := make([]string, len(m))
	for i, e := range m {
		lines[i] = e.String()
	}
	return strings.Join(lines, "\n")
}

func (m Mistake) String() string { return fmt.Sprintf("%s (%s): %s", m.Key, m.Origin, m.Reason) }

// concern reports whether a mistake concerns the key, or a section that contains the key.
func (m Mistakes) concern(key string) bool {
	return slices.ContainsFunc(m, func(m Mistake) bool { return isWithin(key, m.Key) })
}

// loader merges the sources through viper. Viper receives only text, because the table of
// keys determines what a value means, and YAML does not.
type loader struct {
	source   Source
	path     string
	origin   map[string]string // origins of the keys that are set in the file or the environment
	mistakes Mistakes
}

// originOf returns where the value of a key was set.
func (l *loader) originOf(key string) string {
	if f := l.flag(key); f != nil && f.Changed {
		return flagPrefix + f.Name
	}
	if origin := l.origin[key]; origin != "" {
		return origin
	}
	return "default"
}

func (l *loader) mistake(key, reason string) {
	l.mistakes = append(l.mistakes, l.newMistake(key, reason))
}

func (l *loader) newMistake(key, reason string) Mistake {
	origin := l.originOf(key)
	if strings.HasPrefix(origin, envPrefix) {
		reason = nameVariables(reason)
	}
	return Mistake{key, origin, reason}
}

// flagPrefix begins the origin of a value that a flag has set.
const flagPrefix = "--"

func (l *loader) isValid(keys ...string) bool { return !slices.ContainsFunc(keys, l.mistakes.concern) }

// isRelevant reports whether a mistake concerns a command that uses only some keys. An
// unknown key concerns the command, because a needed key may have been meant. A flag
// concerns the command, because the user has set the flag for it.
func (l *loader) isRelevant(m Mistake) bool {
	isKnown := slices.ContainsFunc(keys, func(k Key) bool { return isWithin(k.Name, m.Key) })
	return !isKnown || strings.HasPrefix(m.Origin, flagPrefix) || l.isUsed(m.Key)
}

// isUsed reports whether the command uses a key, or some keys of a section.
func (l *loader) isUsed(key string) bool {
	return l.source.Uses == nil || slices.ContainsFunc(l.source.Uses, func(used string) bool {
		return isWithin(key, used) || isWithin(used, key)
	})
}

// checkFiles checks the files that used keys name. It does not touch the other files, because
// their disk may not answer.
func (l *loader) checkFiles(c *Config) {
	for _, k := range keys {
		if k.value.file == nil || !l.isUsed(k.Name) || !l.isValid(k.Name) {
			continue
		}
		path := k.value.file(c)
		if err := checkFile(*path); err != nil {
			l.mistake(k.Name, fmt.Sprintf("%q %v", c.raw[k.Name], err))
			*path = ""
		}
	}
}

// isWithin reports whether key is section, or is in that section.
func isWithin(key, section string) bool { return key == section || strings.HasPrefix(key, section+".") }

// nameVariables replaces the keys in a reason by their variables, because the
// variables may be all that a container can set.
func nameVariables(reason string) string {
	var pairs []string
	// A longer name precedes its prefixes, and a name with a value precedes the bare
	// name.
	for _, k := range slices.SortedFunc(slices.Values(keys), func(a, b Key) int { return len(b.Name) - len(a.Name) }) {
		if strings.Contains(k.Name, ".") {
			pairs = append(pairs, k.Name+": ", k.Env()+"=", k.Name, k.Env())
		}
	}
	return strings.NewReplacer(pairs...).Replace(reason)
}

func (l *loader) flag(key string) *pflag.Flag {
	k, ok := findKey(key)
	if l.source.Flags == nil || !ok || k.Flag == "" {
		return nil
	}
	return l.source.Flags.Lookup(k.Flag)
}

// merge merges the settings of the file with variables, flags and defaults, through
// viper. It does not use AutomaticEnv, because a variable named like a section would
// remove the whole section.
func (l *loader) merge(settings map[string]any) (raw map[string]string, err error) {
	v := viper.New()
	v.AllowEmptyEnv(true)
	err = v.MergeConfigMap(settings)
	raw = make(map[string]string, len(keys))
	for _, k := range keys {
		v.SetDefault(k.Name, k.Default)
		err = errors.Join(err, v.BindEnv(k.Name, k.Env()))
		if f := l.flag(k.Name); f != nil {
			err = errors.Join(err, v.BindPFlag(k.Name, f))
		}
		raw[k.Name] = v.GetString(k.Name)
	}
	return raw, err
}

// TokenVariable is the name of the variable with a client's token. It sets no key.
const TokenVariable = envPrefix + "TOKEN"

// readEnviron records which variables set keys. It warns of variables that have the
// prefix and set no key.
func (l *loader) readEnviron() (warnings []string) {
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, envPrefix) || name == TokenVariable {
			continue
		}
		i := slices.IndexFunc(keys, func(k Key) bool { return k.Env() == name })
		if i < 0 {
			warnings = append(warnings, fmt.Sprintf("the variable %s sets nothing; the nearest is %s", name, nearest(name, variables)))
			continue
		}
		l.origin[keys[i].Name] = name
	}
	return warnings
}

// nearest returns the name that is spelled like s with the fewest edits.
func nearest(s string, names iter.Seq[string]) (best string) {
	fewest := -1
	for name := range names {
		if d := distance(s, name); fewest < 0 || d < fewest {
			best, fewest = name, d
		}
	}
	return best
}

// keysAndSections yields the names of all keys and sections.
func keysAndSections(yield func(string) bool) {
	for _, k := range keys {
		for i, c := range k.Name {
			if c == '.' && !yield(k.Name[:i]) {
				return
			}
		}
		if !yield(k.Name) {
			return
		}
	}
}

// variables yields the names of the variables of all keys.
func variables(yield func(string) bool) {
	for _, k := range keys {
		if !yield(k.Env()) {
			return
		}
	}
}

// distance returns the number of edits between two strings (Levenshtein distance).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
