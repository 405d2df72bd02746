package wal

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// rounds records when each of the log's loops began its last round. An idle loop begins
// one every idleInterval.
type rounds struct {
	epoch time.Time               // origin of the times below, on the monotonic clock
	last  [loopCount]atomic.Int64 // ns since the epoch; 0 for a loop that does not run
}

const idleInterval = 10 * time.Second

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

func newRounds() *rounds { return &rounds{epoch: time.Now()} }

func (r *rounds) begin(loop int) { r.last[loop].Store(int64(time.Since(r.epoch)) + 1) }

// end records that the loop has ended.
func (r *rounds) end(loop int) { r.last[loop].Store(0) }

// Alive returns an error if a loop of the log is stuck. A full disk, a full log, and a
// disk that returns errors do not stop a loop. A disk that does not answer at all does:
// Alive reports it after twice CommitTimeout, but not before two minutes.
func (l *Log) Alive() error {
	limit := max(2*l.limits.Load().CommitTimeout, stuckAfterMin)
	var errs []error
	for loop, name := range [loopCount]string{"committer", "roller", "watcher of the bounds"} {
		last := l.rounds.last[loop].Load()
		if late := time.Since(l.rounds.epoch) - time.Duration(last); last != 0 && late > limit {
			errs = append(errs, fmt.Errorf("the log's %s has been stuck for %v", name, late.Round(time.Second)))
		}
	}
	return errors.Join(errs...)
}
