package wal

import (
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
	seals   []chan error // of requests: told once everything before is sealed
}

// rolls is what committer and roller exchange.
type rolls struct {
	next    chan prepared // from the roller; holds one
	failed  chan error    // from the roller, when preparing failed; holds one
	retired chan retired  // to the roller
}

func newRolls() *rolls {
	return &rolls{next: make(chan prepared, 1), failed: make(chan error, 1), retired: make(chan retired, 4)}
}

// roller is the goroutine that seals segments and prepares the next one, so that no
// append waits for that. The committer hands it segments to which nothing is added
// any more. It owes it one prepared segment after each, or the reason why there is
// none; and it seals them oldest first, each with its name durable before the shelf
// lists it. What fails is tried again with growing delays. A request to seal is
// answered once all before it are sealed.
type roller struct {
	*base
	shelf *shelf
	rolls *rolls

	unsealed []*active // whose sealing failed, oldest first
	recent   recentSizes
	wanted   bool // a prepared segment
	attempt  uint64
	delay    time.Duration // before the last retry; 0 once a whole segment was written
	waiting  bool          // a retry is due
	failing  struct{ prepare, seal bool }
}

// run works until the committer is done.
func (r *roller) run() {
	r.wanted, r.waiting, r.recent = true, true, r.shelf.recentSizes()
	retry := time.NewTimer(0) // prepares the first spare at once
	defer retry.Stop()
	idle := time.NewTicker(heartbeatInterval)
	defer idle.Stop()
	defer r.heartbeat.stop(rolling)
	for {
		r.heartbeat.beat(rolling)
		ok := true
		select {
		case <-idle.C:
			continue
		case job, open := <-r.rolls.retired:
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
		r.delay = r.probeDelay(r.delay)
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
		r.shelf.deleteTombstones()
	}
	if job.segment != nil {
		r.unsealed = append(r.unsealed, job.segment)
		r.recent.add(job.segment.Bytes())
		if !job.failed {
			r.delay = 0 // a whole segment was written since the last failure
		}
		r.seal()
	}
	for _, done := range job.seals {
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
	// One without records has the name that the next segment gets.
	if slices.ContainsFunc(r.unsealed, func(a *active) bool { return a.count == 0 }) {
		return false
	}
	if r.wanted {
		if err := r.prepare(); err != nil {
			r.failing.prepare = true
			r.opts.Logger.Error("can't prepare the next segment", "trouble", "prepare", "error", err)
			select {
			case r.rolls.failed <- err:
			default:
			}
			return false
		}
		if r.failing.prepare {
			r.failing.prepare = false
			r.opts.Logger.Info("the next segment is prepared", "trouble", "prepare")
		}
	}
	return len(r.unsealed) == 0
}

// prepare makes the next segment and offers it to the committer.
func (r *roller) prepare() error {
	select {
	case stale := <-r.rolls.next:
		stale.segment.Abandon()
	default:
	}
	dir := filepath.Join(r.dir, nextName)
	a, err := r.createNext(dir)
	if err != nil {
		return err
	}
	select {
	case <-r.rolls.failed: //nolint:errcheck // no longer true
	default:
	}
	r.wanted = false
	r.rolls.next <- prepared{a, r.attempt} // has room: only this goroutine sends
	return nil
}

// seal gives retired segments their final names, oldest first.
func (r *roller) seal() {
	for len(r.unsealed) > 0 {
		a := r.unsealed[0]
		if err := r.sealOne(a); err != nil {
			r.failing.seal = true
			r.opts.Logger.Error("can't seal a segment: it is kept and tried again", "trouble", "seal", "segment", a.dir, "error", err)
			return
		}
		r.unsealed = r.unsealed[1:]
	}
	if r.failing.seal {
		r.failing.seal = false
		r.opts.Logger.Info("segments are sealed again", "trouble", "seal")
	}
}

// sealOne makes a segment durable, with everything its name will claim, and has
// the shelf list it.
func (r *roller) sealOne(a *active) error {
	if a.count == 0 { // failed before its first commit: its name must not stay in the way
		a.Abandon()
		return r.shelf.makeTombstone(a.dir)
	}
	r.reportCopies(a.Writer) // also what turned out later than at its first entry
	if a.unsaved {
		if err := a.sync(); err != nil {
			// Acknowledged by SyncInterval, and perhaps lost; what is not there
			// is found out when the segment is read.
			r.opts.Logger.Error("can't sync a segment before sealing it", "trouble", "late_sync", "segment", a.dir, "error", err)
			a.failed = true
		}
	}
	if err := a.trim(); err != nil {
		r.opts.Logger.Warn("can't cut the unused end off a segment: it takes more room than it needs", "trouble", "trim", "segment", a.dir, "error", err)
	}
	// The successor took its name by a rename that is made durable only here:
	// no segment is sealed before the one that carries on is there to stay.
	if err := r.disk.SyncDir(r.dir); err != nil {
		return err
	}
	dir := filepath.Join(r.dir, segment.SealedName(a.first, a.last()))
	if a.dir != dir { // otherwise only its name was not durable yet
		if err := r.disk.RenameNew(a.dir, dir); err != nil {
			return err
		}
		a.dir = dir
	}
	if err := r.disk.SyncDir(r.dir); err != nil {
		return fmt.Errorf("sync after sealing: %w", err)
	}
	if err := a.close(); err != nil {
		r.opts.Logger.Warn("closing a sealed segment failed: its records are synced all the same", "trouble", "close", "segment", dir, "error", err)
	}
	r.shelf.add(a)
	return nil
}
