package httpserver

import (
	"context"
	"errors"
	"sync"

	"collectord/wal"
)

// workers are goroutines for what would hold up an event loop: bodies that are large, or
// have to be decoded, and what has to wait for memory, or for the log to start.
type workers struct {
	mu      sync.Mutex // guards what follows
	running int
	waiting []func() // a connection has one at most
}

// maxWorkers is more than can run at a time, since some wait.
const maxWorkers = 16

func (w *workers) do(job func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running == maxWorkers {
		w.waiting = append(w.waiting, job)
		return
	}
	w.running++
	go w.run(job)
}

func (w *workers) run(job func()) {
	for ; job != nil; job = w.next() {
		job()
	}
}

func (w *workers) next() (job func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) == 0 {
		w.running--
		return nil
	}
	job = w.waiting[0]
	w.waiting[0] = nil
	w.waiting = w.waiting[1:]
	return job
}

// work has a worker prepare a request, unless that is done, and append its usages. The
// connection is the worker's until it is posted.
func (l *loop) work(c *conn, from step) {
	log := l.server.log
	c.inTurn = false
	l.server.workers.do(func() {
		if from == stepPrepare {
			c.prepare()
			if c.todo != stepAppend {
				l.post(c, prepared)
				return
			}
			c.todo = stepRead
		}
		recs, w := c.request.records, wal.NewWaiter(func() { l.post(c, appended) })
		c.stores = w
		_, err := log.AppendTo(w, recs)
		if err == nil {
			log.Commit()
			return
		}
		if errors.Is(err, ErrStarting) {
			err = log.AppendSeq(context.Background(), recs)
		}
		w.Deliver(wal.Outcome{Err: err})
	})
}
