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
	"time"

	"golang.org/x/sys/unix"

	"collectord/shipper/bucket"
	"collectord/wal"
)

// spool is temporary disk space for compressed objects. All its content can be made
// again.
//
// It has a reserve: a file with preallocated disk space for the log's largest segment.
// When other data fills the disk, objects are written into the reserve, one at a time. So
// shipping continues, which frees disk space again.
type spool struct {
	dir string
	// reserveSizes returns the size in bytes of the largest segment, and a size that segments
	// rarely exceed; nil: no reserve.
	reserveSizes func() (largest, sealedAt int64)
	reserveBusy  chan struct{} // full while the reserve is in use or being resized; capacity 1
	reserveBytes atomic.Int64  // of the reserve; 0: no reserve
	logger       *slog.Logger
}

const (
	reserveName     = "reserve"
	minReserveBytes = 64 << 10
)

// spooledPattern is the pattern of the names of objects in the spool.
const (
	fiveDigits     = "[0-9][0-9][0-9][0-9][0-9]"
	seqDigits      = fiveDigits + fiveDigits + fiveDigits + fiveDigits
	spooledPattern = seqDigits + "-" + seqDigits + bucket.Suffix
)

// openSpool deletes objects that an earlier process left and allocates the reserve. dir
// may be a link; other files in it are left alone. If dir can't be used, each upload
// tries again.
func openSpool(dir string, reserveSizes func() (largest, sealedAt int64), logger *slog.Logger) *spool {
	err := os.MkdirAll(dir, 0o750)
	var others []string
	if err == nil {
		others, err = bucket.RemoveFiles(dir, spooledPattern, nil)
	}
	if err != nil {
		logger.Error("the spool can't be used: nothing is shipped until it can (see to its owner, its mode, or the disk)", "path", dir, "error", err)
	}
	for _, name := range others {
		if name != reserveName {
			logger.Warn("left alone a file that is not an object waiting for upload: the spool is for collectord alone", "path", filepath.Join(dir, name))
		}
	}
	s := &spool{dir: dir, reserveSizes: reserveSizes, reserveBusy: make(chan struct{}, 1), logger: logger}
	if err := s.allocateReserve(); err != nil {
		logger.Warn("no room for a reserve: if the disk fills up, shipping may have to wait", "error", err)
	}
	return s
}

// create creates a file in the spool and replaces an existing regular file. It renames
// anything else that has the name, because only files of the spool may be deleted.
func (s *spool) create(name string) (root *os.Root, file *os.File, err error) {
	if err := os.MkdirAll(s.dir, 0o750); err != nil {
		return nil, nil, err
	}
	if root, err = os.OpenRoot(s.dir); err != nil {
		return nil, nil, err
	}
	file, err = root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o640)
	if info, statErr := root.Lstat(name); errors.Is(err, fs.ErrExist) && statErr == nil {
		if info.Mode().IsRegular() {
			err = root.Remove(name)
		} else {
			s.logger.Warn("renamed an entry of the spool that is not a file: the spool is for collectord alone", "path", filepath.Join(s.dir, name))
			err = root.Rename(name, fmt.Sprintf("%s.aside-%d", name, time.Now().UnixNano()))
		}
		if err == nil {
			file, err = root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o640)
		}
	}
	if err != nil {
		_ = root.Close()
		return nil, nil, err
	}
	return root, file, nil
}

// openReserve opens the reserve, with os.O_CREATE in flag if it may be missing. It does
// not follow a link.
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

// allocateReserve allocates the reserve if it is too small for the largest segment, and shrinks it
// if it is more than four times too large. It writes no data.
func (s *spool) allocateReserve() error {
	if s.reserveSizes == nil {
		return nil
	}
	largest, sealedAt := s.reserveSizes()
	want, have := max(minReserveBytes, min(int64(1)<<bits.Len64(uint64(largest)), sealedAt)), s.reserveBytes.Load()
	if want <= have && have <= 4*want {
		return nil
	}
	select {
	case s.reserveBusy <- struct{}{}:
		defer func() { <-s.reserveBusy }()
	default:
		return nil // in use: the next segment calls allocateReserve again
	}
	file, err := s.openReserve(os.O_CREATE | os.O_RDWR)
	if err != nil {
		return err
	}
	defer file.Close()
	if want < have || have == 0 { // the file may be larger: an earlier process may have had larger segments
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
		s.reserveBytes.Store(want)
		return nil
	}
	err = &os.PathError{Op: "fallocate", Path: file.Name(), Err: err}
	if have > 0 { // the old reserve still exists
		return errors.Join(err, file.Truncate(have))
	}
	// A partial reserve would only use disk space.
	return errors.Join(err, os.Remove(file.Name()))
}

// compress compresses a segment into a file, or into the reserve if the disk is full. The
// caller calls done when it no longer needs the object.
func (s *spool) compress(ctx context.Context, c *compressor, seg *wal.Segment) (o *bucket.Object, done func(), err error) {
	name := seg.String() + bucket.Suffix
	root, file, err := s.create(name)
	if err == nil {
		done = func() {
			file.Close()
			if err := root.Remove(name); err != nil {
				s.logger.Debug("a file of the spool could not be removed: the next start tries again", "error", err)
			}
			_ = root.Close()
		}
		if o, err = c.compress(seg, file); err == nil {
			return o, done, nil
		}
		done()
	}
	if !isFull(err) || s.reserveBytes.Load() == 0 {
		return nil, nil, err
	}
	select {
	case s.reserveBusy <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, err
	}
	file, err = s.openReserve(os.O_RDWR)
	if err == nil {
		if o, err = c.compress(seg, file); err == nil {
			return o, func() { file.Close(); <-s.reserveBusy }, nil
		}
		file.Close()
	}
	<-s.reserveBusy
	return nil, nil, err
}

func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
