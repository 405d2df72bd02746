package audit

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"

	"collectord/shipper/bucket"
)

// States of a host, in addition to the kinds of an audit that are wrong.
const (
	Trouble  Kind = "trouble"  // wrong: its heartbeat lists failures
	Vanished Kind = "vanished" // wrong: its heartbeat counts segments that the storage has lost permanently
	Cloned   Kind = "cloned"   // wrong: another host writes the same log
	Clock    Kind = "clock"    // wrong: its clock differs greatly from the storage's
	// SilentDevice is wrong: a client has sent nothing for a long time.
	SilentDevice Kind = "device"

	Fine     Kind = "fine"
	Unheard  Kind = "unheard"  // objects, but no heartbeat
	Retired  Kind = "retired"  // everything was shipped and the host taken out of service
	Replaced Kind = "replaced" // another log has a later heartbeat of its node
	Away     Kind = "away"     // silent for so long that it counts as out of service
)

// awayAfter is how long a host is silent before it is Away.
const awayAfter = 30 * 24 * time.Hour

// States returns all states of a host, the worst first.
func States() []Kind {
	return []Kind{
		Failed, Nothing, Absent, Silent, Cloned, Gone, Missing, Vanished, Overdue, Forked, Doubled, Conflicting, Trouble, Clock, SilentDevice,
		Damaged, Unreadable,
		Unheard, Fine, Retired, Replaced, Away,
	}
}

// Host is a log, described by its heartbeat and, if audited, by its objects. It can also
// be an expected node that is absent, a heartbeat that can't be read, or a destination
// that has no heartbeat or can't be read.
type Host struct {
	State Kind   `json:"state"` // the worst of Wrong, or another state
	Wrong []Kind `json:"wrong"` // worst first
	Node  string `json:"node,omitempty"`
	LogID string `json:"log_id,omitempty"`
	// HeardSeconds is the age of the heartbeat: by the storage's clock if known, else by
	// the host's clock. It is negative for a heartbeat from the future. nil: no heartbeat.
	HeardSeconds *int64 `json:"heard_seconds_ago"`
	// ClockSeconds is how far the host's clock is ahead of the storage's; negative:
	// behind. nil: within the tolerance, or unknown.
	ClockSeconds *int64 `json:"clock_seconds,omitempty"`
	// WaitingSeconds is the current age of the oldest record that was not shipped at the
	// time of the heartbeat. nil: there was none, or it is unknown.
	WaitingSeconds *int64            `json:"waiting_seconds"`
	Heartbeat      *bucket.Heartbeat `json:"heartbeat"`
	Found          map[Kind]Tally    `json:"found,omitempty"` // findings of an audit of its objects
	Key            string            `json:"key,omitempty"`   // key of the object that can't be read
	Reason         string            `json:"reason,omitempty"`
	Destination    string            `json:"destination,omitempty"` // set if there are several destinations
	SilentDevices  []Device          `json:"silent_devices,omitempty"`

	silent         bool
	representsNode bool // in service, and its heartbeat represents its node
	clients        clients
}

// addReason adds a reason for the host's state.
func (h *Host) addReason(reason string) {
	if h.Reason != "" {
		reason = h.Reason + "; " + reason
	}
	h.Reason = reason
}

// OutOfService reports whether the host is Retired or Away and has no pending records.
func (h *Host) OutOfService() bool {
	return (h.State == Retired || h.State == Away) && (h.Heartbeat == nil || h.Heartbeat.Pending == 0)
}

// nodeID identifies a host: node names are unique only within a destination.
type nodeID struct{ destination, node string }

func (h *Host) nodeID() nodeID { return nodeID{h.Destination, h.Node} }

// receivedAt returns when a heartbeat was received: by the storage's clock if known, since
// the clocks of hosts may be wrong, else by the host's clock.
func receivedAt(b *bucket.Heartbeat) time.Time {
	if b.Stored.IsZero() {
		return b.At
	}
	return b.Stored
}

