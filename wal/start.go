package wal

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"syscall"
	"time"

	"collectord/wal/vfs"
)

// A start brings the log directory into the state of a clean shutdown. Each step can be
// interrupted, and the next start repeats it. So if a start fails, the same process repeats
// it from the beginning, with growing delays, and refuses appends meanwhile.
//
// An entry that can't be read or renamed must not keep the rest from being shipped. So the
// tolerance of a start grows with its failures.

// tolerance is which errors about a single entry of the log directory end a start.
type tolerance int

const (
	failOnAny     tolerance = iota // every error
	skipPermanent                  // transient errors; an entry with any other error is put aside or left
	skipAny                        // no error; every entry with an error is put aside or left
)

// startsBeforeSkipping is how many starts fail with a transient error before the start
// skips the entry with that error.
const startsBeforeSkipping = 2

// isTransient reports whether err may end by itself, or after a repair of the disk or with
// more free space.
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

// starting is the state that Open shares with the goroutine that starts the log and the one
// that watches it.
type starting struct {
	mu       sync.Mutex // guards the fields below
	result   chan error // the result of Open; buffers one, and is nil once the result is decided
	refusing bool       // usages are rejected
	finished bool       // the log has started
}

// decide makes Open return err, unless the result is already decided.
func (s *starting) decide(err error) (decided bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.result == nil {
		return false
	}
	s.result <- err
	s.result = nil
	return true
}

// start begins to start the log, and returns once it is started or has to refuse appends.
// An error concerns the data directory itself.
func (l *Log) start() error {
	result, ended := make(chan error, 1), make(chan struct{})
	l.starting.result = result
	l.done.Go(func() { defer close(ended); l.keepStarting() })
	l.done.Go(func() { l.watchStart(ended) })
	return <-result
}

// keepStarting repeats the start until it succeeds, the data directory turns out to be
// unusable, or the log closes.
func (l *Log) keepStarting() {
	var delay time.Duration
	for {
		err := l.tryStart()
		switch {
		case err == nil:
			l.startLoops()
			l.starting.decide(nil)
			return
		case l.lock == nil && !isTransient(err) && l.starting.decide(fmt.Errorf("data directory: %w", err)):
			return
		}
		l.refuseUntilStarted(err)
		delay = l.probeDelay(delay)
		select {
		case <-l.closing:
			return
		case <-time.After(delay):
		}
	}
}

// refuseUntilStarted refuses appends until the log has started, and makes Open return.
func (l *Log) refuseUntilStarted(why error) {
	s := &l.starting
	s.mu.Lock()
	finished := s.finished
	if !finished {
		s.refusing = true
		l.queue.setBroken(why)
	}
	s.mu.Unlock()
	if !finished {
		l.opts.Logger.Error("the log can't be started: usages are rejected until the disk works again", "trouble", "start", "error", why)
		s.decide(nil)
	}
}

// watchStart is the goroutine that makes Open return while the disk does not answer. The
// start continues once the disk answers.
func (l *Log) watchStart(ended <-chan struct{}) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	var reported vfs.Call
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
		}
		if hung := l.checkHang(); hung != nil && hung.call != reported {
			reported = hung.call
			l.refuseUntilStarted(hung)
		}
	}
}

func (l *Log) startLoops() {
	s := &l.starting
	s.mu.Lock()
	s.finished = true // from here on committer.watch detects a hanging disk
	refused := s.refusing
	s.mu.Unlock()
	if refused {
		l.opts.Logger.Info("the log is started", "trouble", "start", "log_id", fmt.Sprintf("%016x", l.logID))
	}
	if l.committer.segment != nil {
		l.queue.setBroken(nil) // appends are accepted only now, because the committer and its watch start here
	}
	l.committer.endTurn()
	l.done.Go(l.committer.run)
	l.done.Go(l.committer.wakeAppenders)
	l.done.Go(l.committer.watch)
	l.done.Go(l.committer.writeZeros)
	l.done.Go(l.roller.run)
	l.done.Go(l.shelf.run)
}

// tryStart runs one start from the beginning. After the first permanent error it runs the
// start again, which then skips the entry with that error.
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
	if err := l.findLaterVersion(); err != nil {
		return err
	}
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
	l.leftovers, l.goneNames, l.identityUnsaved, l.doubt, l.leftNext = nil, nil, false, nil, ""
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
	l.shelf.active.nextSeq = nextSeq
	l.tolerance = skipAny // from here on a failure to put an entry aside must not wait for another start
	if err := l.begin(); err != nil {
		l.beginLater(fmt.Errorf("begin a segment: %w", err))
	}
	l.logSegmentSize()
	l.shelf.checkDisk()
	l.started.Store(true)
	l.shelf.announce()
	return nil
}

// Started reports whether the log has recovered its directory.
func (l *Log) Started() bool { return l.started.Load() }

// clearPlace renames a file that has the name of a directory. It keeps a symbolic link,
// because an administrator may have moved the directory.
func (l *Log) clearPlace(dir string) error {
	info, err := l.disk.Stat(dir)
	if err != nil || info.IsDir() || vfs.IsLink(info) {
		return nil //nolint:nilerr // the next use of dir reports the error
	}
	l.reportFinding(FoundStray, slog.LevelWarn, "renamed an entry that is not part of a log: it was in the place of a directory", "path", dir)
	return l.disk.RenameDurably(dir, l.asidePath(dir))
}
