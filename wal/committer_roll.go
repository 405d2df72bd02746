package wal

import (
	"errors"
	"io/fs"
	"path/filepath"

	"collectord/wal/segment"
)

// fail ends the active segment at its last acknowledged record and refuses
// appends until a new one was prepared. A sync is never tried again: the kernel
// may have dropped the pages and would report success.
func (k *committer) fail(err error) {
	a := k.segment
	if a != nil {
		a.failed = true
	}
	k.segment = nil
	k.attempt++
	k.shelf.failed(a)
	k.queue.abortPending(err, k.queue.fail(err))
	k.opts.Logger.Error("the log can't be written: usages are refused until the disk works again", "trouble", "commit", "error", err)
	k.rolls.retired <- retired{segment: a, failed: true, attempt: k.attempt}
}

// rollWatched is roll while nothing else is in hand.
func (k *committer) rollWatched(reason string) {
	k.diskWait.begin(nil)
	k.roll(reason)
	k.resume()
}

// resume ends a wait for the disk. What was abandoned, and came back after all, no
// longer makes the log unavailable, unless something failed meanwhile.
func (k *committer) resume() (abandoned bool) {
	abandoned = k.diskWait.end()
	if abandoned && k.segment != nil {
		k.queue.setBroken(nil)
		k.opts.Logger.Info("the disk answers again", "trouble", "commit")
	}
	return abandoned
}

// roll makes the prepared segment the active one and hands the old one to the
// roller. Nothing waits for the disk here, unless segments are filled faster
// than they can be prepared.
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

// adopt takes up work again with a segment prepared after a failure.
func (k *committer) adopt(p prepared) {
	if p.attempt != k.attempt {
		p.segment.Abandon() // prepared before the failure; the roller will replace it
		return
	}
	if k.activate(p) {
		k.opts.Logger.Info("the log can be written again", "trouble", "commit")
		k.rolls.retired <- retired{adopted: true, attempt: p.attempt}
	}
}

// activate names the prepared segment for its first seq. Its files are durable
// already, under one name or the other, so this need not be synced before
// records are acknowledged; the roller does it.
func (k *committer) activate(p prepared) bool {
	a := p.segment
	a.first = k.queue.newSegment()
	dir := filepath.Join(k.dir, segment.ActiveName(a.first))
	err := k.disk.RenameNew(a.dir, dir)
	if errors.Is(err, fs.ErrExist) { // left by a start on a failing disk; nothing in it was acknowledged
		if err = k.shelf.clearActive(dir); err == nil {
			err = k.disk.RenameNew(a.dir, dir)
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

// finish hands the last segment over when the log is closed.
func (k *committer) finish() {
	if k.segment != nil && k.segment.count > 0 {
		k.rollWatched(sealShutdown)
	}
	k.rolls.retired <- retired{seals: k.queue.dueSeals(true)}
	if k.segment != nil { // empty: its name keeps the next seq
		_ = k.segment.Trim()
		k.segment.Abandon()
	}
}