// setStates sets the state of each host. It needs the hosts of all destinations.
func (f *fleet) setStates() {
	latest := map[nodeID]*Host{} // per node: the host with the latest heartbeat; one that is not silent wins
	latestAnywhere := map[string]*Host{}
	known := map[string]bool{}
	for _, h := range f.hosts {
		known[h.Node] = true
		b := h.Heartbeat
		if b == nil {
			continue
		}
		age := f.Now.Sub(receivedAt(b))
		h.silent = age > b.Interval()+f.SilentFor || age < -f.SilentFor
		h.HeardSeconds = seconds(age)
		if b.Pending > 0 {
			h.WaitingSeconds = seconds(f.oldestAge(b))
		}
		latest[h.nodeID()] = f.moreRecent(h, latest[h.nodeID()])
		latestAnywhere[h.Node] = f.moreRecent(h, latestAnywhere[h.Node])
	}
	expected := map[string]bool{}
	for _, node := range f.Expected {
		expected[node] = true
	}
	f.destination = ""
	known[f.Node] = known[f.Node] || slices.ContainsFunc(f.hosts, func(h *Host) bool { return h.Node != "" }) // the node may have another name now
	for _, node := range append(slices.Sorted(maps.Keys(expected)), f.Node) {
		if known[node] || node == "" {
			continue
		}
		known[node] = true
		reason := "no heartbeat, and no objects"
		if !f.AuditObjects {
			reason = "no heartbeat; objects were not looked for"
		}
		if slices.ContainsFunc(f.hosts, func(h *Host) bool { return slices.Contains(h.Wrong, Failed) }) {
			reason += onlyReadableNote
		}
		f.add(&Host{Node: node, Wrong: []Kind{Absent}, Reason: reason})
	}
	f.findClones()
	for _, h := range f.hosts {
		if h.Heartbeat != nil {
			f.setState(h, h == latest[h.nodeID()], expected[h.Node] && h == latestAnywhere[h.Node])
		}
	}
	f.findSilentDevices()
	for _, h := range f.hosts {
		slices.SortFunc(h.Wrong, func(a, b Kind) int { return cmp.Compare(rank(a), rank(b)) })
		switch {
		case len(h.Wrong) > 0:
			h.State = h.Wrong[0]
		case h.Heartbeat == nil:
			h.State = Unheard
		}
	}
}

// moreRecent returns which of two hosts represents the name they share; other may be nil.
func (f *fleet) moreRecent(h, other *Host) *Host {
	if other == nil || other.silent && !h.silent ||
		other.silent == h.silent && isCloserToNow(receivedAt(h.Heartbeat), receivedAt(other.Heartbeat), f.Now) {
		return h
	}
	return other
}

// oldestAge returns the current age of the oldest record that was not shipped.
func (f *fleet) oldestAge(b *bucket.Heartbeat) time.Duration {
	return f.Now.Sub(receivedAt(b)) + b.At.Sub(b.OldestAt())
}

// setState sets a host's state by its heartbeat. latest means that the heartbeat is the latest of
// its node. expected means that the node is expected, and that the heartbeat is its latest in any
// destination.
func (f *fleet) setState(h *Host, latest, expected bool) {
	b := h.Heartbeat
	age := f.Now.Sub(receivedAt(b))
	h.State = Fine
	switch {
	case h.silent && !latest && !b.Retired && age <= awayAfter:
		h.State = Replaced
		h.addReason("its node has written a later heartbeat, of another log")
	case b.Retired && (!expected || !h.silent):
		h.State = Retired
	case age > awayAfter && !expected:
		h.State = Away
		if b.Stored.IsZero() {
			h.addReason("the host is away, or its clock is behind")
		}
	case h.silent:
		h.Wrong = append(h.Wrong, Silent)
		switch {
		case receivedAt(b).After(f.Now):
			h.addReason("its clock is ahead, so the time of its last heartbeat is unknown")
		case b.Retired:
			h.addReason("it was retired: everything was shipped, to take the host out of service")
		case b.Stored.IsZero():
			h.addReason("the host is away, or its clock is behind")
		}
	}
	if h.State == Fine {
		h.representsNode = true
		if len(b.Trouble) > 0 {
			h.Wrong = append(h.Wrong, Trouble)
		}
		if b.Vanished > 0 {
			h.Wrong = append(h.Wrong, Vanished)
		}
		if off := b.At.Sub(receivedAt(b)); off.Abs() > f.SilentFor {
			h.Wrong = append(h.Wrong, Clock)
			h.ClockSeconds = seconds(off)
		}
	}
	if f.AuditObjects || b.Pending == 0 || f.oldestAge(b) <= f.Grace {
		return
	}
	waiting := Finding{Kind: Overdue, LogID: h.LogID, FirstSeq: b.ConfirmedBelow, LastSeq: b.LastSeq}
	if slices.ContainsFunc(f.Accepted.split(waiting), func(part Finding) bool { return part.Accepted == nil }) {
		h.Wrong = append(h.Wrong, Overdue)
	}
}

func rank(k Kind) int { return slices.Index(States(), k) }

// seconds returns d rounded to seconds. d may come from untrusted times.
func seconds(d time.Duration) *int64 {
	n := int64(math.Round(d.Seconds()))
	return &n
}
