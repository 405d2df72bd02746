package audit

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"

	"collectord/shipper/bucket"
)

// What a host can be, beside the kinds of an audit that are wrong.
const (
	Trouble  Kind = "trouble"  // wrong: its heartbeat names what fails
	Vanished Kind = "vanished" // wrong: its heartbeat counts segments that the storage has lost for good
	Cloned   Kind = "cloned"   // wrong: another host writes the same log
	Clock    Kind = "clock"    // wrong: its clock is far from the storage's
	// SilentDevice is wrong: a client from which nothing has come for long.
	SilentDevice Kind = "device"

	Fine     Kind = "fine"
	Unheard  Kind = "unheard"  // objects, and no heartbeat
	Retired  Kind = "retired"  // all was shipped, to take it out of service
	Replaced Kind = "replaced" // its node was heard of later, by the heartbeat of another log
	Away     Kind = "away"     // silent for so long that it is taken to be out of service
)

// awayAfter is how long a host is silent before it is Away.
const awayAfter = 30 * 24 * time.Hour

// States are all that a host can be, the worst first.
func States() []Kind {
	return []Kind{
		Failed, Nothing, Absent, Silent, Cloned, Gone, Missing, Vanished, Overdue, Forked, Doubled, Conflicting, Trouble, Clock, SilentDevice,
		Damaged, Unreadable,
		Unheard, Fine, Retired, Replaced, Away,
	}
}

// Host is a log, by its heartbeat, and by its objects if they were audited; or an
// expected node of which there is nothing, a heartbeat that can't be read, or a
// destination with none, or that can't be read.
type Host struct {
	State Kind   `json:"state"` // the worst of what is wrong, or what else it is
	Wrong []Kind `json:"wrong"` // the worst first
	Node  string `json:"node,omitempty"`
	LogID string `json:"log_id,omitempty"`
	// HeardSeconds is the age of the heartbeat, by the storage's clock if that is known, else
	// by the host's: then it is negative if it is from the future. nil: there is none.
	HeardSeconds *int64 `json:"heard_seconds_ago"`
	// ClockSeconds is how far the host's clock is ahead of the storage's, negative: behind;
	// nil: no more than it may be, or it is not known.
	ClockSeconds *int64 `json:"clock_seconds,omitempty"`
	// WaitingSeconds is how old the oldest record is by now that was not shipped at the time
	// of the heartbeat; nil: there was none, or it is not known.
	WaitingSeconds *int64            `json:"waiting_seconds"`
	Heartbeat      *bucket.Heartbeat `json:"heartbeat"`
	Found          map[Kind]Tally    `json:"found,omitempty"` // by an audit of its objects
	Key            string            `json:"key,omitempty"`   // of what can't be read
	Reason         string            `json:"reason,omitempty"`
	Destination    string            `json:"destination,omitempty"` // where there are several
	SilentDevices  []Device          `json:"silent_devices,omitempty"`

	silent  bool
	speaks  bool // it is in service, and its heartbeat counts
	clients clients
}

// because adds a reason for what the host is.
func (h *Host) because(reason string) {
	if h.Reason != "" {
		reason = h.Reason + "; " + reason
	}
	h.Reason = reason
}

// OutOfService reports whether the host is of the past, and left nothing open.
func (h *Host) OutOfService() bool {
	return (h.State == Retired || h.State == Away) && (h.Heartbeat == nil || h.Heartbeat.Pending == 0)
}

// nodeOf is the name of a host: each destination has names of its own.
type nodeOf struct{ destination, node string }

func (h *Host) nodeOf() nodeOf { return nodeOf{h.Destination, h.Node} }

// heardAt is when the host of a heartbeat was heard of: by the storage's clock if that is
// known, since nobody sets those of all hosts right.
func heardAt(b *bucket.Heartbeat) time.Time {
	if b.Stored.IsZero() {
		return b.At
	}
	return b.Stored
}

