package audit

import (
	"cmp"
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"time"

	"collectord/shipper/bucket"
)

// Device is a client of a host from which nothing has come for long.
type Device struct {
	Name string `json:"name"`
	// LastSeen is by the host's clock; nil: never since the host's daemon was started.
	LastSeen      *time.Time `json:"last_seen"`
	SilentSeconds int64      `json:"silent_seconds"` // at least
}

// maxDevices bounds how many clients of all hosts together are kept in memory.
const maxDevices = 200_000

// clients are those of a heartbeat, without a pointer to each.
type clients struct {
	names string // one after another
	each  []clientSeen
}

type clientSeen struct {
	end  uint32 // of its name, which begins where that of the one before ends
	last int64  // second since 1970 when it was seen; neverSeen
}

const neverSeen = math.MinInt64

func compact(all []bucket.Client) (c clients) {
	var names strings.Builder
	c.each = make([]clientSeen, len(all))
	for i := range all {
		names.WriteString(all[i].Name)
		c.each[i] = clientSeen{uint32(names.Len()), neverSeen}
		if seen := all[i].LastSeen; seen != nil {
			c.each[i].last = seen.Unix()
		}
	}
	c.names = names.String()
	return c
}

func (c *clients) name(i int) string {
	from := uint32(0)
	if i > 0 {
		from = c.each[i-1].end
	}
	return c.names[from:c.each[i].end]
}

// device is what is known of a name in a destination. Several hosts may know it: behind a
// load balancer all have one file of tokens.
type device struct {
	host, client uint32 // in order
}

// findSilentDevices names the clients from which no host has got anything for long, at
// the host that got something last. What a silent host got is not known.
func (f *fleet) findSilentDevices() {
	devices := map[uint64]device{} // by a hash, since there may be many
	seed := maphash.MakeSeed()
	for n, h := range f.hosts {
		for i := range h.clients.each {
			var name maphash.Hash
			name.SetSeed(seed)
			_, _ = name.WriteString(h.Destination)
			_ = name.WriteByte(0)
			_, _ = name.WriteString(h.clients.name(i))
			sum := name.Sum64()
			d := device{uint32(n), uint32(i)}
			if other, known := devices[sum]; !known || f.tellsMore(d, other) {
				devices[sum] = d
			}
		}
	}
	for _, d := range devices {
		h := f.hosts[d.host]
		silent := f.silence(d)
		if silent <= f.DeviceSilentFor || h.silent || !h.speaks {
			continue
		}
		found := Device{Name: strings.Clone(h.clients.name(int(d.client))), SilentSeconds: int64(silent.Seconds())}
		if last := h.clients.each[d.client].last; last != neverSeen {
			at := time.Unix(last, 0).UTC()
			found.LastSeen = &at
		}
		h.SilentDevices = append(h.SilentDevices, found)
	}
	for _, h := range f.hosts {
		if h.clients = (clients{}); len(h.SilentDevices) == 0 {
			continue
		}
		h.Wrong = append(h.Wrong, SilentDevice)
		slices.SortFunc(h.SilentDevices, func(a, b Device) int {
			return cmp.Or(cmp.Compare(b.SilentSeconds, a.SilentSeconds), strings.Compare(a.Name, b.Name))
		})
	}
}

// tellsMore reports whether d counts rather than another of the same name: the one that
// was seen last, or, if none was seen, on the host that has waited longest.
func (f *fleet) tellsMore(d, other device) bool {
	seen, otherSeen := f.last(d) != neverSeen, f.last(other) != neverSeen
	if seen != otherSeen {
		return seen
	}
	return seen == (f.silence(d) < f.silence(other))
}

func (f *fleet) last(d device) int64 { return f.hosts[d.host].clients.each[d.client].last }

// silence is how long nothing has come from a client of a host, by now.
func (f *fleet) silence(d device) time.Duration {
	b := f.hosts[d.host].Heartbeat
	quiet := b.Lasted()
	if last := f.last(d); last != neverSeen {
		quiet = min(b.At.Sub(time.Unix(last, 0)), bucket.MaxAge)
	}
	return f.Now.Sub(heardAt(b)) + quiet
}
