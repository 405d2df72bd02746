package wal

import (
	"errors"
	"fmt"
	"log/slog"
	"syscall"
	"time"

	"collectord/wal/vfs"
)

// A start brings the log directory into the state of a clean shutdown. Each of its
// steps can be interrupted and is done again by the next start. So a start that
// fails is done again from its beginning by the same process, with growing delays,
// while appends are refused: a disk that fails during the start is one that fails
// later.
//
// What can't be read or renamed must not keep the rest from being shipped. So the
// tolerance of a start grows with its failures.

// tolerance says which errors about one entry of the log directory end a start.
type tolerance int

const (
	failOnAny     tolerance = iota // all of them
	skipPermanent                  // those that may pass by themselves
	skipAny                        // none: the entry is left where it is
)

// startsBeforeSkipping is how many starts wait for an error to pass.
const startsBeforeSkipping = 2

// passes reports whether err may be over by itself, or once somebody sees to the
// disk.
func isTransient(err error) bool {
	for _, errno := range []syscall.Errno{
		syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.EROFS, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ESTALE,
		syscall.EINTR, syscall.EAGAIN, syscall.EBUSY, syscall.ETIMEDOUT, syscall.ENODEV, syscall.ENOTCONN, syscall.EUCLEAN,
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// start makes the log usable, now or later. An error is about the data directory
// itself.
func (l *Log) start() error {
	err := l.tryStart()
	switch {
	case err == nil:
		l.work()
	case l.lock == nil && !isTransient(err):
		return fmt.Errorf("data directory: %w", err)
	default:
		l.opts.Logger.Error("the log can't be started: usages are refused until the disk works again", "trouble", "start", "error", err)
		l.queue.setBroken(err)
		l.done.Go(l.keepStarting)
	}
	return nil
}

// keepStarting starts the log as soon as that is possible.
func (l *Log) keepStarting() {
	var delay time.Duration
	for {
		delay = l.probeDelay(delay)
		select {
		case <-l.closing:
			return
		case <-time.After(delay):
		}
		if err := l.tryStart(); err != nil {
			l.opts.Logger.Error("the log can't be started: usages are refused until the disk works again", "trouble", "start", "error", err)
			l.queue.setBroken(err)
			continue
		}
		l.opts.Logger.Info("the log is started", "trouble", "start", "log_id", fmt.Sprintf("%016x", l.logID))
		l.work()
		return
	}
}

// work sets off the goroutines.
func (l *Log) work() {
	if l.committer.segment != nil {
		l.queue.setBroken(nil) // not before somebody commits, and watches
	}
	l.done.Go(l.committer.run)
	l.done.Go(l.committer.wakeAppenders)
	l.done.Go(l.committer.watch)
	l.done.Go(l.committer.writeZeros)
	l.done.Go(l.roller.run)
	l.done.Go(l.shelf.run)
}

// tryStart is a start from its beginning. An error that won't pass is met a second
// time before the start goes on without what it is about.
func (l *Log) tryStart() error {
	err := l.startOnce()
	if err != nil && !isTransient(err) && l.lock != nil && l.tolerance == failOnAny {
		l.tolerance = skipPermanent
		err = l.startOnce()
	}
	if err != nil {
		if l.failedStarts++; l.failedStarts >= startsBeforeSkipping {
			l.tolerance = skipAny
		}
	}
	return err
}

func (l *Log) startOnce() error {
	if l.lock == nil {
		if err := l.disk.MkdirDurably(l.dataDir); err != nil {
			return err
		}
		lock, err := lockDir(l.disk, l.dataDir)
		if err != nil {
			return err
		}
		l.lock = lock
	}
	l.leftovers, l.gone, l.unnamed = nil, nil, false
	l.queue.reset()
	l.shelf.reset()
	l.losses.reset()
	l.aside.reset()
	if err := errors.Join(l.clearPlace(l.dir), l.disk.MkdirDurably(l.dir)); err != nil {
		return fmt.Errorf("log directory: %w", err)
	}
	nextSeq, err := l.recoverDir()
	if err != nil {
		return fmt.Errorf("recover log: %w", err)
	}
	l.queue.setNextSeq(nextSeq)
	l.shelf.active.next = nextSeq
	if err := l.begin(); err != nil {
		l.beginLater(fmt.Errorf("begin a segment: %w", err))
	}
	l.logSegmentSize()
	l.shelf.checkDisk()
	l.tolerance = skipAny // what is put aside from now on need not wait for another start
	l.started.Store(true)
	l.shelf.announce()
	return nil
}

// Started reports whether the log knows what is in its directory, as it does once
// the disk has let it start.
func (l *Log) Started() bool { return l.started.Load() }

// clearPlace moves away what is in the place of a directory and is none. A link is
// followed: somebody wants what is in the directory to be elsewhere.
func (l *Log) clearPlace(dir string) error {
	info, err := l.disk.Stat(dir)
	if err != nil || info.IsDir() || vfs.IsLink(info) {
		return nil //nolint:nilerr // what fails will fail again
	}
	l.found(FoundStray, slog.LevelWarn, "moved away what is not part of a log: it was in the place of a directory", "path", dir)
	return l.disk.RenameDurably(dir, l.asidePath(dir))
}
