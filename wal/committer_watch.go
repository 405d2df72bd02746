package wal

import (
	"fmt"
	"sync"
	"time"
)

// diskWait is the committer's present wait for the disk.
type diskWait struct {
	mu        sync.Mutex // guards the fields below
	since     time.Time  // when the wait began; zero while there is none
	commit    *commit    // the commit being written, or nil
	abandoned bool
}

func (w *diskWait) begin(c *commit) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since, w.commit, w.abandoned = time.Now(), c, false
}

// end ends the wait and reports whether it was abandoned. If so, the appenders of its
// commit, and of the commits behind it, have got an error.
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

// abandon abandons a wait that has taken longer than limit, and refuses appends before
// the committer can continue. It returns the commits to abort with err. err is nil if
// the wait is not abandoned.
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

// watch is the goroutine that bounds every wait of the committer to CommitTimeout,
// whether for a write, a sync, a rename, or the roller. It does not use the disk
// itself.
//
// A call that was abandoned may still return. The active segment then ends before its
// commit, even if the call has succeeded.
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
		k.queue.abortAll(err, pending)
		records := uint32(0)
		if c != nil {
			records = c.count
			k.queue.abort(err, c)
		}
		k.opts.Logger.Error("a commit hangs: usages are rejected until the disk answers", "trouble", "commit", "records", records, "call", k.describeHang(), "error", err)
	}
}

// describeHang names the call that the disk does not answer.
func (k *committer) describeHang() string {
	if hung := k.checkHang(); hung != nil {
		return hung.call.String()
	}
	return "none of this log"
}

// watchInterval is how often watch looks, and so the time by which a wait may exceed
// CommitTimeout.
const watchInterval = time.Second
