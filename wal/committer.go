package wal

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"collectord/wal/segment"
)

// committer writes records. It takes one commit at a time from the queue, writes it to
// the active segment as one frame, syncs it, and updates the ledger. Only then does it
// wake the commit's appenders. Its goroutine does that, or an appender that calls
// commitHere: whoever has the turn.
//
// The committer starts a new segment when the active one is full, old, or of another
// hour: it renames the segment that the roller has prepared, and passes the old one to
// the roller. After a failure it has no segment. It then aborts the waiting commits and
// continues once the roller has prepared a segment. The watch goroutine bounds its
// waits for the disk.
type committer struct {
	*base
	queue    *queue
	shelf    *shelf
	rolls    *rolls
	diskWait diskWait
	toWake   chan *commit  // commits for wakeAppenders
	fillJobs chan fillJob  // jobs for writeZeros; buffers one
	stopped  chan struct{} // closed once run has returned
	metrics  *metrics

	turn     chan struct{} // holds a value while a goroutine has the turn, which guards the fields below
	segment  *active       // the active segment; nil while the log is unavailable, and once it is closed
	failures uint64        // number of failures so far; a segment prepared before the last failure is not used
	hour     int64         // UTC hour of the active segment's records, in hours since 1970
	lastSync time.Time
}

// run writes commits and rolls segments until the log is closed and the queue is empty.
func (k *committer) run() {
	defer close(k.rolls.retired)
	defer close(k.toWake)
	defer close(k.fillJobs)
	defer close(k.stopped)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	closing := k.closing
	defer k.rounds.end(loopCommitter)
	for {
		k.rounds.begin(loopCommitter)
		wait, next, finished := k.round(closing == nil)
		if finished {
			return
		}
		if wait == 0 {
			continue
		}
		timer.Reset(wait)
		select {
		case <-k.queue.wake:
		case <-timer.C:
		case p := <-next:
			k.adopt(p)
		case <-closing:
			closing = nil // the next round writes what is queued, then ends
		}
	}
}

// round does what is due, and writes at most one commit. It returns how long to wait for
// the next round, and where a prepared segment arrives if the log needs one. If the log is
// closing and nothing is left to write, it finishes.
func (k *committer) round(closing bool) (wait time.Duration, next chan prepared, finished bool) {
	k.takeTurn()
	defer k.endTurn()
	wait = min(k.housekeep(), idleInterval)
	if k.segment != nil || closing { // staged UDP records wait while the log is unavailable
		k.gather()
		c, later := k.queue.nextCommit()
		if c != nil {
			k.commit(c)
			return 0, nil, false
		}
		wait = min(wait, later)
	}
	if closing {
		k.finish()
		return 0, nil, true
	}
	if k.segment == nil {
		next = k.rolls.next
	}
	return wait, next, false
}

// gather yields the processor at most gatherMaxRounds times, and stops once gatherTarget
// records wait. A larger commit saves little beyond that, and the disk would idle
// (measured).
const (
	gatherMaxRounds = 4
	gatherTarget    = 64
)

// gather lets appenders that are ready to run join the next commit, as long as more of
// them arrive. A sync costs the same for one record as for many. A lone appender is not
// delayed, since gather only yields the processor.
func (k *committer) gather() {
	for n, round := k.queue.waiting(), 0; n > 0 && n < gatherTarget && round < gatherMaxRounds; round++ {
		runtime.Gosched()
		more := k.queue.waiting()
		if more == n {
			return
		}
		n = more
	}
}

// housekeep syncs and rolls the active segment when that is due, and passes on requests
// to seal. It returns how long to wait before the next call.
func (k *committer) housekeep() time.Duration {
	wait := time.Hour
	if a := k.segment; a != nil && a.unsynced {
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
			k.rollWatched(sealedByRequest)
		}
		k.diskWait.begin(nil) // the roller may be slow to receive
		k.rolls.retired <- retired{seals: due}
		k.resume()
	}
	if k.segment == nil { // no commit will answer the remaining requests soon
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
		k.rollWatched(sealedBySize)
		return wait
	}
	remaining := limits.age(a.Bytes()) - time.Since(a.since)
	if remaining <= 0 {
		k.rollWatched(sealedByAge)
		return wait
	}
	return min(wait, remaining)
}

// syncInterval makes durable what was written since the last sync.
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

// commit writes one frame and ends its commit. It rolls the segment first if the commit
// is of another hour. It aborts a commit whose records changed while they were copied.
func (k *committer) commit(c *commit) {
	if c.invalid.Load() {
		k.queue.abort(errChanged, c)
		k.queue.recycle(c)
		return
	}
	k.diskWait.begin(c)
	if a := k.segment; a != nil && a.count > 0 && c.hour() != k.hour {
		k.roll(sealedByHour)
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
	if k.diskWait.end() { // abandoned: its appenders have their error already
		k.queue.recycle(c)
		k.fail(fmt.Errorf("commit of %d records took %v: %w", c.count, time.Since(began).Round(time.Second), errors.Join(errAbandoned, err)))
		return
	}
	if err != nil {
		k.fail(fmt.Errorf("commit %d records: %w", c.count, err), c)
		return
	}
	if a.count == 0 {
		a.since, a.firstAt, k.hour = began, c.firstAt, c.hour()
		if k.opts.Sync == SyncInterval {
			k.lastSync = began
		}
	}
	a.count += uint64(c.count)
	a.ackedBytes = a.Bytes()
	k.metrics.records.Observe(uint64(c.count))
	k.queue.committed.Add(uint64(c.count))
	k.metrics.bytes.Observe(uint64(frameSize(c.buf)))
	k.queue.stored(c)
	k.queue.recycle(c)
	k.shelf.committed(a)
	if c.blockedAppenders < wakeAsyncMin {
		c.finish()
		k.queue.reuse(c)
	} else {
		k.toWake <- c
	}
	k.requestFill(a)
}

// write writes a commit's frame. With SyncAlways it also syncs it.
func (k *committer) write(a *active, c *commit) error {
	segment.PutFrame(c.buf, k.logID, k.runID, c.firstSeq, c.count)
	if err := a.Append(c.buf); err != nil {
		return err
	}
	a.unsynced = true
	if k.opts.Sync != SyncAlways {
		return nil
	}
	written := time.Now()
	err := a.sync()
	k.metrics.sync.ObserveTime(time.Since(written))
	return err
}

// errAbandoned means that the watch goroutine has aborted the commit.
var errAbandoned = errors.New("the commit was abandoned")

// wakeAsyncMin: if at least so many appenders are blocked, another goroutine wakes them,
// since waking a thousand takes about as long as a sync.
const wakeAsyncMin = 16

// wakeAppenders is the goroutine that wakes the appenders of commits with at least
// wakeAsyncMin of them.
func (k *committer) wakeAppenders() {
	for c := range k.toWake {
		c.finish()
	}
}
