package shipper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"collectord/wal"
)

// spool is scratch space for objects on their way. Nothing in it is the only
// copy of anything.
//
// It keeps a reserve: one file whose room on the disk is taken ahead. When
// others fill the disk to the last byte, objects are made in there, one after
// the other, so that shipping goes on, which is what makes room again.
type spool struct {
	dir    string
	size   int64         // of the reserve
	lent   chan struct{} // holds one while the reserve is in use
	ready  atomic.Bool   // the reserve has its room
	logger *slog.Logger
}

const reserveName = "reserve"

// openSpool empties the directory and takes room for the reserve.
func openSpool(dir string, size int64, logger *slog.Logger) (*spool, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	old, err := os.ReadDir(dir)
	for _, e := range old {
		if e.Name() != reserveName {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	s := &spool{dir: dir, size: size, lent: make(chan struct{}, 1), logger: logger}
	if err := s.stock(); err != nil {
		logger.Warn("no room for a reserve: should the disk fill up, shipping may have to wait", "bytes", size, "error", err)
	}
	return s, nil
}

// stock takes the reserve's room, unless it is there.
func (s *spool) stock() error {
	if s.size == 0 || s.ready.Load() {
		return nil
	}
	file, err := os.OpenFile(filepath.Join(s.dir, reserveName), os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := file.Truncate(s.size); err != nil { // left by a daemon with larger segments
		return err
	}
	for {
		err = unix.Fallocate(int(file.Fd()), 0, 0, s.size)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		// Half a reserve would only be in the way.
		return errors.Join(&os.PathError{Op: "fallocate", Path: file.Name(), Err: err}, os.Remove(file.Name()))
	}
	s.ready.Store(true)
	return nil
}

// object compresses a segment. The caller calls done when it needs the object
// no more.
func (s *spool) object(ctx context.Context, c *compressor, seg *wal.Segment, confirmedBelow uint64) (o *Object, done func(), err error) {
	path := filepath.Join(s.dir, seg.String()+".ndjson.zst")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o640)
	if err == nil {
		done = func() {
			file.Close()
			os.Remove(path)
		}
		if o, err = c.compress(seg, confirmedBelow, file); err == nil {
			return o, done, nil
		}
		done()
	}
	if !isFull(err) || !s.ready.Load() {
		return nil, nil, err
	}
	select {
	case s.lent <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, err
	}
	file, err = os.OpenFile(filepath.Join(s.dir, reserveName), os.O_RDWR, 0)
	if err == nil {
		if o, err = c.compress(seg, confirmedBelow, file); err == nil {
			return o, func() { file.Close(); <-s.lent }, nil
		}
		file.Close()
	}
	<-s.lent
	return nil, nil, err
}

func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
