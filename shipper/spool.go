package shipper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/bits"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"collectord/shipper/bucket"
	"collectord/wal"
)

// spool is scratch space for objects on their way. Nothing in it is the only
// copy of anything.
//
// It keeps a reserve: one file whose room on the disk is taken ahead, as much as
// the largest segment of the log has. When others fill the disk to the last byte,
// objects are made in there, one after the other, so that shipping goes on, which
// is what makes room again.
type spool struct {
	dir string
	// need returns the bytes of the largest segment, and what one seldom exceeds; nil:
	// no reserve.
	need   func() (largest, sealedAt int64)
	lent   chan struct{} // holds one while the reserve is in use, or changed
	size   atomic.Int64  // of the reserve; 0 if it has no room
	logger *slog.Logger
}

const (
	reserveName     = "reserve"
	smallestReserve = 64 << 10
)

// spooled matches the names of objects in the spool.
const (
	fiveDigits = "[0-9][0-9][0-9][0-9][0-9]"
	seqDigits  = fiveDigits + fiveDigits + fiveDigits + fiveDigits
	spooled    = seqDigits + "-" + seqDigits + bucket.Suffix
)

// openSpool deletes the objects that an ended process left, and takes room for the
// reserve. The directory may be a link; what else is in it is left alone. Where it
// can't be used, each upload tries again.
func openSpool(dir string, need func() (largest, sealedAt int64), logger *slog.Logger) *spool {
	err := os.MkdirAll(dir, 0o750)
	var others []string
	if err == nil {
		others, err = bucket.RemoveFiles(dir, spooled, nil)
	}
	if err != nil {
		logger.Error("the spool can't be used: nothing is shipped until it can (see to its owner, its mode, or the disk)", "path", dir, "error", err)
	}
	for _, name := range others {
		if name != reserveName {
			logger.Warn("left alone what is not an object on its way: the spool is for collectord alone", "path", filepath.Join(dir, name))
		}
	}
	s := &spool{dir: dir, need: need, lent: make(chan struct{}, 1), logger: logger}
	if err := s.stock(); err != nil {
		logger.Warn("no room for a reserve: should the disk fill up, shipping may have to wait", "error", err)
	}
	return s
}

// create makes a file of the spool, in place of one that was left. What has the
// name and is not a regular file is an error.
func (s *spool) create(name string) (root *os.Root, file *os.File, err error) {
	if err := os.MkdirAll(s.dir, 0o750); err != nil {
		return nil, nil, err
	}
	if root, err = os.OpenRoot(s.dir); err != nil {
		return nil, nil, err
	}
	file, err = root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o640)
	if info, statErr := root.Lstat(name); errors.Is(err, fs.ErrExist) && statErr == nil && info.Mode().IsRegular() {
		if err = root.Remove(name); err == nil {
			file, err = root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o640)
		}
	}
	if err != nil {
		_ = root.Close()
		return nil, nil, err
	}
	return root, file, nil
}

// openReserve opens the reserve, and makes it if flag says so. A link of its name
// is not followed.
func (s *spool) openReserve(flag int) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(s.dir, reserveName), flag|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o640)
	if err != nil {
		return nil, err
	}
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		file.Close()
		return nil, errors.Join(err, fmt.Errorf("%s is not a regular file", file.Name()))
	}
	return file, nil
}

// stock takes the reserve's room, if it is too little for the largest segment, or
// returns what is far too much. It writes nothing.
func (s *spool) stock() error {
	if s.need == nil {
		return nil
	}
	largest, sealedAt := s.need()
	want, have := max(smallestReserve, min(int64(1)<<bits.Len64(uint64(largest)), sealedAt)), s.size.Load()
	if want <= have && have <= 4*want {
		return nil
	}
	select {
	case s.lent <- struct{}{}:
		defer func() { <-s.lent }()
	default:
		return nil // it is in use: the next segment asks again
	}
	file, err := s.openReserve(os.O_CREATE | os.O_RDWR)
	if err != nil {
		return err
	}
	defer file.Close()
	if want < have || have == 0 { // it may be left by a daemon with larger segments
		if err := file.Truncate(want); err != nil {
			return err
		}
	}
	for {
		err = unix.Fallocate(int(file.Fd()), 0, 0, want)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err == nil {
		s.size.Store(want)
		return nil
	}
	err = &os.PathError{Op: "fallocate", Path: file.Name(), Err: err}
	if have > 0 { // what there was is still there
		return errors.Join(err, file.Truncate(have))
	}
	// Half a reserve would only be in the way.
	return errors.Join(err, os.Remove(file.Name()))
}

// object compresses a segment. The caller calls done when it needs the object
// no more.
func (s *spool) object(ctx context.Context, c *compressor, seg *wal.Segment) (o *bucket.Object, done func(), err error) {
	name := seg.String() + bucket.Suffix
	root, file, err := s.create(name)
	if err == nil {
		done = func() {
			file.Close()
			if err := root.Remove(name); err != nil {
				s.logger.Debug("a file of the spool could not be removed: the next start will", "error", err)
			}
			_ = root.Close()
		}
		if o, err = c.compress(seg, file); err == nil {
			return o, done, nil
		}
		done()
	}
	if !isFull(err) || s.size.Load() == 0 {
		return nil, nil, err
	}
	select {
	case s.lent <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, err
	}
	file, err = s.openReserve(os.O_RDWR)
	if err == nil {
		if o, err = c.compress(seg, file); err == nil {
			return o, func() { file.Close(); <-s.lent }, nil
		}
		file.Close()
	}
	<-s.lent
	return nil, nil, err
}

func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
