package wal

import (
	"fmt"
	"sync"
	"time"
)

// hand is what the committer waits for the disk with.
type hand struct {
	mu        sync.Mutex // guards what follows
	since     time.Time  // zero while it does not wait
	commit    *commit    // whose appenders wait, or nil
	abandoned bool
}

func (h *hand) begin(c *commit) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.since, h.commit, h.abandoned = time.Now(), c, false
}

// end reports whether the wait was abandoned: the appenders of its commit, and of
// those behind it, got an error.
func (h *hand) end() (abandoned bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.since, h.commit = time.Time{}, nil
	return h.abandoned
}

func (h *hand) isAbandoned() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.abandoned
}

// abandon ends the wait for what is in hand for longer than limit, and refuses
// appends before the committer can go on. err is nil if there is none.
func (h *hand) abandon(limit time.Duration, q *queue) (c *commit, pending []*commit, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	took := time.Since(h.since)
	if h.since.IsZero() || h.abandoned || took < limit {
		return nil, nil, nil
	}
	h.abandoned = true
	err = fmt.Errorf("the disk has not answered for %v", took.Round(time.Second))
	return h.commit, q.fail(err), err
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
		c, pending, err := k.hand.abandon(k.limits.Load().CommitTimeout, k.queue)
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
