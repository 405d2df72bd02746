package config

import (
	"encoding/json"
	"strconv"
	"strings"
)

// Effective is every setting in effect.
type Effective struct{ all map[string]effective }

// effective is the value of a key as it would be written, and where it comes from.
type effective struct {
	Value string `json:"value"`
	From  string `json:"from"`
}

// LoadEffective is Load for people who want to see what is in effect, and why.
func LoadEffective(src Source) (*Effective, error) {
	d := Read(src)
	if len(d.Mistakes) > 0 {
		return nil, d.Mistakes
	}
	c := d.Config
	e := &Effective{map[string]effective{}}
	for _, k := range keys {
		e.all[k.Name] = effective{c.raw[k.Name], d.loader.originOf(k.Name)}
	}
	e.derive("node", c.Node, "the host's name")
	e.derive("data_dir", c.DataDir, "")
	e.derive("shipper.destination", c.Shipper.Destination, "archive in data_dir")
	e.derive("wal.seal_small_after", durationText(c.WAL.SealSmallAfter), "from wal.seal_after")
	return e, nil
}

// derive sets the value of a key that depends on something else where it is empty.
func (e *Effective) derive(key, value, why string) {
	s := e.all[key]
	if s.Value == "" && why != "" {
		s.From += ": " + why
	}
	e.all[key] = effective{value, s.From}
}

// YAML returns the settings as a configuration file, with comments that say where each
// value comes from.
func (e *Effective) YAML() []byte {
	var b strings.Builder
	write(&b, bare, func(k Key) (text, comment string, set bool) {
		s := e.all[k.Name]
		if from := strconv.Quote(s.From); from != `"`+s.From+`"` { // somebody has named the file so
			s.From = from
		}
		return s.Value, s.From, true
	})
	return []byte(b.String())
}

// JSON returns the settings as one object, for programs. Its names are the keys.
func (e *Effective) JSON() ([]byte, error) {
	text, err := json.MarshalIndent(e.all, "", "  ")
	return append(text, '\n'), err
}