// judge says what each host is, once all are known.
func (f *fleet) judge() {
	latest := map[nodeOf]*Host{} // one that was heard of, or the one that was heard of last
	anywhere := map[string]*Host{}
	there := map[string]bool{}
	for _, h := range f.hosts {
		there[h.Node] = true
		b := h.Heartbeat
		if b == nil {
			continue
		}
		age := f.Now.Sub(heardAt(b))
		h.silent = age > b.Due()+f.SilentFor || age < -f.SilentFor
		h.HeardSeconds = seconds(age)
		if b.Pending > 0 {
			h.WaitingSeconds = seconds(f.waiting(b))
		}
		latest[h.nodeOf()] = f.later(h, latest[h.nodeOf()])
		anywhere[h.Node] = f.later(h, anywhere[h.Node])
	}
	expected := map[string]bool{}
	for _, node := range f.Expected {
		expected[node] = true
	}
	f.destination = ""
	there[f.Node] = there[f.Node] || slices.ContainsFunc(f.hosts, func(h *Host) bool { return h.Node != "" }) // by a name that it had
	for _, node := range append(slices.Sorted(maps.Keys(expected)), f.Node) {
		if there[node] || node == "" {
			continue
		}
		there[node] = true
		why := "no heartbeat, and no objects"
		if !f.Holes {
			why = "no heartbeat; whether there are objects was not looked for"
		}
		if slices.ContainsFunc(f.hosts, func(h *Host) bool { return slices.Contains(h.Wrong, Failed) }) {
			why += notAllRead
		}
		f.add(&Host{Node: node, Wrong: []Kind{Absent}, Reason: why})
	}
	f.findClones()
	for _, h := range f.hosts {
		if h.Heartbeat != nil {
			f.judgeHeartbeat(h, h == latest[h.nodeOf()], expected[h.Node] && h == anywhere[h.Node])
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

// later is which of two hosts speaks for a name that they have; the other can be nil.
func (f *fleet) later(h, other *Host) *Host {
	if other == nil || other.silent && !h.silent ||
		other.silent == h.silent && tellsMore(heardAt(h.Heartbeat), heardAt(other.Heartbeat), f.Now) {
		return h
	}
	return other
}

// waiting is how old the oldest record is by now that was not shipped.
func (f *fleet) waiting(b *bucket.Heartbeat) time.Duration {
	return f.Now.Sub(heardAt(b)) + b.At.Sub(b.OldestAt())
}

// judgeHeartbeat says what a host is by its heartbeat. The latest of a node speaks for it,
// and for a node that is expected the latest in any destination.
func (f *fleet) judgeHeartbeat(h *Host, latest, expected bool) {
	b := h.Heartbeat
	age := f.Now.Sub(heardAt(b))
	h.State = Fine
	switch {
	case h.silent && !latest && !b.Retired && age <= awayAfter:
		h.State = Replaced
		h.because("its node was heard of since, by the heartbeat of another log")
	case b.Retired && (!expected || !h.silent):
		h.State = Retired
	case age > awayAfter && !expected:
		h.State = Away
		if b.Stored.IsZero() {
			h.because("the host is away, or its clock is behind")
		}
	case h.silent:
		h.Wrong = append(h.Wrong, Silent)
		switch {
		case heardAt(b).After(f.Now):
			h.because("its clock is ahead, so that nothing says when it was last heard of")
		case b.Retired:
			h.because("it was retired: all was shipped, to take the host out of service")
		case b.Stored.IsZero():
			h.because("the host is away, or its clock is behind")
		}
	}
	if h.State == Fine {
		h.speaks = true
		if len(b.Trouble) > 0 {
			h.Wrong = append(h.Wrong, Trouble)
		}
		if b.Vanished > 0 {
			h.Wrong = append(h.Wrong, Vanished)
		}
		if off := b.At.Sub(heardAt(b)); off.Abs() > f.SilentFor {
			h.Wrong = append(h.Wrong, Clock)
			h.ClockSeconds = seconds(off)
		}
	}
	if f.Holes || b.Pending == 0 || f.waiting(b) <= f.Grace {
		return
	}
	waiting := Finding{Kind: Overdue, LogID: h.LogID, FirstSeq: b.ConfirmedBelow, LastSeq: b.LastSeq}
	if slices.ContainsFunc(f.Accepted.split(waiting), func(part Finding) bool { return part.Accepted == nil }) {
		h.Wrong = append(h.Wrong, Overdue)
	}
}

func rank(k Kind) int { return slices.Index(States(), k) }

// seconds of a time that strangers may have written.
func seconds(d time.Duration) *int64 {
	n := int64(math.Round(d.Seconds()))
	return &n
}
