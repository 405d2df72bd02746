package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"time"

	"collectord/wal/segment"
)

// take returns the next commit to write, or nil. UDP records fill the room that
// HTTP leaves. Their ids and times are drawn here, or with the share that was
// kept for them when the next commit began.
func (l *Log) take() (c *commit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer func() { l.writing.commit, l.writing.since = c, time.Now() }()
	if len(l.pending) > 0 {
		c = l.pending[0]
		l.pending[0] = nil
		l.pending = l.pending[1:]
		if len(l.pending) == 0 {
			l.pending = nil
		}
	}
	if l.staged.size() == 0 {
		return c
	}
	share := &udpShare{at: l.opts.clock().UnixMicro(), upTo: l.staged.added}
	ids := &l.ids
	switch {
	case c == nil:
		c = l.newCommitLocked()
	case c.udp != nil:
		share, ids = c.udp, &c.udp.ids
	}
	for {
		head := l.staged.head()
		if head == nil || l.staged.taken() >= share.upTo || !c.takes(len(head), share.at) {
			return c
		}
		start := len(c.buf)
		c.buf = append(c.buf, head...)
		rec := c.buf[start:]
		id := ids.next(share.at / 1000)
		copy(rec, id[:])
		binary.LittleEndian.PutUint64(rec[16:], uint64(share.at))
		c.add(Source(rec[24]), 1, share.at)
		l.staged.drop(len(head))
	}
}

// committer is the state of the goroutine that writes.
type committer struct {
	segment  *active // nil while the log is unavailable
	attempt  uint64  // counts failures; a prepared segment of an earlier one is stale
	hour     int64   // of the active segment's records
	lastSync time.Time
}

