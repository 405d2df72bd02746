package wal

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// heartbeat knows when each of the log's loops last turned. A loop that has nothing
// to do turns all the same, every heartbeatInterval.
type heartbeat struct {
	epoch time.Time           // of what follows: monotonic, whatever the clock does
	last  [loops]atomic.Int64 // nanoseconds since the epoch, or 0 for a loop that does not run
}

const heartbeatInterval = 10 * time.Second

// The loops that must turn.
const (
	committing = iota
	rolling
	watching
	loops
)

// turnMin is the least time a turn is given. It is enough to write and sync the
// largest segment ahead of its use on a slow disk.
const turnMin = 2 * time.Minute

func newHeartbeat() *heartbeat { return &heartbeat{epoch: time.Now()} }

func (h *heartbeat) beat(loop int) { h.last[loop].Store(int64(time.Since(h.epoch)) + 1) }

func (h *heartbeat) stop(loop int) { h.last[loop].Store(0) }

// Alive returns nil while the loops of the log turn, as they do while the disk
// or the log is full, and while the disk fails. A disk that does not answer at
// all is given twice CommitTimeout, and at least two minutes.
func (l *Log) Alive() error {
	limit := max(2*l.limits.Load().CommitTimeout, turnMin)
	var errs []error
	for loop, name := range [loops]string{"committer", "roller", "watcher of the bounds"} {
		last := l.heartbeat.last[loop].Load()
		if late := time.Since(l.heartbeat.epoch) - time.Duration(last); last != 0 && late > limit {
			errs = append(errs, fmt.Errorf("the log's %s has been stuck for %v", name, late.Round(time.Second)))
		}
	}
	return errors.Join(errs...)
}
