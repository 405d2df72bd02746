package wal

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"collectord/wal/segment"
)

// prepared is a segment that is ready to become the active one.
type prepared struct {
	segment *active
	attempt uint64 // the committer's, when it was asked for
}

// retired is what the committer hands to the roller.
type retired struct {
	segment *active // nothing is added to it any more; may be nil
	failed  bool    // after a failed write or sync
	adopted bool    // the prepared segment was taken after a failure: make another
	attempt uint64
	tell    []chan error // of Seal: told once everything before is sealed
}

// roller is the state of the goroutine that seals segments and prepares the
// next one.
type roller struct {
	log      *Log
	unsealed []*active // whose sealing failed, oldest first
	recent   recentSizes
	wanted   bool // a prepared segment
	attempt  uint64
	delay    time.Duration // before the last retry; 0 once a whole segment was written
	waiting  bool          // a retry is due
	failing  struct{ prepare, seal bool }
}

// runRoller works until the committer is done.
func (l *Log) runRoller() {
	defer l.done.Done()
	r := &roller{log: l, wanted: true, waiting: true, recent: l.recentSizes()}
	retry := time.NewTimer(0) // prepares the first spare at once
	defer retry.Stop()
	idle := time.NewTicker(pulseInterval)
	defer idle.Stop()
	defer l.pulse.stop(rolling)
	for {
		l.pulse.beat(rolling)
		ok := true
		select {
		case <-idle.C:
			continue
		case job, open := <-l.retired:
			if !open {
				return
			}
			r.take(job)
			ok = !job.failed // after a failure the disk is probed, but not at once
			if ok && r.waiting {
				continue
			}
		case <-retry.C:
			r.waiting = false
		}
		if ok && r.work() {
			continue
		}
		r.delay = l.probeDelay(r.delay)
		r.waiting = true
		retry.Reset(r.delay)
	}
}

// take notes what the committer handed over and seals it.
func (r *roller) take(job retired) {
	if job.segment != nil || job.failed || job.adopted {
		r.wanted = true
		r.attempt = job.attempt
	}
	if job.adopted {
		r.log.discardEmptied()
	}
	if job.segment != nil {
		r.unsealed = append(r.unsealed, job.segment)
		r.recent.add(job.segment.Bytes())
		if !job.failed {
			r.delay = 0 // a whole segment was written since the last failure
		}
		r.seal()
	}
	for _, done := range job.tell {
		if len(r.unsealed) > 0 {
			done <- errors.New("the segment could not be sealed yet")
			continue
		}
		done <- nil
	}
}

// work does what is outstanding and reports whether that is all done.
func (r *roller) work() bool {
	r.seal()
	if r.wanted {
		if err := r.prepare(); err != nil {
			r.failing.prepare = true
			r.log.opts.Logger.Error("can't prepare the next segment", "trouble", "prepare", "error", err)
			select {
			case r.log.nextErr <- err:
			default:
			}
			return false
		}
		if r.failing.prepare {
			r.failing.prepare = false
			r.log.opts.Logger.Info("the next segment is prepared", "trouble", "prepare")
		}
	}
	return len(r.unsealed) == 0
}

// prepare makes the next segment and offers it to the committer.
func (r *roller) prepare() error {
	l := r.log
	select {
	case stale := <-l.next:
		stale.segment.Abandon()
	default:
	}
	dir := filepath.Join(l.dir, nextName)
	a, err := l.createNext(dir, r.recent)
	if err != nil {
		return err
	}
	select {
	case <-l.nextErr: //nolint:errcheck // no longer true
	default:
	}
	r.wanted = false
	l.next <- prepared{a, r.attempt} // has room: only this goroutine sends
	return nil
}

// seal gives retired segments their final names, oldest first.
func (r *roller) seal() {
	for len(r.unsealed) > 0 {
		a := r.unsealed[0]
		if err := r.log.seal(a); err != nil {
			r.failing.seal = true
			r.log.opts.Logger.Error("can't seal a segment: it is kept and tried again", "trouble", "seal", "segment", a.dir, "error", err)
			return
		}
		r.unsealed = r.unsealed[1:]
	}
	if r.failing.seal {
		r.failing.seal = false
		r.log.opts.Logger.Info("segments are sealed again", "trouble", "seal")
	}
}

// seal makes a segment durable, with everything its name will claim, and hands
// it to whoever watches Sealed.
func (l *Log) seal(a *active) error {
	if a.count == 0 { // failed before its first commit: its name must not stay in the way
		a.Abandon()
		return l.empty(a.dir)
	}
	if a.unsaved {
		if err := a.sync(); err != nil {
			// Acknowledged by SyncInterval, and perhaps lost; what is not there
			// is found out when the segment is read.
			l.opts.Logger.Error("can't sync a segment before sealing it", "trouble", "late_sync", "segment", a.dir, "error", err)
			a.failed = true
		}
	}
	if !a.failed {
		if err := a.Trim(); err != nil {
			l.opts.Logger.Warn("can't cut the unused end off a segment: it takes more room than it needs", "trouble", "trim", "segment", a.dir, "error", err)
		}
	}
	// The successor took its name by a rename that is made durable only here:
	// no segment is sealed before the one that carries on is there to stay.
	if err := l.disk.SyncDir(l.dir); err != nil {
		return err
	}
	dir := filepath.Join(l.dir, segment.SealedName(a.first, a.last()))
	if a.dir != dir { // otherwise only its name was not durable yet
		if err := l.disk.RenameNew(a.dir, dir); err != nil {
			return err
		}
		a.dir = dir
	}
	if err := l.disk.SyncDir(l.dir); err != nil {
		return fmt.Errorf("sync after sealing: %w", err)
	}
	if err := a.release(); err != nil {
		l.opts.Logger.Warn("closing a sealed segment failed: its records are synced all the same", "trouble", "close", "segment", dir, "error", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unsealed = slices.DeleteFunc(l.unsealed, func(other *active) bool { return other == a })
	l.addSealedLocked(&Segment{
		log: l, dir: dir, first: a.first, last: a.last(), bytes: a.Bytes(),
		sealedAt: time.Now(), since: a.since, firstAt: a.firstAt,
	})
	close(l.sealedMore)
	l.sealedMore = make(chan struct{})
	return nil
}

// addSealedLocked lists a segment in its place.
func (l *Log) addSealedLocked(s *Segment) {
	at, _ := slices.BinarySearchFunc(l.sealed, s.first, func(other *Segment, first uint64) int { return cmp.Compare(other.first, first) })
	l.sealed = slices.Insert(l.sealed, at, s)
}
