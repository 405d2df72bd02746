package bucket

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// folder stores objects in a directory.
type folder struct {
	root  string
	owner string // log id of the collector that puts; empty: none, or not known
	calls nameCalls

	opened     chan struct{} // closed after prepare has returned
	prepareMu  sync.Mutex    // guards the fields below after opened is closed
	prepareErr error         // result of prepare, valid after opened is closed
	device     uint64        // of the file system of root, as prepare found it

	mu      sync.Mutex      // guards the fields below
	durable map[string]bool // directories whose entries in their parents are synced
}

// openTimeout is how long newFolder waits for a disk to open a folder. After that, Put
// waits.
const openTimeout = 5 * time.Second

// newFolder opens a folder for the collector whose log id is owner, and creates it if
// needed. If the disk does not answer, opening continues in the background and Put waits
// for it. After an error, Put tries again.
func newFolder(root, owner string) (*folder, error) {
	s := readFolder(root)
	s.owner, s.opened = owner, make(chan struct{})
	go func() { defer close(s.opened); s.prepareErr = s.prepare() }()
	select {
	case <-s.opened:
		return s, s.prepareErr
	case <-time.After(openTimeout):
		return s, nil
	}
}

// prepare creates the folder and checks that objects can be put there.
func (s *folder) prepare() error {
	if err := makeDirs(s.tempDir()); err != nil {
		return fmt.Errorf("archive folder: %w", err)
	}
	if s.owner != "" {
		// These are incomplete files of an earlier run. Files of other collectors stay.
		if _, err := RemoveFiles(s.tempDir(), s.tempPrefix()+"[0-9]*", isLocked); err != nil {
			return fmt.Errorf("archive folder: %w", err)
		}
	}
	if err := s.checkNames(); err != nil {
		return fmt.Errorf("archive folder: %w", err)
	}
	var err error
	s.device, err = deviceOf(s.root)
	return err
}

// errUnmounted means that the file system of the folder is not mounted any more. The directory
// below it would take the objects, and hide them once the file system is mounted again.
var errUnmounted = errors.New("another file system is mounted here than at the start, and it has no objects of collectord")

// checkMounted returns errUnmounted if the root is on another file system than at the start. One
// that has the collector's own directory is the same, mounted again.
func (s *folder) checkMounted() error {
	device, err := deviceOf(s.root)
	if err != nil || device == s.device {
		return err
	}
	if _, err := os.Stat(filepath.Join(s.root, ownDir)); errors.Is(err, fs.ErrNotExist) {
		return errUnmounted
	}
	return nil
}

// deviceOf returns the number of the device of a file's file system.
func deviceOf(path string) (uint64, error) {
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return 0, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return stat.Dev, nil
}

// waitOpen waits until the folder is open, and checks that its file system is still mounted.
func (s *folder) waitOpen(ctx context.Context) error {
	if s.opened == nil { // opened for reading only
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.opened:
	}
	s.prepareMu.Lock() // a second, concurrent prepare would remove the files of the first
	defer s.prepareMu.Unlock()
	if s.prepareErr != nil { // the cause may be gone
		s.prepareErr = s.prepare()
	}
	if s.prepareErr != nil {
		return s.prepareErr
	}
	return s.checkMounted()
}

// readFolder opens a folder for reading only.
func readFolder(root string) *folder {
	return &folder{root: filepath.Clean(root), calls: systemCalls, durable: map[string]bool{}}
}

// FolderDirs lists the directories of a folder in which a collector makes files or directories at a
// time, as paths. They may not exist yet.
type FolderDirs struct {
	Objects    []string // those without which no object can be put
	LossNotes  string
	Heartbeats string
}

// DirsOfFolder returns the directories of a folder.
func DirsOfFolder(root string, at time.Time) FolderDirs {
	join := func(key string) string { return filepath.Join(root, filepath.FromSlash(key)) }
	hour := HourOf(at)
	return FolderDirs{
		Objects:   []string{join(""), join(ownDir), readFolder(root).tempDir(), join(DayPrefix(hour)), join(Partition(hour))},
		LossNotes: join(LossPrefix), Heartbeats: join(HeartbeatPrefix),
	}
}

// tempPrefix returns the prefix of the names of this collector's temporary files.
func (s *folder) tempPrefix() string { return "put-" + s.owner + "-" }

func (s *folder) tempDir() string { return filepath.Join(s.root, ownDir, "tmp") }

func (s *folder) String() string { return "file://" + s.root }

// Probe returns nil, since the capabilities of a folder are fixed.
func (s *folder) Probe(context.Context) error { return nil }

// Capabilities returns the fixed features of Put.
func (s *folder) Capabilities() Capabilities { return Capabilities{"yes", "crc32c", "none"} }

// path returns the path of a key's file. It rejects keys that lead out of the root.
func (s *folder) path(key string) (string, error) {
	if !filepath.IsLocal(filepath.FromSlash(key)) {
		return "", fmt.Errorf("key %q leads out of the folder", key)
	}
	return filepath.Join(s.root, filepath.FromSlash(key)), nil
}

