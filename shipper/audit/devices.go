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

// Device is a client of a host that has sent nothing for a long time.
type Device struct {
	Name string `json:"name"`
	// LastSeen is by the host's clock. nil: not since the host's daemon started.
	LastSeen      *time.Time `json:"last_seen"`
	SilentSeconds int64      `json:"silent_seconds"` // lower bound
}

// maxDevices limits how many clients of all hosts are kept in memory.
const maxDevices = 200_000

// clients is a compact list of a heartbeat's clients, without one pointer per client.
type clients struct {
	names   string // concatenated names
	entries []clientSeen
}

type clientSeen struct {
	end      uint32 // end of its name, which begins at the end of the previous one
	lastSeen int64  // Unix time in seconds when it was last seen, or neverSeen
}

const neverSeen = math.MinInt64

func compactClients(all []bucket.Client) (c clients) {
	var names strings.Builder
	c.entries = make([]clientSeen, len(all))
	for i := range all {
		names.WriteString(all[i].Name)
		c.entries[i] = clientSeen{uint32(names.Len()), neverSeen}
		if seen := all[i].LastSeen; seen != nil {
			c.entries[i].lastSeen = seen.Unix()
		}
	}
	c.names = names.String()
	return c
}

func (c *clients) name(i int) string {
	from := uint32(0)
	if i > 0 {
		from = c.entries[i-1].end
	}
	return c.names[from:c.entries[i].end]
}

// device identifies a client name in a destination. Several hosts can know the same name:
// behind a load balancer all hosts have the same token file.
type device struct {
	host, client uint32 // indexes in hosts and clients
}

// findSilentDevices finds the clients from which no host has received anything for longer
// than DeviceSilentFor, and adds each to the host that heard from it last. A silent host
// is skipped, since its recent clients are unknown.
func (f *fleet) findSilentDevices() {
	devices := map[uint64]device{} // key: a hash of destination and name, which saves memory
	seed := maphash.MakeSeed()
	for n, h := range f.hosts {
		for i := range h.clients.entries {
			var name maphash.Hash
			name.SetSeed(seed)
			_, _ = name.WriteString(h.Destination)
			_ = name.WriteByte(0)
			_, _ = name.WriteString(h.clients.name(i))
			sum := name.Sum64()
			d := device{uint32(n), uint32(i)}
			if other, known := devices[sum]; !known || f.isMoreRecent(d, other) {
				devices[sum] = d
			}
		}
	}
	for _, d := range devices {
		h := f.hosts[d.host]
		silent := f.silentFor(d)
		if silent <= f.DeviceSilentFor || h.silent || !h.representsNode {
			continue
		}
		found := Device{Name: strings.Clone(h.clients.name(int(d.client))), SilentSeconds: int64(silent.Seconds())}
		if last := h.clients.entries[d.client].lastSeen; last != neverSeen {
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

// isMoreRecent reports whether d counts instead of other, which has the same name. The device
// that was seen last counts. If neither was seen, the one on the host that has waited longest
// counts.
func (f *fleet) isMoreRecent(d, other device) bool {
	seen, otherSeen := f.lastSeen(d) != neverSeen, f.lastSeen(other) != neverSeen
	if seen != otherSeen {
		return seen
	}
	return seen == (f.silentFor(d) < f.silentFor(other))
}

func (f *fleet) lastSeen(d device) int64 { return f.hosts[d.host].clients.entries[d.client].lastSeen }

// silentFor returns how long a client of a host has sent nothing, as of now.
func (f *fleet) silentFor(d device) time.Duration {
	b := f.hosts[d.host].Heartbeat
	silentThen := b.RunDuration()
	if last := f.lastSeen(d); last != neverSeen {
		silentThen = min(b.At.Sub(time.Unix(last, 0)), bucket.MaxAge)
	}
	return f.Now.Sub(receivedAt(b)) + silentThen
}
