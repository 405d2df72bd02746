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
	Trouble Kind = "trouble" // wrong: its heartbeat names what fails

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
		Nothing, Absent, Silent, Gone, Missing, Overdue, Forked, Doubled, Conflicting, Trouble, Damaged, Unreadable,
		Unheard, Fine, Retired, Replaced, Away,
	}
}

// Host is a log, by its heartbeat, and by its objects if they were audited; or an
// expected node of which there is nothing, a heartbeat that can't be read, or a
// destination with none.
type Host struct {
	State Kind   `json:"state"` // the worst of what is wrong, or what else it is
	Wrong []Kind `json:"wrong"` // the worst first
	Node  string `json:"node,omitempty"`
	LogID string `json:"log_id,omitempty"`
	// HeardSeconds is the age of the heartbeat, negative if it is from the future; nil:
	// there is none.
	HeardSeconds *int64 `json:"heard_seconds_ago"`
	// WaitingSeconds is how old the oldest record is by now that was not shipped at the time
	// of the heartbeat; nil: there was none, or it is not known.
	WaitingSeconds *int64            `json:"waiting_seconds"`
	Heartbeat      *bucket.Heartbeat `json:"heartbeat"`
	Found          map[Kind]Tally    `json:"found,omitempty"` // by an audit of its objects
	Key            string            `json:"key,omitempty"`   // of what can't be read
	Reason         string            `json:"reason,omitempty"`
	Destination    string            `json:"destination,omitempty"` // where there are several

	silent bool
}

// OutOfService reports whether the host is of the past, and left nothing open.
func (h *Host) OutOfService() bool {
	return (h.State == Retired || h.State == Away) && (h.Heartbeat == nil || h.Heartbeat.Pending == 0)
}

// judge says what each host is, once all are known.
func (f *fleet) judge() {
	latest := map[string]*Host{} // by node: one that was heard of, or the one that was heard of last
	there := map[string]bool{}
	for _, h := range f.hosts {
		there[h.Node] = true
		if h.Heartbeat == nil {
			continue
		}
		age := f.Now.Sub(h.Heartbeat.At)
		h.silent = age > f.SilentAfter || age < -f.SilentAfter
		h.HeardSeconds = seconds(age)
		if h.Heartbeat.Pending > 0 {
			h.WaitingSeconds = seconds(f.Now.Sub(h.Heartbeat.OldestAt()))
		}
		was := latest[h.Node]
		if was == nil || was.silent && !h.silent || was.silent == h.silent && tellsMore(h.Heartbeat.At, was.Heartbeat.At, f.Now) {
			latest[h.Node] = h
		}
	}
	expected := map[string]bool{}
	for _, node := range f.Expected {
		expected[node] = true
	}
	f.destination = ""
	there[f.Node] = there[f.Node] || len(f.hosts) > 0 // by a name that it had
	for _, node := range append(slices.Sorted(maps.Keys(expected)), f.Node) {
		if there[node] || node == "" {
			continue
		}
		there[node] = true
		why := "no heartbeat, and no objects"
		if !f.Holes {
			why = "no heartbeat; whether there are objects was not looked for"
		}
		f.add(&Host{Node: node, Wrong: []Kind{Absent}, Reason: why})
	}
	for _, h := range f.hosts {
		if h.Heartbeat != nil {
			f.judgeHeartbeat(h, h == latest[h.Node], expected[h.Node])
		}
		slices.SortFunc(h.Wrong, func(a, b Kind) int { return cmp.Compare(rank(a), rank(b)) })
		switch {
		case len(h.Wrong) > 0:
			h.State = h.Wrong[0]
		case h.Heartbeat == nil:
			h.State = Unheard
		}
	}
}

// judgeHeartbeat says what a host is by its heartbeat. The latest of a node speaks for it.
func (f *fleet) judgeHeartbeat(h *Host, latest, expected bool) {
	b := h.Heartbeat
	h.State = Fine
	switch {
	case h.silent && !latest && !b.Retired && f.Now.Sub(b.At) <= awayAfter:
		h.State, h.Reason = Replaced, "its node was heard of since, by the heartbeat of another log"
	case b.Retired && (!expected || !latest || !h.silent):
		h.State = Retired
	case f.Now.Sub(b.At) > awayAfter && (!expected || !latest):
		h.State = Away
	case h.silent:
		h.Wrong = append(h.Wrong, Silent)
		switch {
		case b.At.After(f.Now):
			h.Reason = "its clock is ahead, so that nothing says when it was last heard of"
		case b.Retired:
			h.Reason = "it was retired: all was shipped, to take the host out of service"
		}
	}
	if b.Trouble != "" && h.State == Fine {
		h.Wrong = append(h.Wrong, Trouble)
	}
	if f.Holes || b.Pending == 0 || f.Now.Sub(b.OldestAt()) <= f.Grace {
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