// runCommitter writes commits and rolls segments until the log is closed and
// nothing is left to write.
func (l *Log) runCommitter() {
	defer l.done.Done()
	defer close(l.retired)
	defer close(l.durable)
	defer close(l.fills)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	closing := l.closing
	defer l.pulse.stop(committing)
	for {
		l.pulse.beat(committing)
		wait := min(l.housekeep(), pulseInterval)
		// While the log is unavailable, UDP records wait for better times.
		if l.committer.segment != nil || closing == nil {
			l.gather()
			if c := l.take(); c != nil {
				l.commit(c)
				continue
			}
		}
		if closing == nil {
			l.finish()
			return
		}
		timer.Reset(wait)
		var next chan prepared
		if l.committer.segment == nil {
			next = l.next
		}
		select {
		case <-l.wake:
		case <-timer.C:
		case p := <-next:
			l.adopt(p)
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
func (l *Log) gather() {
	waiting := func() (n uint64) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for i := range l.ledger.Door {
			n += l.ledger.Door[i].Waiting
		}
		return n
	}
	for n, round := waiting(), 0; n > 0 && n < gatherEnough && round < gatherRounds; round++ {
		runtime.Gosched()
		more := waiting()
		if more == n {
			return
		}
		n = more
	}
}

// housekeep seals and syncs what is due and returns when to look again.
func (l *Log) housekeep() time.Duration {
	w := &l.committer
	wait := time.Hour
	if a := w.segment; a != nil && a.unsaved {
		wait = l.opts.SyncInterval - time.Since(w.lastSync)
		if wait <= 0 {
			began := time.Now()
			if err := a.sync(); err != nil {
				l.fail(err)
				return 0
			}
			w.lastSync = time.Now()
			l.histogram.sync.ObserveTime(w.lastSync.Sub(began))
			wait = l.opts.SyncInterval
		}
	}
	l.mu.Lock()
	limits := l.opts.sealing()
	reqs := l.sealReqs
	if len(l.pending) > 0 || l.staged.size() > 0 {
		reqs = nil // what was appended before Seal is committed first
	} else {
		l.sealReqs = nil
	}
	l.mu.Unlock()

	if len(reqs) > 0 {
		if a := w.segment; a != nil && a.count > 0 {
			l.roll(sealRequest)
		}
		l.retired <- retired{tell: reqs}
	}
	a := w.segment
	if a == nil || a.count == 0 {
		return wait
	}
	if a.Bytes() >= limits.size {
		l.roll(sealSize)
		return wait
	}
	left := limits.age(a.Bytes()) - time.Since(a.since)
	if left <= 0 {
		l.roll(sealAge)
		return wait
	}
	return min(wait, left)
}

// commit writes one frame and tells its appenders.
func (l *Log) commit(c *commit) {
	w := &l.committer
	if a := w.segment; a != nil && a.count > 0 && c.hour() != w.hour {
		l.roll(sealHour)
	}
	a := w.segment
	if a == nil {
		if !l.putDown(c) {
			l.abort(c)
		}
		return
	}
	segment.PutFrame(c.buf, l.logID, l.run, a.first+a.count, c.count)

	began := time.Now()
	err := a.Append(c.buf)
	if err == nil {
		a.unsaved = true
		if l.opts.Sync == SyncAlways {
			written := time.Now()
			err = a.sync()
			l.histogram.sync.ObserveTime(time.Since(written))
		}
	}
	l.histogram.commit.ObserveTime(time.Since(began))
	if l.putDown(c) {
		l.fail(fmt.Errorf("commit of %d records took %v: %w", c.count, time.Since(began).Round(time.Second), errors.Join(errTooLate, err)))
		return
	}
	if err != nil {
		l.fail(fmt.Errorf("commit %d records: %w", c.count, err))
		l.abort(c)
		return
	}
	if a.count == 0 {
		a.since, a.firstAt, w.hour = began, c.firstAt, c.hour()
		if l.opts.Sync == SyncInterval {
			w.lastSync = began
		}
	}
	a.count += uint64(c.count)
	l.histogram.records.Observe(uint64(c.count))
	l.histogram.bytes.Observe(uint64(len(c.buf) - segment.EntryRoom))

	l.mu.Lock()
	for s, n := range c.bySource {
		l.ledger.Door[s].Waiting -= n
		l.ledger.Door[s].Appended += n
	}
	l.ledger.Pending += uint64(c.count)
	l.acked = a.last()
	l.active.bytes, l.active.count, l.active.since = a.Bytes(), a.count, a.since
	l.recycleLocked(c)
	l.checkBoundsLocked()
	l.mu.Unlock()
	if c.count < wakeMany {
		close(c.done)
	} else {
		l.durable <- c
	}
	l.fillOn(a)
}

// wakeMany is the number of records from which on waking their appenders is left
// to another goroutine: it takes about as long as a sync for a thousand of them.
const wakeMany = 16

// wakeAppenders tells appenders that their records are durable.
func (l *Log) wakeAppenders() {
	defer l.done.Done()
	for c := range l.durable {
		close(c.done)
	}
}

// errTooLate says that nobody waits for a commit any more.
var errTooLate = errors.New("its appenders were told that it failed")

// putDown ends the watch over the commit in hand and reports whether it has
// been given up already. Its buffer is free then.
func (l *Log) putDown(c *commit) (given bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writing.commit = nil
	if c.given {
		l.recycleLocked(c)
	}
	return c.given
}

// abort tells the appenders of a commit that it failed.
func (l *Log) abort(c *commit) {
	l.mu.Lock()
	for s, n := range c.bySource {
		l.ledger.Door[s].Waiting -= n
		if n > 0 {
			l.ledger.Door[s].Dropped[ReasonCommitFailed] += n
		}
	}
	c.err = fmt.Errorf("%w: %w", ErrCommitFailed, l.broken)
	if !c.given { // otherwise its buffer is still being written
		l.recycleLocked(c)
	}
	l.mu.Unlock()
	close(c.done)
}

// fail ends the active segment at its last acknowledged record and refuses
// appends until a new one was prepared. A sync is never tried again: the kernel
// may have dropped the pages and would report success.
func (l *Log) fail(err error) {
	w := &l.committer
	a := w.segment
	if a != nil {
		a.failed = true
	}
	w.segment = nil
	w.attempt++
	l.mu.Lock()
	l.broken = err
	l.stats.CommitErrors++
	if a != nil && a.count > 0 {
		l.stats.Seals[sealFailure]++
		l.retireLocked(a)
	}
	l.active.open = false
	l.refuseLocked()
	pending := l.pending
	l.pending = nil
	l.mu.Unlock()
	l.opts.Logger.Error("the log can't be written: usages are refused until the disk works again", "trouble", "commit", "error", err)
	for _, c := range pending {
		l.abort(c)
	}
	l.retired <- retired{segment: a, failed: true, attempt: w.attempt}
}

// retireLocked keeps the books on a segment until it is listed as sealed.
func (l *Log) retireLocked(a *active) {
	l.sealedBytes += a.Bytes()
	l.unsealed = append(l.unsealed, a)
}

// Reasons to seal a segment, for Stats.Seals.
const (
	sealSize     = "size"
	sealAge      = "age"
	sealHour     = "hour"
	sealRequest  = "request"
	sealShutdown = "shutdown"
	sealFailure  = "failure"
)

// roll makes the prepared segment the active one and hands the old one to the
// roller. Nothing waits for the disk here, unless segments are filled faster
// than they can be prepared.
func (l *Log) roll(reason string) {
	w := &l.committer
	var p prepared
	select {
	case p = <-l.next:
	default:
		if reason == sealSize && w.segment.Bytes() < 2*l.segmentSize() {
			return // carry on until the next one is ready
		}
		select {
		case p = <-l.next:
		case err := <-l.nextErr:
			l.fail(err)
			return
		}
	}
	old := w.segment
	if !l.activate(p) {
		return
	}
	l.mu.Lock()
	l.stats.Seals[reason]++
	l.mu.Unlock()
	l.retired <- retired{segment: old, attempt: w.attempt}
}

// adopt takes up work again with a segment prepared after a failure.
func (l *Log) adopt(p prepared) {
	if p.attempt != l.committer.attempt {
		p.segment.Abandon() // prepared before the failure; the roller will replace it
		return
	}
	if l.activate(p) {
		l.opts.Logger.Info("the log can be written again", "trouble", "commit")
		l.retired <- retired{adopted: true, attempt: p.attempt}
	}
}

// activate names the prepared segment for its first seq. Its files are durable
// already, under one name or the other, so this need not be synced before
// records are acknowledged; the roller does it.
func (l *Log) activate(p prepared) bool {
	w := &l.committer
	a := p.segment
	l.mu.Lock()
	a.first = l.acked + 1
	l.mu.Unlock()
	dir := filepath.Join(l.dir, segment.ActiveName(a.first))
	if err := l.disk.RenameNew(a.dir, dir); err != nil {
		a.Abandon()
		l.fail(err)
		return false
	}
	a.dir = dir
	old := w.segment
	w.segment = a
	l.mu.Lock()
	defer l.mu.Unlock()
	if old != nil {
		l.retireLocked(old)
	}
	l.ids.reseed()
	l.broken = nil
	l.active.open = true
	l.active.bytes, l.active.count = a.Bytes(), 0
	l.refuseLocked()
	return true
}

// finish hands the last segment over when the log is closed.
func (l *Log) finish() {
	w := &l.committer
	if w.segment != nil && w.segment.count > 0 {
		l.roll(sealShutdown)
	}
	l.mu.Lock()
	reqs := l.sealReqs
	l.sealReqs = nil
	l.mu.Unlock()
	l.retired <- retired{tell: reqs}
	if w.segment != nil { // empty: its name keeps the next seq
		_ = w.segment.Trim()
		w.segment.Abandon()
	}
}
