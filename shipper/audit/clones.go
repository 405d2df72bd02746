package audit

import (
	"fmt"
	"slices"
	"time"

	"collectord/shipper/bucket"
)

// areTwo reports whether two heartbeats of one log are of two hosts, as after the copy of a
// disk: their runs overlap. Those of one host, which was renamed between, follow each
// other; those of one run are copies.
func areTwo(a, b *bucket.Heartbeat) bool {
	return a.Run != b.Run && !begunAt(a).After(heardAt(b)) && !begunAt(b).After(heardAt(a))
}

func begunAt(b *bucket.Heartbeat) time.Time { return heardAt(b).Add(-b.Lasted()) }

// findClones finds the hosts that write the log of another, also in another destination.
// Those of one name have one heartbeat: they notice it themselves.
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
		// Of those that were heard of later, the one that began first overlaps if any does.
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

// cloneOf notes that another host writes the same log.
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
