package shipper

import (
	"time"

	"collectord/shipper/bucket"
)

// Destination describes where objects go and whether uploads succeed. An unknown time is
// zero.
type Destination struct {
	Name         string         // the storage's name for people
	LastSuccess  time.Time      // when the storage last accepted an object or passed the probe
	FailingSince time.Time      // when the first attempt after the last success failed
	Attempts     int            // failed attempts since then
	Failure      bucket.Failure // of the last failed attempt
	SilentSince  time.Time      // since when a request has been acknowledged and answered by nothing, if that is long
	NextAttempt  time.Time      // set while the storage fails; in the past while that attempt runs
}

// publishLocked publishes the queue's view of the storage in Stats. The caller holds the
// shipper's mutex.
func (q *queue) publishLocked() {
	s := q.shipper
	s.shippingTrouble = q.trouble()
	d := &s.stats.Destination
	if q.storageBackoff.bound == 0 {
		*d = Destination{Name: d.Name, LastSuccess: d.LastSuccess}
		return
	}
	d.FailingSince, d.Attempts, d.Failure, d.NextAttempt = q.failingSince, q.attempts, q.failure, q.storageBackoff.until
}

func (q *queue) publish() {
	q.shipper.mu.Lock()
	defer q.shipper.mu.Unlock()
	q.publishLocked()
}

// recordSuccess records that the storage accepted an object.
func (s *Shipper) recordSuccess() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recordSuccessLocked()
}

func (s *Shipper) recordSuccessLocked() { s.stats.Destination.LastSuccess = time.Now() }
