package wal

import (
	"errors"
	"io/fs"
	"path/filepath"

	"collectord/wal/segment"
)

// fail ends the active segment at its last acknowledged record, and refuses appends
// until another segment is prepared. No sync is retried: after a failed sync the kernel
// may have dropped the pages, and the next one would succeed without having written
// them. failed are the commits that it could not write. Their appenders get err only once
// appends are refused: whoever has it then waits for Full, not for a second failure.
func (k *committer) fail(err error, failed ...*commit) {
	a := k.segment
	if a != nil {
		a.failed = true
	}
	k.segment = nil
	k.failures++
	k.shelf.commitFailed(a)
	k.queue.abortAll(err, append(failed, k.queue.fail(err)...))
	k.opts.Logger.Error("the log can't be written: usages are rejected until the disk works again", "trouble", "commit", "error", err)
	k.rolls.retired <- retired{segment: a, failed: true, failures: k.failures}
}

// rollWatched is roll for a caller that has not begun a wait for the disk.
func (k *committer) rollWatched(reason string) {
	k.diskWait.begin(nil)
	k.roll(reason)
	k.resume()
}

// resume ends a wait for the disk. If the wait was abandoned and the disk answered
// after all, the log becomes available again, unless a failure came in between.
func (k *committer) resume() (abandoned bool) {
	abandoned = k.diskWait.end()
	if abandoned && k.segment != nil {
		k.queue.setBroken(nil)
		k.opts.Logger.Info("the disk answers again", "trouble", "commit")
	}
	return abandoned
}

// roll makes the prepared segment the active one and passes the old one to the roller.
// If none is prepared, roll waits for the roller. If the reason is size alone, it waits
// only once the segment has twice that size, and otherwise does nothing.
func (k *committer) roll(reason string) {
	var p prepared
	select {
	case p = <-k.rolls.next:
	default:
		if reason == sealedBySize && k.segment.Bytes() < 2*k.segment.Limit(k.sealing().size) {
			return // a larger segment is better than a wait
		}
		select {
		case p = <-k.rolls.next:
		case err := <-k.rolls.failed:
			k.fail(err)
			return
		}
	}
	old := k.segment
	if !k.activate(p) {
		return
	}
	k.shelf.countSeal(reason)
	k.rolls.retired <- retired{segment: old, failures: k.failures}
}

// adopt activates a segment that the roller prepared at the start or after a failure.
func (k *committer) adopt(p prepared) {
	k.takeTurn()
	defer k.endTurn()
	if p.failures != k.failures {
		p.segment.Abandon() // prepared before the failure; the roller prepares another
		return
	}
	if k.activate(p) {
		k.opts.Logger.Info("the log can be written again", "trouble", "commit")
		k.rolls.retired <- retired{adopted: true, failures: p.failures}
	}
}

// activate renames the prepared segment to its first seq. While there is an old
// segment, the rename need not be synced before records are acknowledged: a start also
// finds records in next, and the roller syncs the rename before it seals the old
// segment. At the start and after a failure there is no old segment to seal, so
// activate syncs the rename. Otherwise no name would prove records that a crash takes
// from the beginning of next.
func (k *committer) activate(p prepared) bool {
	a := p.segment
	a.first = k.queue.newSegment()
	dir := filepath.Join(k.dir, segment.ActiveName(a.first))
	rename := k.disk.RenameNew
	if k.segment == nil {
		rename = k.disk.RenameDurably
	}
	err := rename(a.dir, dir)
	if errors.Is(err, fs.ErrExist) { // a failed start left it; none of its records were acknowledged
		if err = k.shelf.clearActive(dir); err == nil {
			err = rename(a.dir, dir)
		}
	}
	if err != nil {
		a.Abandon()
		k.fail(err)
		return false
	}
	a.dir = dir
	k.shelf.activated(a, k.segment)
	k.segment = a
	k.queue.setBroken(nil)
	return true
}

// finish passes the last segment to the roller when the log is closed. An empty one
// stays, since its name gives the next start the next seq.
func (k *committer) finish() {
	if k.segment != nil && k.segment.count > 0 {
		k.rollWatched(sealedByShutdown)
	}
	k.rolls.retired <- retired{seals: k.queue.dueSeals(true)}
	if k.segment != nil {
		_ = k.segment.Trim()
		k.segment.Abandon()
		k.segment = nil // Commit may still be called
	}
}
