package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"collectord/shipper/bucket"
)

// maxHeartbeats limits how many heartbeats of one destination are read.
const maxHeartbeats = 100_000

// storedHeartbeat is a heartbeat in the bucket, or the reason why it can't be read.
type storedHeartbeat struct {
	bucket.Heartbeat
	key            bucket.Key
	problem        string
	unreadable     bool // the storage caused the problem
	deleted        bool
	clients        clients // clients of the heartbeat, for the fleet
	clientsSkipped bool    // its clients exceed the memory limit
}

// readHeartbeats reads all heartbeats. It runs before the listing, so that the listing
// contains everything the heartbeats confirm.
func readHeartbeats(ctx context.Context, calls *objectCalls) ([]storedHeartbeat, error) {
	all, err := listHeartbeats(ctx, calls.store)
	if err != nil {
		return nil, err
	}
	err = bucket.Parallel(ctx, len(all), func(i int) error {
		err := all[i].read(ctx, calls)
		all[i].Clients = nil // there can be many
		return err
	})
	return all, err
}

// listHeartbeats lists the heartbeats without reading them.
func listHeartbeats(ctx context.Context, store bucket.Store) (all []storedHeartbeat, err error) {
	err = bucket.Retry(ctx, func() error {
		all = all[:0]
		for key, err := range store.List(ctx, bucket.HeartbeatPrefix) {
			if err != nil {
				return err
			}
			k, ok := bucket.ParseHeartbeatKey(key)
			if ok && len(all) == maxHeartbeats {
				return fmt.Errorf("more than %d heartbeats under %s: delete those of hosts that are gone", maxHeartbeats, bucket.HeartbeatPrefix)
			}
			if ok {
				all = append(all, storedHeartbeat{key: k})
			}
		}
		return nil
	})
	return all, err
}

// read reads the heartbeat. A problem of this heartbeat alone is stored in h; an error is
// a failure of the storage.
func (h *storedHeartbeat) read(ctx context.Context, calls *objectCalls) error {
	objectErr, err := calls.do(ctx, h.key.HeartbeatKey(), func(ctx context.Context) (err error) {
		h.Heartbeat, err = bucket.ReadHeartbeat(ctx, calls.store, h.key)
		return err
	})
	var damage *bucket.Damage
	switch {
	case objectErr == nil:
	case errors.Is(objectErr, bucket.ErrNotFound):
		h.deleted = true
	case errors.As(objectErr, &damage):
		h.problem = damage.Err.Error()
	default:
		h.problem, h.unreadable = errorText(objectErr), true
	}
	return err
}

// isCloserToNow reports whether at is closer to now than other. Of two heartbeats at these times,
// the closer one counts. A heartbeat that was written while the clock was far ahead must not
// count, since it is never replaced once the host is renamed or has a new log.
func isCloserToNow(at, other, now time.Time) bool { return now.Sub(at).Abs() < now.Sub(other).Abs() }

// addHeartbeats adds the heartbeats to their logs. If a host was renamed, the latest
// heartbeat counts.
func (a *audit) addHeartbeats(all []storedHeartbeat) {
	for i := range all {
		h := &all[i]
		switch {
		case h.deleted, h.unreadable: // reported by objectCalls
			continue
		case h.problem != "":
			a.add(Finding{Kind: Foreign, Keys: []string{h.key.HeartbeatKey()}, Reason: h.problem})
			continue
		}
		a.report.Heartbeats++
		if l := a.inventory.log(h.key.LogID); l.heartbeat == nil || isCloserToNow(h.At, l.heartbeat.At, a.Now) {
			l.heartbeat = &h.Heartbeat
		}
		if last, known := a.report.LastHeard[h.Node]; !known || isCloserToNow(h.At, last.At, a.Now) {
			a.report.LastHeard[h.Node] = LastHeard{h.At, h.Retired}
		}
	}
}

// heartbeatOf returns the log's heartbeat, or nil if the heartbeat does not describe the
// run. If the run is forked, the heartbeat describes only its own run.
func (l *logObjects) heartbeatOf(run *runObjects) *bucket.Heartbeat {
	if h := l.heartbeat; h != nil && (run == nil || !run.forked || h.Run == bucket.HexID(run.run)) {
		return h
	}
	return nil
}

// gapsAfterObjects returns the gaps after all objects and notes: the heartbeat proves that these
// records were acknowledged. It also reports a log whose objects have all disappeared.
func (a *audit) gapsAfterObjects(l *logObjects, end uint64) (gaps []gap) {
	h := l.heartbeat
	if h == nil || h.LastSeq <= end {
		return nil
	}
	if len(l.runs) == 0 && h.ConfirmedBelow > end+1 {
		f := l.newFinding(Gone, nil, end+1, h.ConfirmedBelow-1)
		end = h.ConfirmedBelow - 1
		if h.Retired && !a.FromStart { // its shipped objects may have expired since
			f.Kind = Earlier
		}
		f.Heartbeat = &h.At
		a.add(f)
	}
	if end < h.LastSeq {
		gaps = append(gaps, gap{first: end + 1, last: h.LastSeq, since: h.OldestAt(), heartbeat: h})
	}
	return gaps
}

// LastHeard is the time of a node's latest heartbeat.
type LastHeard struct {
	At      time.Time
	Retired bool
}

// unreadHeartbeat reports whether the node has a heartbeat that the storage does not
// return.
func (r *Report) unreadHeartbeat(node string) bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool {
		return f.Kind == Unreadable && f.Node == node && strings.HasPrefix(f.Keys[0], bucket.HeartbeatPrefix)
	})
}

// Expect adds a finding for each node that has neither objects nor a heartbeat, and for
// each node whose heartbeat is more than maxAge from now.
func (r *Report) Expect(nodes []string, maxAge time.Duration, now time.Time) {
	objects := map[string]bool{}
	for _, l := range r.Logs {
		for _, n := range l.Nodes {
			objects[n] = objects[n] || l.Objects > 0
		}
	}
	for _, node := range nodes {
		h, heard := r.LastHeard[node]
		age := now.Sub(h.At)
		f := Finding{Kind: Silent, Node: node}
		switch {
		case !heard && objects[node]:
			continue
		case !heard:
			f.Kind, f.Reason = Absent, "no objects of this node, and no heartbeat"
			if r.unreadHeartbeat(node) {
				f.Reason = "no objects of this node, and its heartbeat can't be read"
			}
			if r.Tallies[Failed].Findings > 0 {
				f.Reason += onlyReadableNote
			}
		case age > maxAge && h.Retired:
			f.Reason = "it was retired: everything was shipped, to take the host out of service"
		case age > maxAge:
			f.Reason = "the host is away, or in trouble, or its clock is behind"
		case age < -maxAge:
			f.Reason = "its clock is ahead, so the time of its last heartbeat is unknown"
		default:
			continue
		}
		if heard {
			f.Heartbeat = &h.At
		}
		r.add(f)
	}
	r.sort()
}
