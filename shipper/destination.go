package shipper

import (
	"time"

	"collectord/shipper/bucket"
)

// Destination describes where objects go and whether uploads succeed. An unknown time is
// zero.
type Destination struct {
	Where        string         // the storage's name for people
	LastSuccess  time.Time      // when the storage last accepted an object or passed the probe
	FailingSince time.Time      // when the first attempt after the last success failed
	Attempts     int            // failed attempts since then
	Failure      bucket.Failure // of the last failed attempt
	NextAttempt  time.Time      // set while the storage fails; in the past while that attempt runs
}

// reportLocked publishes the queue's view of the storage in Stats. The caller holds the
// shipper's mutex.
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

// succeeded records that the storage accepted an object.
func (s *Shipper) succeeded() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.succeededLocked()
}

func (s *Shipper) succeededLocked() { s.stats.Destination.LastSuccess = time.Now() }
