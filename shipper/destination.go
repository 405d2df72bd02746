package shipper

import (
	"time"

	"collectord/shipper/bucket"
)

// Destination is where objects go, and how that works. Times are zero where there is none.
type Destination struct {
	Where        string         // as people write it
	LastSuccess  time.Time      // when the storage last took something, or answered what it can do
	FailingSince time.Time      // when the first attempt failed of those since the last success
	Attempts     int            // that failed since then
	Failure      bucket.Failure // of the last of them
	NextAttempt  time.Time      // while it fails; past: it is under way
}

// reportLocked publishes what the queue knows of the storage. The shipper's mutex is held.
func (q *queue) reportLocked() {
	s := q.shipper
	s.failing = q.trouble()
	d := &s.stats.Destination
	if q.storage.bound == 0 {
		*d = Destination{Where: d.Where, LastSuccess: d.LastSuccess}
		return
	}
	d.FailingSince, d.Attempts, d.Failure, d.NextAttempt = q.since, q.attempts, q.failure, q.storage.until
}

func (q *queue) report() {
	q.shipper.mu.Lock()
	defer q.shipper.mu.Unlock()
	q.reportLocked()
}

// succeeded notes that the storage took something.
func (s *Shipper) succeeded() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.succeededLocked()
}

func (s *Shipper) succeededLocked() { s.stats.Destination.LastSuccess = time.Now() }
