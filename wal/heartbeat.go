package wal

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// heartbeat records when each of the log's loops began its last round. An idle loop
// begins one every heartbeatInterval.
type heartbeat struct {
	epoch time.Time               // origin of the times below, on the monotonic clock
	last  [loopCount]atomic.Int64 // ns since the epoch; 0 for a loop that does not run
}

const heartbeatInterval = 10 * time.Second

// Loops that Alive watches.
const (
	loopCommitter = iota
	loopRoller
	loopShelf
	loopCount
)

// stuckAfterMin is the shortest time after which a loop counts as stuck: enough to
// write and sync the zeros of the largest segment on a slow disk.
const stuckAfterMin = 2 * time.Minute

func newHeartbeat() *heartbeat { return &heartbeat{epoch: time.Now()} }

func (h *heartbeat) beat(loop int) { h.last[loop].Store(int64(time.Since(h.epoch)) + 1) }

func (h *heartbeat) stop(loop int) { h.last[loop].Store(0) }

// Alive returns an error if a loop of the log is stuck. A full disk, a full log, and a
// disk that returns errors do not stop a loop. A disk that does not answer at all does:
// Alive reports it after twice CommitTimeout, but not before two minutes.
func (l *Log) Alive() error {
	limit := max(2*l.limits.Load().CommitTimeout, stuckAfterMin)
	var errs []error
	for loop, name := range [loopCount]string{"committer", "roller", "watcher of the bounds"} {
		last := l.heartbeat.last[loop].Load()
		if late := time.Since(l.heartbeat.epoch) - time.Duration(last); last != 0 && late > limit {
			errs = append(errs, fmt.Errorf("the log's %s has been stuck for %v", name, late.Round(time.Second)))
		}
	}
	return errors.Join(errs...)
}
