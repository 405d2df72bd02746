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
	segment  *active
	failures uint64 // the committer's number of failures when it requested the segment
}

// retired is a message from the committer to the roller.
type retired struct {
	segment  *active // segment to seal, to which nothing is written any more; may be nil
	failed   bool    // after a failed write or sync
	adopted  bool    // the committer adopted a segment after a failure: prepare another
	failures uint64
	seals    []chan error // requests to seal, answered after an attempt to seal all earlier segments
}

// rolls is the channels between committer and roller.
type rolls struct {
	next    chan prepared // from the roller; buffers one
	failed  chan error    // from the roller, why it could not prepare a segment; buffers one
	retired chan retired  // to the roller
}

func newRolls() *rolls {
	return &rolls{next: make(chan prepared, 1), failed: make(chan error, 1), retired: make(chan retired, 4)}
}

// roller is the goroutine that seals segments and prepares the next one, so that no
// append waits for either. The committer passes each segment to the roller after its last write.
// For each segment that it receives, the roller prepares another one, or sends the reason why it
// can't. It seals segments oldest first, and the shelf lists a segment only once its name is
// durable. The roller retries what fails, with growing delays. It answers a request to seal after
// one attempt to seal all earlier segments.
type roller struct {
	*base
	shelf *shelf
	rolls *rolls

	unsealed []*active // segments to seal, oldest first
	recent   recentSizes
	wanted   bool // a segment must be prepared
	failures uint64
	delay    time.Duration // before the pending or last retry; 0 once a whole segment was written
	waiting  bool          // a retry is pending
	failing  struct{ prepare, seal bool }
}

// run works until the committer has ended.
func (r *roller) run() {
	r.wanted, r.waiting, r.recent = true, true, r.shelf.recentSizes()
	retry := time.NewTimer(0) // fires at once, to prepare the first segment
	defer retry.Stop()
	idle := time.NewTicker(idleInterval)
	defer idle.Stop()
	defer r.rounds.end(loopRoller)
	for {
		r.rounds.begin(loopRoller)
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

// take handles a message of the committer: it seals the segment and answers the
// requests to seal.
func (r *roller) take(job retired) {
	if job.segment != nil || job.failed || job.adopted {
		r.wanted = true
		r.failures = job.failures
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

// work seals and prepares what is due. It returns false if a part of that must be
// retried.
func (r *roller) work() bool {
	r.seal()
	// A segment without records has the name that the next segment needs.
	if slices.ContainsFunc(r.unsealed, func(a *active) bool { return a.count == 0 }) {
		return false
	}
	if r.wanted {
		if err := r.prepare(); err != nil {
			r.failing.prepare = true
			r.opts.Logger.Error("can't prepare the next segment: this is tried again", "trouble", "prepare", "error", err)
			select {
			case r.rolls.failed <- err:
			default:
			}
			return false
		}
	}
	return len(r.unsealed) == 0
}

// prepare creates the next segment and offers it to the committer, in place of an
// earlier one.
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
	case <-r.rolls.failed: //nolint:errcheck // an error of an earlier attempt
	default:
	}
	r.wanted = false
	if r.failing.prepare { // reported before the committer has the segment and accepts records
		r.failing.prepare = false
		r.opts.Logger.Info("the next segment is prepared", "trouble", "prepare")
	}
	r.rolls.next <- prepared{a, r.failures} // can't block: only this goroutine sends, and the buffer is empty
	return nil
}

// seal seals the retired segments, oldest first.
func (r *roller) seal() {
	for len(r.unsealed) > 0 {
		a := r.unsealed[0]
		if err := r.sealOne(a); err != nil {
			r.failing.seal = true
			r.opts.Logger.Error("can't seal a segment: this is tried again", "trouble", "seal", "segment", a.dir, "error", err)
			return
		}
		r.unsealed = r.unsealed[1:]
	}
	if r.failing.seal {
		r.failing.seal = false
		r.opts.Logger.Info("segments are sealed again", "trouble", "seal")
	}
}

// sealOne makes a segment durable under its sealed name, and passes it to the shelf.
func (r *roller) sealOne(a *active) error {
	if a.count == 0 { // failed before its first commit, so the next segment needs its name
		a.Abandon()
		return r.shelf.makeTombstone(a.dir)
	}
	r.reportCopies(a.Writer) // the log library may have begun to copy after the first entry
	if a.unsynced {
		if err := a.sync(); err != nil {
			// Its records were acknowledged before this sync and may be lost. Reading
			// the segment finds what is missing.
			r.opts.Logger.Error("can't sync a segment before sealing it: its last records may be lost", "trouble", "late_sync", "segment", a.dir, "error", err)
			a.failed = true
		}
	}
	if err := a.trim(); err != nil {
		r.opts.Logger.Warn("can't cut the unused end off a segment: it takes more space than it needs", "trouble", "trim", "segment", a.dir, "error", err)
	}
	// The committer renamed the next segment without a sync. That name must be durable
	// before this segment is sealed.
	if err := r.disk.SyncDir(r.dir); err != nil {
		return err
	}
	dir := filepath.Join(r.dir, segment.SealedName(a.first, a.last()))
	if a.dir != dir { // otherwise an earlier attempt has renamed it
		if err := r.disk.RenameNew(a.dir, dir); err != nil {
			return err
		}
		a.dir = dir
	}
	if err := r.disk.SyncDir(r.dir); err != nil {
		return fmt.Errorf("sync after sealing: %w", err)
	}
	if err := a.close(); err != nil {
		r.opts.Logger.Warn("can't close a sealed segment: its records are synced nevertheless", "trouble", "close", "segment", dir, "error", err)
	}
	r.shelf.add(a)
	return nil
}
