package wal

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"collectord/wal/segment"
)

// committer is the goroutine that writes records. It takes one commit at a time from
// the queue, writes it to the active segment as one frame, syncs, books it as stored,
// and only then wakes its appenders, or has the waker do it if they are many.
//
// When a segment is full, old, or of another hour, it gives the next one, which the
// roller has prepared, its name, and hands the old one to the roller. After a
// failure it has no segment: it aborts what waits, and goes on once the roller has
// prepared another. While it waits for the disk it is watched (see watch).
type committer struct {
	*base
	queue    *queue
	shelf    *shelf
	rolls    *rolls
	diskWait diskWait
	durable  chan *commit  // to the waker
	fills    chan fillJob  // to the filler; holds one
	stopped  chan struct{} // closed once it has ended
	metrics  *metrics

	segment  *active // nil while the log is unavailable
	attempt  uint64  // counts failures; a prepared segment of an earlier one is stale
	hour     int64   // of the active segment's records
	lastSync time.Time
}

// run writes commits and rolls segments until the log is closed and nothing is left
// to write.
func (k *committer) run() {
	defer close(k.rolls.retired)
	defer close(k.durable)
	defer close(k.fills)
	defer close(k.stopped)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	closing := k.closing
	defer k.heartbeat.stop(committing)
	for {
		k.heartbeat.beat(committing)
		wait := min(k.housekeep(), heartbeatInterval)
		// While the log is unavailable, UDP records wait for better times.
		if k.segment != nil || closing == nil {
			k.gather()
			if c := k.queue.nextCommit(); c != nil {
				k.commit(c)
				continue
			}
		}
		if closing == nil {
			k.finish()
			return
		}
		timer.Reset(wait)
		var next chan prepared
		if k.segment == nil {
			next = k.rolls.next
		}
		select {
		case <-k.queue.wake:
		case <-timer.C:
		case p := <-next:
			k.adopt(p)
		case <-closing:
			closing = nil // once more round for what is queued
		}
	}
}

// Bounds on what a commit waits for: how often it lets others run first, and
// with how many records it leaves at once. Beyond, a larger commit saves little,
// and the disk would be idle meanwhile (measured).
const (
	gatherRounds = 4
	gatherEnough = 64
)

// gather lets appenders that are ready to run join the next commit, as long as
// more of them come: a sync costs the same for one record as for many. It waits
// for nobody, so a lone appender is not held up.
func (k *committer) gather() {
	for n, round := k.queue.waiting(), 0; n > 0 && n < gatherEnough && round < gatherRounds; round++ {
		runtime.Gosched()
		more := k.queue.waiting()
		if more == n {
			return
		}
		n = more
	}
}

// housekeep seals and syncs what is due and returns when to look again.
func (k *committer) housekeep() time.Duration {
	wait := time.Hour
	if a := k.segment; a != nil && a.unsaved {
		wait = k.opts.SyncInterval - time.Since(k.lastSync)
		if wait <= 0 {
			if err := k.syncInterval(a); err != nil {
				k.fail(err)
				return 0
			}
			wait = k.opts.SyncInterval
		}
	}
	if due := k.queue.dueSeals(false); len(due) > 0 {
		if a := k.segment; a != nil && a.count > 0 {
			k.rollWatched(sealRequest)
		}
		k.diskWait.begin(nil) // the roller may be behind
		k.rolls.retired <- retired{seals: due}
		k.resume()
	}
	if k.segment == nil { // nobody knows when the rest will be committed
		for _, done := range k.queue.dueSeals(true) {
			done <- fmt.Errorf("%w: %w", ErrUnavailable, k.queue.whyBroken())
		}
	}
	a := k.segment
	if a == nil || a.count == 0 {
		return wait
	}
	limits := k.sealing()
	if a.Bytes() >= a.Limit(limits.size) {
		k.rollWatched(sealSize)
		return wait
	}
	left := limits.age(a.Bytes()) - time.Since(a.since)
	if left <= 0 {
		k.rollWatched(sealAge)
		return wait
	}
	return min(wait, left)
}

// syncInterval makes durable what was acknowledged since the last sync.
func (k *committer) syncInterval(a *active) error {
	k.diskWait.begin(nil)
	began := time.Now()
	err := a.sync()
	k.lastSync = time.Now()
	k.metrics.sync.ObserveTime(k.lastSync.Sub(began))
	if err != nil {
		k.diskWait.end()
		return err
	}
	k.resume()
	return nil
}

// commit writes one frame and answers its appenders.
func (k *committer) commit(c *commit) {
	if c.invalid.Load() {
		k.queue.abort(errChanged, c)
		k.queue.recycle(c)
		return
	}
	k.diskWait.begin(c)
	if a := k.segment; a != nil && a.count > 0 && c.hour() != k.hour {
		k.roll(sealHour)
	}
	a := k.segment
	if a == nil || k.diskWait.isAbandoned() {
		if !k.resume() {
			k.queue.abort(k.queue.whyBroken(), c)
		}
		k.queue.recycle(c)
		return
	}
	began := time.Now()
	err := k.write(a, c)
	k.metrics.commit.ObserveTime(time.Since(began))
	if k.diskWait.end() { // its appenders got an error already
		k.queue.recycle(c)
		k.fail(fmt.Errorf("commit of %d records took %v: %w", c.count, time.Since(began).Round(time.Second), errors.Join(errTooLate, err)))
		return
	}
	if err != nil {
		err = fmt.Errorf("commit %d records: %w", c.count, err)
		k.queue.abort(err, c) // first: the roller may be behind
		k.queue.recycle(c)
		k.fail(err)
		return
	}
	if a.count == 0 {
		a.since, a.firstAt, k.hour = began, c.firstAt, c.hour()
		if k.opts.Sync == SyncInterval {
			k.lastSync = began
		}
	}
	a.count += uint64(c.count)
	a.acked = a.Bytes()
	k.metrics.records.Observe(uint64(c.count))
	k.metrics.bytes.Observe(uint64(len(c.buf) - segment.EntryRoom))
	k.queue.stored(c)
	k.queue.recycle(c)
	k.shelf.committed(a)
	if c.count < wakeMany {
		c.finish()
	} else {
		k.durable <- c
	}
	k.fillOn(a)
}

// write writes a commit's frame, and syncs it unless that is done later.
func (k *committer) write(a *active, c *commit) error {
	segment.PutFrame(c.buf, k.logID, k.runID, c.firstSeq, c.count)
	if err := a.Append(c.buf); err != nil {
		return err
	}
	a.unsaved = true
	if k.opts.Sync != SyncAlways {
		return nil
	}
	written := time.Now()
	err := a.sync()
	k.metrics.sync.ObserveTime(time.Since(written))
	return err
}

// errTooLate says that nobody waits for a commit any more.
var errTooLate = errors.New("its appenders got an error already")

// wakeMany is the number of records from which on waking their appenders is left
// to another goroutine: it takes about as long as a sync for a thousand of them.
const wakeMany = 16

// wakeAppenders wakes the appenders of commits with many records.
func (k *committer) wakeAppenders() {
	for c := range k.durable {
		c.finish()
	}
}
