package audit

import (
	"fmt"
	"slices"
	"time"

	"collectord/shipper/bucket"
)

// areClones reports whether two heartbeats of one log come from two hosts, for example after
// a disk was copied: their runs overlap in time. The runs of a host that was renamed
// follow each other. Heartbeats with the same run are copies.
func areClones(a, b *bucket.Heartbeat) bool {
	return a.Run != b.Run && !startedAt(a).After(receivedAt(b)) && !startedAt(b).After(receivedAt(a))
}

func startedAt(b *bucket.Heartbeat) time.Time { return receivedAt(b).Add(-b.RunDuration()) }

// findClones finds hosts that write the same log, also across destinations. Hosts with the
// same name share one heartbeat key and detect the clone themselves.
func (f *fleet) findClones() {
	logs := map[string][]*Host{}
	for _, h := range f.hosts {
		if h.Heartbeat != nil {
			logs[h.LogID] = append(logs[h.LogID], h)
			if h.Heartbeat.Cloned {
				h.Wrong = append(h.Wrong, Cloned)
				h.addReason("another host of this name writes the same log: data_dir was copied")
			}
		}
	}
	for _, sameLog := range logs {
		slices.SortFunc(sameLog, func(a, b *Host) int { return receivedAt(a.Heartbeat).Compare(receivedAt(b.Heartbeat)) })
		// Among the hosts with a later heartbeat, the one that started first overlaps if
		// any does.
		first := sameLog[len(sameLog)-1]
		for _, h := range slices.Backward(sameLog[:len(sameLog)-1]) {
			if areClones(h.Heartbeat, first.Heartbeat) {
				h.markClone(first)
				first.markClone(h)
			}
			if startedAt(h.Heartbeat).Before(startedAt(first.Heartbeat)) {
				first = h
			}
		}
	}
}

// markClone records that another host writes the same log.
func (h *Host) markClone(other *Host) {
	if slices.Contains(h.Wrong, Cloned) {
		return
	}
	h.Wrong = append(h.Wrong, Cloned)
	where := ""
	if other.Destination != h.Destination {
		where = " in " + other.Destination
	}
	h.addReason(fmt.Sprintf("%q%s writes the same log: data_dir was copied", other.Node, where))
}
