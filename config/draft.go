package config

import "slices"

// Draft is a configuration that may have mistakes. A caller can add mistakes of its own,
// to report all of them at once.
type Draft struct {
	Config   *Config // with defaults in place of wrong values, and lists without wrong parts; nil if the file can't be read
	Warnings []string
	Mistakes Mistakes
	loader   *loader
}

// Read reads, merges and checks all settings. The Draft contains the mistakes.
func Read(src Source) *Draft {
	l := &loader{source: src, origin: map[string]string{}}
	d := &Draft{loader: l}
	if settings := l.readFile(); settings != nil {
		d.Warnings = l.readEnviron()
		raw, err := l.merge(settings)
		if err != nil { // a bug in this program
			l.fileMistake("", 0, err.Error())
		}
		d.Config = build(raw, l.mistake, l.isValid)
		l.checkFiles(d.Config)
		if src.Uses == nil {
			d.Warnings = append(d.Warnings, d.Config.warnings()...)
		}
	}
	for _, m := range l.mistakes {
		if l.isRelevant(m) {
			d.Mistakes = append(d.Mistakes, m)
		} else {
			d.Warnings = append(d.Warnings, m.String()+" (not needed here: its default is used)")
		}
	}
	return d
}

// Valid reports whether no mistake was found in any of the keys.
func (d *Draft) Valid(keys ...string) bool { return !slices.ContainsFunc(keys, d.Mistakes.concern) }

// Mistake adds a mistake in the value of a key.
func (d *Draft) Mistake(key, reason string) {
	d.Mistakes = append(d.Mistakes, d.loader.newMistake(key, reason))
}

// Text returns the value of a key as it was written, or the text of its default.
func (d *Draft) Text(key string) string { return d.Config.raw[key] }
