package httpserver

import (
	"context"
	"errors"
	"sync"

	"collectord/wal"
)

// workers are goroutines for jobs that would block an event loop: preparing large or
// compressed bodies, and waiting for memory or for the log to start.
type workers struct {
	mu      sync.Mutex // guards the fields below
	running int
	queue   []func() // at most one job for each connection
}

// maxWorkers is how many workers run at a time. It exceeds the number of processors,
// since some workers wait.
const maxWorkers = 16

func (w *workers) do(job func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running == maxWorkers {
		w.queue = append(w.queue, job)
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
	if len(w.queue) == 0 {
		w.running--
		return nil
	}
	job = w.queue[0]
	w.queue[0] = nil
	w.queue = w.queue[1:]
	return job
}

// startWorker passes a connection to a worker, which prepares the request if needed and
// appends its usages. The worker owns the connection until it posts it to the loop.
func (l *loop) startWorker(c *conn, from step) {
	log := l.server.log
	c.ownedByLoop = false
	l.server.workers.do(func() {
		if from == stepPrepare {
			c.prepare()
			if c.nextStep != stepAppend {
				l.post(c, reasonPrepared)
				return
			}
			c.nextStep = stepRead
		}
		recs, w := c.request.records, wal.NewWaiter(func() { l.post(c, reasonAppended) })
		c.workerWaiter = w
		_, err := log.AppendTo(w, recs)
		if err == nil {
			log.RequestCommit()
			return
		}
		if errors.Is(err, ErrStarting) {
			err = log.AppendSeq(context.Background(), recs)
		}
		w.Deliver(wal.Outcome{Err: err})
	})
}
