package wal

import (
	"fmt"
	"sync"
	"time"
)

// hand is what the committer waits for the disk with.
type diskWait struct {
	mu        sync.Mutex // guards what follows
	since     time.Time  // zero while it does not wait
	commit    *commit    // whose appenders wait, or nil
	abandoned bool
}

func (w *diskWait) begin(c *commit) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since, w.commit, w.abandoned = time.Now(), c, false
}

// end reports whether the wait was abandoned: the appenders of its commit, and of
// those behind it, got an error.
func (w *diskWait) end() (abandoned bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since, w.commit = time.Time{}, nil
	return w.abandoned
}

func (w *diskWait) isAbandoned() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.abandoned
}

// abandon ends the wait for what is in hand for longer than limit, and refuses
// appends before the committer can go on. err is nil if there is none.
func (w *diskWait) abandon(limit time.Duration, q *queue) (c *commit, pending []*commit, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	took := time.Since(w.since)
	if w.since.IsZero() || w.abandoned || took < limit {
		return nil, nil, nil
	}
	w.abandoned = true
	err = fmt.Errorf("the disk has not answered for %v", took.Round(time.Second))
	return w.commit, q.fail(err), err
}

// watch is the goroutine that sees that no wait for a disk that does not answer is
// longer than CommitTimeout, whatever the committer waits for: a write, a
// sync, a rename, or the roller. It touches no disk itself.
//
// What was abandoned may come back after all. A commit's segment ends before it
// then, whatever the disk returned.
func (k *committer) watch() {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-k.stopped:
			return
		case <-tick.C:
		}
		c, pending, err := k.diskWait.abandon(k.limits.Load().CommitTimeout, k.queue)
		if err == nil {
			continue
		}
		k.queue.abortPending(err, pending)
		records := uint32(0)
		if c != nil {
			records = c.count
			k.queue.abort(err, c)
		}
		k.opts.Logger.Error("a commit hangs: usages are refused until the disk answers", "trouble", "commit", "records", records, "error", err)
	}
}

// watchInterval is by how much CommitTimeout may be overrun.
const watchInterval = time.Second
