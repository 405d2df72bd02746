package config

import (
	"encoding/json"
	"strconv"
	"strings"
)

// Effective contains every setting in effect, and where each comes from.
type Effective struct{ all map[string]effective }

// effective is the value of a key as the file would contain it, and where it comes from.
type effective struct {
	Value string `json:"value"`
	From  string `json:"from"`
}

// LoadEffective is Load for people: it returns what is in effect, and why.
func LoadEffective(src Source) (*Effective, error) {
	d := Read(src)
	if len(d.Mistakes) > 0 {
		return nil, d.Mistakes
	}
	c := d.Config
	e := &Effective{map[string]effective{}}
	for _, k := range keys {
		value := c.raw[k.Name]
		if k.value.file != nil { // it may be a credential
			value = *k.value.file(c)
		}
		e.all[k.Name] = effective{value, d.loader.originOf(k.Name)}
	}
	e.derive("node", c.Node, "the host's name")
	e.derive("data_dir", c.DataDir, "")
	e.derive("shipper.destination", c.Shipper.Destination, "archive in data_dir")
	e.derive("wal.seal_small_after", durationText(c.WAL.SealSmallAfter), "from wal.seal_after")
	return e, nil
}

// derive replaces the value of a key by the value in effect. If the key was empty, derive
// adds why to its origin.
func (e *Effective) derive(key, value, why string) {
	s := e.all[key]
	if s.Value == "" && why != "" {
		s.From += ": " + why
	}
	e.all[key] = effective{value, s.From}
}

// YAML returns the settings as a configuration file. A comment names the origin of each
// value.
func (e *Effective) YAML() []byte {
	var b strings.Builder
	write(&b, bare, func(k Key) (text, comment string, set bool) {
		s := e.all[k.Name]
		if from := strconv.Quote(s.From); from != `"`+s.From+`"` { // a file name can contain control characters and quotes
			s.From = from
		}
		return s.Value, s.From, true
	})
	return []byte(b.String())
}

// JSON returns the settings as one object whose names are the keys, for programs.
func (e *Effective) JSON() ([]byte, error) {
	text, err := json.MarshalIndent(e.all, "", "  ")
	return append(text, '\n'), err
}
