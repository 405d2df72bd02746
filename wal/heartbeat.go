package wal

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// heartbeat is when each of the log's loops last turned. An idle loop turns every
// heartbeatInterval.
type heartbeat struct {
	epoch time.Time           // origin of the times below, monotonic
	last  [loops]atomic.Int64 // in ns since the epoch; 0 for a loop that does not run
}

const heartbeatInterval = 10 * time.Second

// The loops that are watched.
const (
	committing = iota
	rolling
	watching
	loops
)

// turnMin is the least time that a turn may take: enough to write and sync the largest
// segment's zeros on a slow disk.
const turnMin = 2 * time.Minute

func newHeartbeat() *heartbeat { return &heartbeat{epoch: time.Now()} }

func (h *heartbeat) beat(loop int) { h.last[loop].Store(int64(time.Since(h.epoch)) + 1) }

func (h *heartbeat) stop(loop int) { h.last[loop].Store(0) }

// Alive returns an error if a loop of the log does not turn. A full disk, a full log,
// and a disk that returns errors do not stop a loop. A disk that does not answer at all
// does, after twice CommitTimeout, but not before two minutes.
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
