package audit

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"collectord/shipper/bucket"
)

// FleetOptions configures RunFleet. The zero value of each field means its default.
type FleetOptions struct {
	AuditObjects bool // also audit the objects; default: read only heartbeats
	// SilentFor is how long a host may be silent after the time at which its next
	// heartbeat was due; default 15 min.
	SilentFor time.Duration
	// DeviceSilentFor is how long a client of a host may be silent; default 24 h,
	// negative: unlimited.
	DeviceSilentFor time.Duration
	Grace           time.Duration // how long a record may wait for upload; default 24 h
	Now             time.Time     // default: now
	Node            string        // report only logs of this node; default: all
	Expected        []string      // nodes that must exist
	Accepted        *Accepted     // accepted incidents; default: none
	// Progress is called from several goroutines with the number of heartbeats read. With
	// AuditObjects it is then called with the number of objects listed in a destination.
	Progress func(heartbeats, objects int)

	maxDevices int64 // limit of clients kept in memory
}

// Fleet is the report of all hosts.
type Fleet struct {
	Hosts         []*Host // worst state first, then by node
	Heartbeats    int     // number of readable heartbeats
	Objects       int     // number of audited objects
	UnjudgedHosts int     // hosts whose clients exceed the memory limit; their silent clients are not reported
	Count         map[Kind]int
}

// Wrong reports whether any host needs attention.
func (f *Fleet) Wrong() bool {
	return slices.ContainsFunc(f.Hosts, func(h *Host) bool { return len(h.Wrong) > 0 })
}

// Failed returns the destinations that could not be read, with the reason.
func (f *Fleet) Failed() (all []*Host) {
	for _, h := range f.Hosts {
		if h.State == Failed {
			all = append(all, h)
		}
	}
	return all
}

// Nodes returns the number of different nodes, without those that are absent.
func (f *Fleet) Nodes() int {
	nodes := map[nodeID]bool{}
	for _, h := range f.Hosts {
		if h.Node != "" && h.State != Absent {
			nodes[h.nodeID()] = true
		}
	}
	return len(nodes)
}

// RunFleet reports the state of each host from the heartbeats in the destinations. With
// AuditObjects it also audits the objects as Run does. A destination that can't be read is part
// of the report if there are several destinations, and an error if it is the only one.
//
// RunFleet takes about 1 KiB of memory per host, plus the memory of Run, plus at most 20
// MiB for all devices.
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
			err = inRow.try(func() error { return f.addDestination(ctx, store, all[i].heartbeats) })
		}
		if err != nil && (len(stores) == 1 || ctx.Err() != nil) {
			return nil, err
		}
		if err != nil {
			f.add(&Host{Wrong: []Kind{failureKind(err)}, Reason: errorText(err)})
		}
	}
	f.setStates()
	return f.report(), nil
}

// fleet is the state of a running RunFleet.
type fleet struct {
	FleetOptions
	destination   string // the current destination; empty: the only one
	hosts         []*Host
	heartbeats    int
	objects       int
	unjudgedHosts int
}

func (f *fleet) add(h *Host) *Host {
	h.Destination = f.destination
	f.hosts = append(f.hosts, h)
	return h
}

// addDestination adds the hosts of a destination.
func (f *fleet) addDestination(ctx context.Context, store bucket.Store, heartbeats []storedHeartbeat) error {
	before := len(f.hosts)
	logs := f.addHeartbeats(heartbeats)
	if f.AuditObjects {
		r, err := Run(ctx, store, Options{
			Grace: f.Grace, Now: f.Now, Node: f.Node, Accepted: f.Accepted,
			Progress: func(objects, _ int) { f.Progress(f.heartbeats, objects) },
		})
		if err != nil {
			return err
		}
		f.addAudit(r, logs)
	}
	if len(f.hosts) > before || f.Node != "" {
		return nil
	}
	filled, err := hasObjects(ctx, store)
	if err != nil {
		return err
	}
	if filled {
		f.add(&Host{Reason: "objects, but no heartbeat: an audit shows which hosts wrote them"})
	} else {
		f.add(&Host{Wrong: []Kind{Nothing}, Reason: "neither heartbeats nor objects under " + store.String()})
	}
	return nil
}

// addHeartbeats adds the hosts that wrote the heartbeats. It returns, by log, the host
// that was heard of last. For a host that was renamed, the latest heartbeat counts.
func (f *fleet) addHeartbeats(all []storedHeartbeat) (logs map[string]*Host) {
	logs = map[string]*Host{}
	var bad []*Host
	slices.SortStableFunc(all, func(a, b storedHeartbeat) int { return receivedAt(&a.Heartbeat).Compare(receivedAt(&b.Heartbeat)) })
	for i := range all {
		h := &all[i]
		if h.deleted {
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
		if h.clientsSkipped {
			f.unjudgedHosts++
		}
		switch host := logs[id]; {
		case host == nil || areClones(host.Heartbeat, &h.Heartbeat):
			logs[id] = f.add(&Host{Node: h.Node, LogID: id, Heartbeat: &h.Heartbeat, clients: h.clients})
		case isCloserToNow(receivedAt(&h.Heartbeat), receivedAt(host.Heartbeat), f.Now):
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

// addAudit adds the findings of an audit to the hosts. It also adds the hosts without a
// heartbeat, and damaged objects that belong to no log.
func (f *fleet) addAudit(r *Report, logs map[string]*Host) {
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

// hasObjects reports whether a destination contains objects.
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
	r := &Fleet{Hosts: f.hosts, Heartbeats: f.heartbeats, Objects: f.objects, UnjudgedHosts: f.unjudgedHosts, Count: map[Kind]int{}}
	for _, h := range f.hosts {
		if len(h.Wrong) == 0 {
			h.Wrong = []Kind{} // [] in JSON, not null
			r.Count[h.State]++
		}
		for _, k := range h.Wrong {
			r.Count[k]++
		}
	}
	return r
}
