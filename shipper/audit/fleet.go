package audit

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"collectord/shipper/bucket"
)

// FleetOptions are what RunFleet looks for. The zero value of each field stands for its
// default.
type FleetOptions struct {
	Holes bool // audit the objects, too; default: heartbeats alone are read
	// SilentFor is how long a host may be silent after the time by which it announced its
	// next heartbeat; default 15 min.
	SilentFor time.Duration
	// DeviceSilentFor is how long a client of a host may be silent; default 24 h, negative:
	// for ever.
	DeviceSilentFor time.Duration
	Grace           time.Duration // how long a record may wait; default 24 h
	Now             time.Time     // default: now
	Node            string        // logs of this node only; default: all
	Expected        []string      // nodes that must be there
	Accepted        *Accepted     // incidents that are known; default: none
	// Progress is called with how many heartbeats were read, from several goroutines, and
	// then, with holes, with how many objects are listed of a destination.
	Progress func(heartbeats, objects int)

	maxDevices int64 // that are kept in memory
}

// Fleet is what is known of all hosts.
type Fleet struct {
	Hosts      []*Host // what is wrong first, then by node
	Heartbeats int     // that could be read
	Objects    int     // that were audited
	Unjudged   int     // hosts with more clients than are kept in memory: none of theirs is named
	Count      map[Kind]int
}

// Wrong reports whether there is anything to look into.
func (f *Fleet) Wrong() bool {
	return slices.ContainsFunc(f.Hosts, func(h *Host) bool { return len(h.Wrong) > 0 })
}

// Failed returns the destinations of which nothing is known, and why.
func (f *Fleet) Failed() (all []*Host) {
	for _, h := range f.Hosts {
		if h.State == Failed {
			all = append(all, h)
		}
	}
	return all
}

// Nodes is how many different nodes there are; those that are only expected are not.
func (f *Fleet) Nodes() int {
	nodes := map[nodeOf]bool{}
	for _, h := range f.Hosts {
		if h.Node != "" && h.State != Absent {
			nodes[h.nodeOf()] = true
		}
	}
	return len(nodes)
}

// RunFleet reports, from the heartbeats in the destinations, how each host is; with
// holes, it audits the objects, too, as Run does. One of several destinations that can't
// be read is among what is wrong, and the others are reported on.
//
// It takes about 1 KiB of memory for a host, beside what Run takes, and 20 MiB at most for
// all devices.
func RunFleet(ctx context.Context, stores []bucket.Store, o FleetOptions) (*Fleet, error) {
	if o.SilentFor == 0 {
		o.SilentFor = 15 * time.Minute
	}
	if o.DeviceSilentFor == 0 {
		o.DeviceSilentFor = 24 * time.Hour
	}
	if o.maxDevices == 0 {
		o.maxDevices = maxDevices
	}
	if o.Grace == 0 {
		o.Grace = 24 * time.Hour
	}
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	if o.Progress == nil {
		o.Progress = func(int, int) {}
	}
	all, err := readAllHeartbeats(ctx, stores, &o)
	if err != nil {
		return nil, err
	}
	f := &fleet{FleetOptions: o}
	var inRow failedInRow
	for i, store := range stores {
		f.destination = ""
		if len(stores) > 1 {
			f.destination = store.String()
		}
		err := all[i].err
		if err == nil {
			err = inRow.try(func() error { return f.enter(ctx, store, all[i].heartbeats) })
		}
		if err != nil && (len(stores) == 1 || ctx.Err() != nil) {
			return nil, err
		}
		if err != nil {
			f.add(&Host{Wrong: []Kind{failure(err)}, Reason: why(err)})
		}
	}
	f.judge()
	return f.report(), nil
}

// fleet is what is known so far.
type fleet struct {
	FleetOptions
	destination string // the one that is entered; empty: the only one
	hosts       []*Host
	heartbeats  int
	objects     int
	unjudged    int
}

func (f *fleet) add(h *Host) *Host {
	h.Destination = f.destination
	f.hosts = append(f.hosts, h)
	return h
}

