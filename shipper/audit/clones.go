package audit

import (
	"fmt"
	"slices"
	"time"

	"collectord/shipper/bucket"
)

// areTwo reports whether two heartbeats of one log come from two hosts, for example after
// a disk was copied: their runs overlap in time. The runs of a host that was renamed
// follow each other. Heartbeats with the same run are copies.
func areTwo(a, b *bucket.Heartbeat) bool {
	return a.Run != b.Run && !begunAt(a).After(heardAt(b)) && !begunAt(b).After(heardAt(a))
}

func begunAt(b *bucket.Heartbeat) time.Time { return heardAt(b).Add(-b.RunDuration()) }

// findClones finds hosts that write the same log, also across destinations. Hosts with the
// same name share one heartbeat key and detect the clone themselves.
func (f *fleet) findClones() {
	logs := map[string][]*Host{}
	for _, h := range f.hosts {
		if h.Heartbeat != nil {
			logs[h.LogID] = append(logs[h.LogID], h)
			if h.Heartbeat.Cloned {
				h.Wrong = append(h.Wrong, Cloned)
				h.because("another host of this name writes the same log: data_dir was copied")
			}
		}
	}
	for _, its := range logs {
		slices.SortFunc(its, func(a, b *Host) int { return heardAt(a.Heartbeat).Compare(heardAt(b.Heartbeat)) })
		// Among the hosts with a later heartbeat, the one that started first overlaps if
		// any does.
		first := its[len(its)-1]
		for _, h := range slices.Backward(its[:len(its)-1]) {
			if areTwo(h.Heartbeat, first.Heartbeat) {
				h.cloneOf(first)
				first.cloneOf(h)
			}
			if begunAt(h.Heartbeat).Before(begunAt(first.Heartbeat)) {
				first = h
			}
		}
	}
}

// cloneOf records that another host writes the same log.
func (h *Host) cloneOf(other *Host) {
	if slices.Contains(h.Wrong, Cloned) {
		return
	}
	h.Wrong = append(h.Wrong, Cloned)
	where := ""
	if other.Destination != h.Destination {
		where = " in " + other.Destination
	}
	h.because(fmt.Sprintf("%q%s writes the same log: data_dir was copied", other.Node, where))
}
