package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

// Mistakes is everything that is wrong with the settings.
type Mistakes []Mistake

// Mistake is one thing that is wrong.
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

// loader merges the sources through viper, which is fed text only: what a value
// means is decided by the table of keys, not by what YAML takes it for.
type loader struct {
	source   Source
	viper    *viper.Viper
	path     string
	origin   map[string]string // of keys set in the file or the environment
	mistakes Mistakes
}

// originOf returns where the value of a key comes from.
func (l *loader) originOf(key string) string {
	if f := l.flag(key); f != nil && f.Changed {
		return "--" + f.Name
	}
	if origin := l.origin[key]; origin != "" {
		return origin
	}
	return "default"
}

func (l *loader) mistake(key, reason string) {
	origin := l.originOf(key)
	if strings.HasPrefix(origin, envPrefix) {
		reason = inVariables(reason)
	}
	l.mistakes = append(l.mistakes, Mistake{key, origin, reason})
}

// inVariables names the variables of the keys that a reason names: in a container
// there may be nothing else to set.
func inVariables(reason string) string {
	var pairs []string
	// Of names that begin alike the longest comes first, and a value before none.
	for _, k := range slices.SortedFunc(slices.Values(keys), func(a, b Key) int { return len(b.Name) - len(a.Name) }) {
		if strings.Contains(k.Name, ".") {
			pairs = append(pairs, k.Name+": ", k.Env()+"=", k.Name, k.Env())
		}
	}
	return strings.NewReplacer(pairs...).Replace(reason)
}

func (l *loader) flag(key string) *pflag.Flag {
	k, ok := find(key)
	if l.source.Flags == nil || !ok || k.Flag == "" {
		return nil
	}
	return l.source.Flags.Lookup(k.Flag)
}

// AddFlags defines a flag for each key that has one.
func AddFlags(flags *pflag.FlagSet) {
	for _, k := range keys {
		if k.Flag != "" {
			doc, _, _ := strings.Cut(k.Doc, "\n")
			flags.String(k.Flag, k.Default, fmt.Sprintf("%s (%s)", strings.TrimSuffix(doc, "."), k.Name))
		}
	}
}

// readFile walks the YAML nodes, so that exact spelling, line and text are known.
func (l *loader) readFile() error {
	l.viper = viper.New()
	l.path = l.source.Path
	if l.path == "" {
		l.path = DefaultPath
	}
	content, err := os.ReadFile(l.path)
	if errors.Is(err, fs.ErrNotExist) && l.source.Path == "" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	var doc yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(content))
	if err := d.Decode(&doc); errors.Is(err, io.EOF) {
		return nil // empty
	} else if err != nil {
		l.fileMistake("", 0, strings.TrimPrefix(err.Error(), "yaml: "))
		return nil
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		l.fileMistake("", 0, "holds more than one document")
	}
	settings := map[string]any{}
	if root := doc.Content[0]; !isNull(root) {
		l.walk("", root, settings)
	}
	return l.viper.MergeConfigMap(settings)
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

func (l *loader) fileMistake(key string, line int, reason string) {
	origin := l.path
	if line > 0 {
		origin = fmt.Sprintf("%s line %d", l.path, line)
	}
	if key == "" {
		key = "configuration"
	}
	l.mistakes = append(l.mistakes, Mistake{key, origin, reason})
}

// walk enters the settings below node, a section, in nested maps.
func (l *loader) walk(section string, node *yaml.Node, settings map[string]any) {
	if node.Kind != yaml.MappingNode {
		l.fileMistake(section, node.Line, "is a section: its keys belong below it, indented")
		return
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, value := node.Content[i], node.Content[i+1]
		key := strings.TrimPrefix(section+"."+name.Value, ".")
		if name.Kind != yaml.ScalarNode || strings.Contains(name.Value, ".") {
			l.fileMistake(key, name.Line, "is not a key: a key is a plain word below its section")
			continue
		}
		k, isKey := find(key)
		isSection := slices.ContainsFunc(keys, func(k Key) bool { return strings.HasPrefix(k.Name, key+".") })
		if _, twice := settings[name.Value]; twice {
			l.fileMistake(key, name.Line, "is set twice")
			continue
		}
		switch {
		case isSection && isNull(value): // all of its keys are commented out
		case isSection:
			below := map[string]any{}
			l.walk(key, value, below)
			settings[name.Value] = below
		case isKey:
			if text, ok := l.text(k, value); ok {
				settings[name.Value] = text
				l.origin[key] = fmt.Sprintf("%s line %d", l.path, value.Line)
			}
		default:
			l.fileMistake(key, name.Line, "is not a key; the nearest is "+nearest(key))
		}
	}
}

// text returns a scalar as it is written, and a list of them joined by commas.
func (l *loader) text(k Key, n *yaml.Node) (string, bool) {
	switch {
	case n.Style&yaml.TaggedStyle != 0:
		l.fileMistake(k.Name, n.Line, "has a YAML tag: write the value as it is")
	case isNull(n):
		l.fileMistake(k.Name, n.Line, "has no value: remove it, or write \"\"")
	case n.Kind == yaml.ScalarNode:
		return n.Value, true
	case n.Kind == yaml.SequenceNode && k.value.list:
		var parts []string
		for _, item := range n.Content {
			if item.Kind != yaml.ScalarNode || isNull(item) || item.Style&yaml.TaggedStyle != 0 {
				l.fileMistake(k.Name, item.Line, "holds something other than text")
				return "", false
			}
			parts = append(parts, item.Value)
		}
		return strings.Join(parts, ","), true
	case k.value.list:
		l.fileMistake(k.Name, n.Line, "takes one value, or a list")
	default:
		l.fileMistake(k.Name, n.Line, "takes one value")
	}
	return "", false
}

// bind tells viper of variables, flags and defaults. AutomaticEnv is not used: a
// variable named like a section would wipe it.
func (l *loader) bind() error {
	l.viper.AllowEmptyEnv(true)
	for _, k := range keys {
		l.viper.SetDefault(k.Name, k.Default)
		if err := l.viper.BindEnv(k.Name, k.Env()); err != nil {
			return err
		}
		if f := l.flag(k.Name); f != nil {
			if err := l.viper.BindPFlag(k.Name, f); err != nil {
				return err
			}
		}
	}
	return nil
}

// noteEnviron notes which variables are set, and warns of those that would set
// something if there were such a key.
func (l *loader) noteEnviron() (warnings []string) {
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, envPrefix) {
			continue
		}
		i := slices.IndexFunc(keys, func(k Key) bool { return k.Env() == name })
		if i < 0 {
			warnings = append(warnings, fmt.Sprintf("the variable %s sets nothing", name))
			continue
		}
		l.origin[keys[i].Name] = name
	}
	return warnings
}

// nearest returns the key that is spelled most like s.
func nearest(s string) (best string) {
	least := -1
	for _, k := range keys {
		if d := distance(s, k.Name); least < 0 || d < least {
			best, least = k.Name, d
		}
	}
	return best
}

// distance is the number of edits between two strings (Levenshtein).
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
