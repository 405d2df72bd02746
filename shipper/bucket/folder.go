package bucket

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// folder keeps objects in a folder.
type folder struct {
	root string

	mu      sync.Mutex      // guards what follows
	durable map[string]bool // directories known to be so
}

func newFolder(root string) (*folder, error) {
	s := &folder{root: filepath.Clean(root), durable: map[string]bool{}}
	if err := makeDirs(s.temp()); err != nil {
		return nil, fmt.Errorf("archive folder: %w", err)
	}
	// Half-written files of an earlier run; others may use the folder, too.
	if _, err := RemoveFiles(s.temp(), tempName, inUse); err != nil {
		return nil, fmt.Errorf("archive folder: %w", err)
	}
	return s, nil
}

// tempName matches the names of files in the making.
const tempName = "put-[0-9]*"

func (s *folder) temp() string { return filepath.Join(s.root, ownDir, "tmp") }

func (s *folder) String() string { return "file://" + s.root }

// path keeps keys inside the root.
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
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		e.Hint = "make room on the disk of " + s.root
	}
	return e
}

// Put copies the object to a temporary file, syncs it, and gives it its name by
// a rename that does not replace. What it finds under the name it makes durable,
// too: its own attempt before a crash may have got no further than the rename.
func (s *folder) Put(ctx context.Context, o *Object) error {
	path, err := s.path(o.Key)
	if err != nil {
		return s.fail("put", o.Key, err)
	}
	dir := filepath.Dir(path)
	if err := s.makeDurable(dir); err != nil {
		return s.fail("put", o.Key, err)
	}
	taken := func() error {
		if err := syncDir(dir); err != nil {
			return s.fail("put", o.Key, err)
		}
		return ErrExists
	}
	rename := renameWithoutReplacing
	if o.Replace {
		rename = os.Rename
	} else if _, err := os.Lstat(path); err == nil {
		return taken()
	}
	sum := crc32.New(castagnoli)
	in := io.TeeReader(&pacedReader{ctx, o.reader(), callOptionsOf(ctx).Bandwidth}, sum)
	temp, size, err := copyDurably(ctx, in, s.temp())
	if err != nil {
		return s.fail("put", o.Key, err)
	}
	defer os.Remove(temp)                          // after the rename there is nothing to remove
	if size != o.Size || sum.Sum32() != o.CRC32C { // of the spool, whose disk may be another
		return &Error{Op: "put", Key: o.Key, Kind: "BadDigest", Hint: changedOnTheWay, Err: fmt.Errorf("%d bytes were read back from the spool, of %d, or they have changed", size, o.Size)}
	}
	switch err := rename(temp, path); {
	case errors.Is(err, fs.ErrExist):
		return taken()
	case err != nil:
		return s.fail("put", o.Key, err)
	}
	if err := syncDir(dir); err != nil {
		return s.fail("put", o.Key, err)
	}
	if there, err := os.Stat(path); err != nil || there.Size() != o.Size {
		err = errors.Join(errors.New("the folder does not have what was put"), err)
		return &Error{Op: "put", Key: o.Key, Kind: Unproven, Err: err}
	}
	return nil
}

// makeDurable makes a directory below the root, and every directory on the way
// durable in its parent, also those that an earlier process made.
func (s *folder) makeDurable(dir string) error {
	s.mu.Lock()
	known := s.durable[dir]
	s.mu.Unlock()
	if known {
		if _, err := os.Stat(dir); err == nil { // and not removed since
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
	if len(s.durable) >= maxDurable {
		clear(s.durable)
	}
	s.durable[dir] = true
	return nil
}

// maxDurable bounds the directories remembered; there is one for each hour.
const maxDurable = 64

// copyDurably writes what it reads to a new file in dir and syncs it.
func copyDurably(ctx context.Context, in io.Reader, dir string) (path string, size int64, err error) {
	out, err := os.CreateTemp(dir, "put-*")
	if err != nil {
		return "", 0, err
	}
	_ = unix.Flock(int(out.Fd()), unix.LOCK_SH|unix.LOCK_NB) // so that no other start takes it for left over
	size, err = io.Copy(out, in)
	err = errors.Join(err, out.Chmod(0o640), out.Sync(), out.Close(), ctx.Err())
	if err != nil {
		return "", 0, errors.Join(err, os.Remove(out.Name()))
	}
	return out.Name(), size, nil
}

func renameWithoutReplacing(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		// Not every file system has it (NFS): a link does not replace either.
		return os.Link(from, to)
	}
	if err != nil {
		return &os.LinkError{Op: "renameat2", Old: from, New: to, Err: err}
	}
	return nil
}

// makeDirs makes a directory and its parents, each durable in its own parent.
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

// Stat returns the size, and what the name holds: a folder keeps no metadata.
func (s *folder) Stat(_ context.Context, key string) (Stored, error) {
	f, there, err := s.open("stat", key)
	if err == nil {
		f.Close()
	}
	return there, err
}

func (s *folder) open(op, key string) (*os.File, Stored, error) {
	path, err := s.path(key)
	if err != nil {
		return nil, Stored{}, s.fail(op, key, err)
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, Stored{}, ErrNotFound
	}
	if err != nil {
		return nil, Stored{}, s.fail(op, key, err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, Stored{}, s.fail(op, key, err)
	}
	return f, Stored{Metadata: fromName(key), Size: info.Size(), Doubtful: true}, nil
}

func (s *folder) Open(_ context.Context, key string) (io.ReadCloser, Stored, error) {
	f, there, err := s.open("open", key)
	if err != nil {
		return nil, there, err // not a nil *os.File in an interface
	}
	return f, there, nil
}

func (s *folder) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		// The walk starts in the last whole folder of the prefix.
		top, err := s.path(prefix[:strings.LastIndexByte(prefix, '/')+1] + ".")
		if err != nil {
			yield("", s.fail("list", prefix, err))
			return
		}
		err = filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
			if path == top && errors.Is(err, fs.ErrNotExist) {
				return filepath.SkipAll
			}
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(s.root, path)
			if err != nil {
				return err
			}
			key := filepath.ToSlash(rel)
			if e.IsDir() {
				if path == s.temp() {
					return filepath.SkipDir
				}
				return ctx.Err()
			}
			if strings.HasPrefix(key, prefix) && !yield(key, nil) {
				return filepath.SkipAll
			}
			return nil
		})
		if err != nil {
			yield("", s.fail("list", prefix, err))
		}
	}
}
