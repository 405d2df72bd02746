package admin

import (
	"time"

	"collectord/collectord/auth"
)

// MonitorOptions configures a Monitor. All functions are required, and must be safe for
// concurrent use.
type MonitorOptions struct {
	Version string
	Node    string
	Began   time.Time // when the daemon started

	Snapshot func() (Snapshot, bool) // false while the daemon has no figures yet
	Ready    func() []string         // why the daemon should get no traffic; empty if it should
	Troubles func() []Trouble
	PutAside func() []PutAside
}

// Monitor reports the Status of the daemon.
type Monitor struct {
	opts MonitorOptions
	past *lookBack
	hour *history
}

// NewMonitor returns a Monitor. Its rates cover the time since the start of the daemon,
// until Run takes samples.
func NewMonitor(o MonitorOptions) *Monitor {
	return &Monitor{o, newLookBack(o.Began), newHistory(o.Began)}
}

// Run takes a sample every 10 seconds, until done is closed.
func (m *Monitor) Run(done <-chan struct{}) {
	tick := time.NewTicker(sampleInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if s, ok := m.opts.Snapshot(); ok {
				s.Clients = auth.ClientCounts{} // the list may be long, and samples don't need it
				now := sample{time.Now(), s}
				m.past.add(now)
				m.hour.add(now)
			}
		case <-done:
			return
		}
	}
}

// Status returns the current state of the daemon.
func (m *Monitor) Status() Status {
	snapshot, known := m.opts.Snapshot()
	now := sample{time.Now(), snapshot}
	s := figures(now, m.past.before(now.at, window), m.past.before(now.at, sampleInterval))
	s.Version, s.Node, s.At, s.Since = m.opts.Version, m.opts.Node, now.at, m.opts.Began
	s.Unready, s.Troubles, s.PutAside = orEmpty(m.opts.Ready()), orEmpty(m.opts.Troubles()), orEmpty(m.opts.PutAside())
	s.PutAsideKnown = max(snapshot.Log.PutAside, len(s.PutAside))
	for i, why := range s.Unready {
		s.Unready[i] = printable(why)
	}
	for i := range s.Troubles {
		t := &s.Troubles[i]
		t.Name, t.Message, t.Error, t.Advice = printable(t.Name), printable(t.Message), printable(t.Error), printable(t.Advice)
	}
	for i := range s.PutAside {
		p := &s.PutAside[i]
		p.Path, p.Reason = printable(p.Path), printable(p.Reason)
	}
	s.judge(known)
	return s
}

// Page returns the current content of the status page.
func (m *Monitor) Page() Page { return Page{m.Status(), m.hour.hour()} }

// orEmpty replaces nil by an empty list, because JSON encodes nil as null.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// Line summarizes the Status in one line: problems, backlog, and rates of incoming
// usages.
func (m *Monitor) Line() string {
	s := m.Status()
	return s.line()
}
