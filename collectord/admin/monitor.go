package admin

import (
	"time"

	"collectord/collectord/auth"
)

// MonitorOptions are what a Monitor asks. All functions are required and must be safe to
// call at any time.
type MonitorOptions struct {
	Version string
	Node    string
	Began   time.Time // when the daemon started

	Snapshot func() (Snapshot, bool) // false while there is nothing to report yet
	Ready    func() []string         // why the daemon should get no traffic; none if it should
	Troubles func() []Trouble
	PutAside func() []PutAside
}

// Monitor reports the Status of the daemon.
type Monitor struct {
	opts MonitorOptions
	past *lookBack
	hour *history
}

// NewMonitor makes one. Its rates are those since the start until Run is called.
func NewMonitor(o MonitorOptions) *Monitor {
	return &Monitor{o, newLookBack(o.Began), newHistory(o.Began)}
}

// Run takes a sample every 10 seconds until done is closed.
func (m *Monitor) Run(done <-chan struct{}) {
	tick := time.NewTicker(sampleInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if s, ok := m.opts.Snapshot(); ok {
				s.Clients = auth.ClientCounts{} // there may be many, and nobody asks what was
				now := sample{time.Now(), s}
				m.past.add(now)
				m.hour.add(now)
			}
		case <-done:
			return
		}
	}
}

// Status returns what the daemon does now.
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

// Page returns what the status page shows now.
func (m *Monitor) Page() Page { return Page{m.Status(), m.hour.hour()} }

// orEmpty makes an empty list of none, which JSON writes as null.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// Line sums up the Status for a status line: what is wrong, what comes in, what waits.
func (m *Monitor) Line() string {
	s := m.Status()
	return s.line()
}
