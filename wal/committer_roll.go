package wal

import (
	"errors"
	"io/fs"
	"path/filepath"

	"collectord/wal/segment"
)

// fail ends the active segment at its last acknowledged record and refuses appends
// until another segment is prepared. No sync is tried again: after a failed one the
// kernel may have dropped the pages, and the next would return success without having
// written them.
func (k *committer) fail(err error) {
	a := k.segment
	if a != nil {
		a.failed = true
	}
	k.segment = nil
	k.attempt++
	k.shelf.failed(a)
	k.queue.abortPending(err, k.queue.fail(err))
	k.opts.Logger.Error("the log can't be written: usages are rejected until the disk works again", "trouble", "commit", "error", err)
	k.rolls.retired <- retired{segment: a, failed: true, attempt: k.attempt}
}

// rollWatched is roll for when no wait for the disk has begun.
func (k *committer) rollWatched(reason string) {
	k.diskWait.begin(nil)
	k.roll(reason)
	k.resume()
}

// resume ends a wait for the disk. If it was abandoned and the disk answered after all,
// the log is available again, unless something failed meanwhile.
func (k *committer) resume() (abandoned bool) {
	abandoned = k.diskWait.end()
	if abandoned && k.segment != nil {
		k.queue.setBroken(nil)
		k.opts.Logger.Info("the disk answers again", "trouble", "commit")
	}
	return abandoned
}

// roll makes the prepared segment the active one and gives the old one to the roller.
// If none is prepared it waits for the roller; for size alone only once the segment has
// twice the size, and until then does nothing.
func (k *committer) roll(reason string) {
	var p prepared
	select {
	case p = <-k.rolls.next:
	default:
		if reason == sealSize && k.segment.Bytes() < 2*k.segment.Limit(k.sealing().size) {
			return // carry on until the next one is ready
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
	k.rolls.retired <- retired{segment: old, attempt: k.attempt}
}

// adopt makes a segment that was prepared after a failure the active one.
func (k *committer) adopt(p prepared) {
	if p.attempt != k.attempt {
		p.segment.Abandon() // prepared before the failure; the roller prepares another
		return
	}
	if k.activate(p) {
		k.opts.Logger.Info("the log can be written again", "trouble", "commit")
		k.rolls.retired <- retired{adopted: true, attempt: p.attempt}
	}
}

// activate renames the prepared segment to its first seq. The rename need not be synced
// before records are acknowledged: a start also finds them in next. The roller syncs it
// before it seals the old segment. That is sealed already after a failure, and nothing
// else would prove records that a crash takes from the beginning of next.
func (k *committer) activate(p prepared) bool {
	a := p.segment
	a.first = k.queue.newSegment()
	dir := filepath.Join(k.dir, segment.ActiveName(a.first))
	rename := k.disk.RenameNew
	if k.segment == nil {
		rename = k.disk.RenameDurably
	}
	err := rename(a.dir, dir)
	if errors.Is(err, fs.ErrExist) { // a failed start left it; nothing in it was acknowledged
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

// finish gives the last segment to the roller when the log is closed. An empty one
// stays, since its name tells the next start the next seq.
func (k *committer) finish() {
	if k.segment != nil && k.segment.count > 0 {
		k.rollWatched(sealShutdown)
	}
	k.rolls.retired <- retired{seals: k.queue.dueSeals(true)}
	if k.segment != nil {
		_ = k.segment.Trim()
		k.segment.Abandon()
	}
}
