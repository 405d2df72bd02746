package httpserver

import (
	"context"
	"errors"
	"sync"

	"collectord/wal"
)

// workers are goroutines for tasks that would block an event loop: large or compressed
// bodies, and waiting for memory or for the log to start.
type workers struct {
	mu      sync.Mutex // guards the fields below
	running int
	waiting []func() // at most one job for each connection
}

// maxWorkers is how many workers run at a time. It exceeds the number of processors,
// since some workers wait.
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

// work passes a connection to a worker, which prepares the request if needed and appends
// its usages. The worker owns the connection until it posts it to the loop.
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
