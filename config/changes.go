package config

import "slices"

// Change is a key whose value differs between two configurations.
type Change struct {
	Key      string
	From, To string // as the file would contain it
	Live     bool   // a reload puts it into effect; otherwise a restart is needed
}

// Reloaded returns what is in effect after next has been loaded into a daemon that runs
// with c: the live keys of next, and the other keys of c. It also returns all changes.
// The combination is checked like any other; the error is a Mistakes.
func (c *Config) Reloaded(next *Config) (*Config, []Change, error) {
	var changes []Change
	raw := make(map[string]string, len(keys))
	for _, k := range keys {
		from, to := c.raw[k.Name], next.raw[k.Name]
		raw[k.Name] = from
		if k.Live {
			raw[k.Name] = to
		}
		if from != to {
			changes = append(changes, Change{k.Name, from, to, k.Live})
		}
	}
	var mistakes Mistakes
	merged := build(raw, func(key, reason string) {
		mistakes = append(mistakes, Mistake{key, "in combination with keys that keep their value until a restart", reason})
	}, func(keys ...string) bool { return !slices.ContainsFunc(keys, mistakes.concern) })
	if len(mistakes) > 0 {
		return nil, changes, mistakes
	}
	// These values can depend on the host's name and the working directory, which a
	// reload does not read again.
	merged.Node, merged.DataDir, merged.Shipper.Destination = c.Node, c.DataDir, c.Shipper.Destination
	return merged, changes, nil
}

// Setting is a key and its effective value, as the file would contain it.
type Setting struct{ Key, Value string }

// Limits returns every size, duration, count and rate in effect.
func (c *Config) Limits() (limits []Setting) {
	for _, k := range keys {
		if k.value.limit {
			limits = append(limits, Setting{k.Name, c.raw[k.Name]})
		}
	}
	return limits
}