// enter adds the hosts of a destination.
func (f *fleet) enter(ctx context.Context, store bucket.Store, heartbeats []storedHeartbeat) error {
	before := len(f.hosts)
	logs := f.enterHeartbeats(heartbeats)
	if f.Holes {
		r, err := Run(ctx, store, Options{
			Grace: f.Grace, Now: f.Now, Node: f.Node, Accepted: f.Accepted,
			Progress: func(objects, _ int) { f.Progress(f.heartbeats, objects) },
		})
		if err != nil {
			return err
		}
		f.enterAudit(r, logs)
	}
	if len(f.hosts) > before || f.Node != "" {
		return nil
	}
	filled, err := hasObjects(ctx, store)
	if err != nil {
		return err
	}
	if filled {
		f.add(&Host{Reason: "objects, and no heartbeat: which hosts wrote them, an audit says"})
	} else {
		f.add(&Host{Wrong: []Kind{Nothing}, Reason: "neither heartbeats nor objects under " + store.String()})
	}
	return nil
}

// enterHeartbeats adds the hosts that wrote the heartbeats, and returns, by log, the one
// that was heard of last. Of a host that was renamed the latest counts.
func (f *fleet) enterHeartbeats(all []storedHeartbeat) (logs map[string]*Host) {
	logs = map[string]*Host{}
	var bad []*Host
	slices.SortStableFunc(all, func(a, b storedHeartbeat) int { return heardAt(&a.Heartbeat).Compare(heardAt(&b.Heartbeat)) })
	for i := range all {
		h := &all[i]
		if h.gone {
			continue
		}
		id := bucket.HexID(h.key.LogID)
		if h.problem != "" {
			one := &Host{Node: h.key.Node, LogID: id, Key: h.key.HeartbeatKey(), Reason: h.problem, Wrong: []Kind{Damaged}}
			if h.unreadable {
				one.Wrong[0] = Unreadable
			}
			bad = append(bad, one)
			continue
		}
		f.heartbeats++
		if h.unjudged {
			f.unjudged++
		}
		switch host := logs[id]; {
		case host == nil || areTwo(host.Heartbeat, &h.Heartbeat):
			logs[id] = f.add(&Host{Node: h.Node, LogID: id, Heartbeat: &h.Heartbeat, clients: h.clients})
		case tellsMore(heardAt(&h.Heartbeat), heardAt(host.Heartbeat), f.Now):
			host.Node, host.Heartbeat, host.clients = h.Node, &h.Heartbeat, h.clients
		}
	}
	for _, one := range bad {
		if f.add(one); logs[one.LogID] == nil {
			logs[one.LogID] = one
		}
	}
	return logs
}

// enterAudit adds what an audit found to the hosts, those without a heartbeat, and what
// is among the objects of none.
func (f *fleet) enterAudit(r *Report, logs map[string]*Host) {
	f.objects += r.Objects
	for i := range r.Logs {
		l := &r.Logs[i]
		host := logs[l.LogID]
		if host == nil {
			host = f.add(&Host{Node: l.Nodes[len(l.Nodes)-1], LogID: l.LogID, Heartbeat: l.Heartbeat})
		}
		host.Found = l.Found
		for kind := range l.Found {
			if kind.Wrong() {
				host.Wrong = append(host.Wrong, kind)
			}
		}
	}
	for i := range r.Findings {
		if found := &r.Findings[i]; found.LogID == "" && found.Kind == Damaged {
			f.add(&Host{Wrong: []Kind{Damaged}, Key: found.Keys[0], Reason: found.Reason})
		}
	}
}

// hasObjects reports whether there are objects in a destination.
func hasObjects(ctx context.Context, store bucket.Store) (found bool, err error) {
	err = bucket.Retry(ctx, func() error {
		for key, err := range store.List(ctx, bucket.DataPrefix) {
			if found = err == nil && strings.HasSuffix(key, bucket.Suffix); err != nil || found {
				return err
			}
		}
		return nil
	})
	return found, err
}

func (f *fleet) report() *Fleet {
	slices.SortStableFunc(f.hosts, func(a, b *Host) int {
		return cmp.Or(cmp.Compare(rank(a.State), rank(b.State)), cmp.Compare(a.Node, b.Node), cmp.Compare(a.LogID, b.LogID), cmp.Compare(a.Key, b.Key))
	})
	r := &Fleet{Hosts: f.hosts, Heartbeats: f.heartbeats, Objects: f.objects, Unjudged: f.unjudged, Count: map[Kind]int{}}
	for _, h := range f.hosts {
		if len(h.Wrong) == 0 {
			h.Wrong = []Kind{} // not null in JSON
			r.Count[h.State]++
		}
		for _, k := range h.Wrong {
			r.Count[k]++
		}
	}
	return r
}
