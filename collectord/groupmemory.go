package main

import (
	"context"
	"log/slog"
	"math"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"time"

	"collectord/collectord/cgroup"
	"collectord/collectord/httpserver"
	"collectord/collectord/udpserver"
)

// Intervals between two looks at the memory of the control group: while much is left, and
// while little is. In the shorter one a fast network brings some megabytes.
const (
	seldomLook = 200 * time.Millisecond
	oftenLook  = 20 * time.Millisecond

	soonestLook = 2 * time.Millisecond // when connections wait to be accepted
)

const (
	// littleDivisor is the part of the group's limit from which on little spare memory is left.
	littleDivisor = 4
	// maxReserveDivisor is the part of the group's limit that is never spare. In a small group
	// the parts of reserve together would leave nothing for connections.
	maxReserveDivisor = 2
	// arriving is what a network of 1 Gbit/s brings in oftenLook, with the kernel's data.
	arriving = 4 << 20
)

// groupMemory returns the control groups of the process, and their memory at the start. On
// an error there is no limit; groupWatch logs it.
func groupMemory() (cgroup.Groups, cgroup.Memory) {
	groups, err := cgroup.Own()
	none := cgroup.Memory{Limit: math.MaxInt64, Free: math.MaxInt64}
	if err != nil {
		return groups, none // /proc is not mounted
	}
	if m, err := groups.Memory(); err == nil {
		return groups, m
	}
	return groups, none
}

// groupWatch lets strangers' connections make room before the memory of the control group
// is used up. Without it the kernel would kill the daemon.
type groupWatch struct {
	memory  func() (cgroup.Memory, error)
	web     *httpserver.Server
	udp     atomic.Pointer[udpserver.Server] // nil while the daemon starts
	unread  int64                            // max bytes of datagrams that are not read, while udp is nil
	logger  *slog.Logger
	failing bool
}

// run looks until ctx ends.
func (w *groupWatch) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			w.web.UnlimitMemory() // clients are still served while the daemon stops
			return
		case <-w.web.SpareWanted():
			timer.Reset(soonestLook)
		case <-timer.C:
			timer.Reset(w.look())
		}
	}
}

// look looks once, and returns when to look again.
func (w *groupWatch) look() time.Duration {
	m, err := w.memory()
	if err != nil {
		w.logger.Warn("the memory of the control group can't be read: strangers can use it up (see to /sys/fs/cgroup)", "trouble", "group_memory", "error", err)
		w.failing = true
		w.web.UnlimitMemory()
		return time.Second
	}
	if w.failing {
		w.failing = false
		w.logger.Info("the memory of the control group can be read again", "trouble", "group_memory")
	}
	if m.Limit == math.MaxInt64 { // a limit may be set later
		w.web.UnlimitMemory()
		return time.Second
	}
	spare := m.Free - min(w.reserve(m), m.Limit/maxReserveDivisor)
	w.web.SetSpareMemory(spare)
	if spare > m.Limit/littleDivisor {
		return seldomLook
	}
	return oftenLook
}

// reserve returns how many bytes connections must leave: what everything else may still take,
// and what arrives until the next look.
func (w *groupWatch) reserve(m cgroup.Memory) int64 {
	datagrams := w.unread
	if udp := w.udp.Load(); udp != nil {
		datagrams = udp.ReceiveSpace()
	}
	return goSpace(m.Limit) + w.web.BodySpace() + datagrams + max(0, unwrittenFiles-m.Unwritten) + arriving
}

// goSpace returns how many bytes the heap and stacks may still take within the soft limit and
// the group's limit.
func goSpace(groupLimit int64) int64 {
	used := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(used)
	limit := debug.SetMemoryLimit(-1) // only returns it
	return max(0, min(limit, groupLimit)-int64(used[0].Value.Uint64()-used[1].Value.Uint64()))
}