func (s *folder) fail(op, key string, err error) error {
	e := &Error{Op: op, Key: key, Kind: "io", Err: err}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		e.Kind = unix.ErrnoName(errno)
	}
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		e.Permanent, e.Hint = true, "the daemon's user must be able to write to "+s.root
		if op != "put" {
			e.Hint = "the user who reads must be able to read the files in " + s.root
		}
	case errors.Is(err, errUnmounted):
		e.Kind, e.Permanent, e.Hint = "unmounted", true, "mount the disk of "+s.root+" again, or restart collectord to use what is mounted now"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		e.Hint = "make room on the disk of " + s.root
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.ENOENT):
		e.Permanent, e.Hint = true, s.root+" must be a directory, or a link to one: see what is there"
	}
	return e
}

// Put copies the object to a temporary file, syncs the file, and renames it to its key. It
// replaces an existing file only if the object requests it. If the key is taken, Put syncs the
// directory, too: an earlier attempt of this collector may have ended in a crash right after the
// rename.
func (s *folder) Put(ctx context.Context, o *Object) error {
	path, err := s.path(o.Key)
	if err == nil {
		err = s.waitOpen(ctx)
	}
	if err != nil {
		return s.fail("put", o.Key, err)
	}
	dir := filepath.Dir(path)
	if err := errors.Join(s.makeDurable(dir), s.makeDurable(s.tempDir())); err != nil {
		return s.fail("put", o.Key, err)
	}
	keyTaken := func() error {
		if err := syncDir(dir); err != nil {
			return s.fail("put", o.Key, err)
		}
		return ErrExists
	}
	rename := s.calls.rename
	if !o.Replace && !o.Latest {
		rename = func(from, to string) error { return s.nameNew(from, to, o.Key) }
		if info, err := os.Lstat(path); err == nil && !isClaim(info) {
			return keyTaken()
		}
	}
	sum := crc32.New(castagnoli)
	in := io.TeeReader(&pacedReader{ctx, o.reader(), callOptionsOf(ctx).Bandwidth}, sum)
	temp, size, err := copyDurably(ctx, in, s.tempDir(), s.tempPrefix())
	if err != nil {
		return s.fail("put", o.Key, err)
	}
	defer os.Remove(temp) // has no effect after the rename
	if err := o.check(size, sum.Sum32()); err != nil {
		return &Error{Op: "put", Key: o.Key, Kind: "BadDigest", Hint: changedInTransitHint, Err: err}
	}
	switch err := rename(temp, path); {
	case errors.Is(err, errClaimed):
		return &Error{Op: "put", Key: o.Key, Kind: "claimed", ThisObjectOnly: true, Hint: "if this lasts, delete the empty file of this name", Err: err}
	case errors.Is(err, fs.ErrExist):
		return keyTaken()
	case err != nil:
		return s.fail("put", o.Key, err)
	}
	if err := syncDir(dir); err != nil {
		return s.fail("put", o.Key, err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != o.Size {
		err = errors.Join(errors.New("the folder does not have the object that was put"), err)
		return &Error{Op: "put", Key: o.Key, Kind: Unproven, Err: err}
	}
	return nil
}

// makeDurable makes a directory below the root. It syncs the parent of each directory of the
// path, even if an earlier process made the directory.
func (s *folder) makeDurable(dir string) error {
	s.mu.Lock()
	known := s.durable[dir]
	s.mu.Unlock()
	if known {
		if _, err := os.Stat(dir); err == nil { // not removed since
			return nil
		}
	}
	if dir != s.root {
		if err := s.makeDurable(filepath.Dir(dir)); err != nil {
			return err
		}
		if err := os.Mkdir(dir, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := syncDir(filepath.Dir(dir)); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.durable) >= maxDurableDirs {
		clear(s.durable)
	}
	s.durable[dir] = true
	return nil
}

// maxDurableDirs limits the number of remembered directories. Each hour has its own.
const maxDurableDirs = 64

// copyDurably copies in to a new file in dir and syncs it.
func copyDurably(ctx context.Context, in io.Reader, dir, pattern string) (path string, size int64, err error) {
	out, err := os.CreateTemp(dir, pattern+"*")
	if err != nil {
		return "", 0, err
	}
	_ = unix.Flock(int(out.Fd()), unix.LOCK_SH|unix.LOCK_NB) // the lock keeps a copy of this collector from removing the file
	size, err = io.Copy(out, in)
	chmod := out.Chmod(0o640)
	if unsupported(chmod) {
		chmod = nil
	}
	err = errors.Join(err, chmod, out.Sync(), out.Close(), ctx.Err())
	if err != nil {
		return "", 0, errors.Join(err, os.Remove(out.Name()))
	}
	return out.Name(), size, nil
}

// makeDirs makes a directory and its parents, and syncs the parent of each.
func makeDirs(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	if err := makeDirs(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
