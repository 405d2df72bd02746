package main

import (
	"context"
	"log/slog"
	"math"
	"time"

	"collectord/collectord/cgroup"
	"collectord/collectord/httpserver"
)

// Intervals between two looks at the memory of the control group: while much is left, and
// while little is. In the shorter one a fast network brings some megabytes.
const (
	seldomLook = 200 * time.Millisecond
	oftenLook  = 20 * time.Millisecond

	soonestLook = 2 * time.Millisecond // when connections wait to be accepted
)

// Parts of the group's limit: what strangers must leave for the process itself to grow
// between two looks, and where looks become frequent.
const (
	reserveDivisor = 8
	maxReserve     = 32 << 20
	littleDivisor  = 2
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
		case <-timer.C:
		case <-w.web.SpareWanted():
			<-time.After(soonestLook)
		}
		timer.Reset(w.look())
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
	w.web.SetSpareMemory(m.Free - min(m.Limit/reserveDivisor, maxReserve))
	if m.Free > m.Limit/littleDivisor {
		return seldomLook
	}
	return oftenLook
}
