package bucket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A file gets its name by the first of these methods that its file system supports:
//
//	renameat2(RENAME_NOREPLACE)
//	link, and unlink of the temporary name  NFS
//	claim, and rename over the claim        exFAT, many of FUSE
//
// A claim is an empty file with the final name. O_EXCL ensures that only one process makes
// it. A crash between claim and rename leaves the claim behind. Readers ignore it, and the
// next attempt completes it: the name contains the log id, so no other collector uses it. A
// lock on the claim, held until the rename, excludes a copy of this collector, which has the
// same log id.

// nameCalls are the system calls that name a file.
type nameCalls struct{ renameNew, link, rename func(from, to string) error }

var systemCalls = nameCalls{renameNew, os.Link, os.Rename} //nolint:gochecknoglobals // never changed

func renameNew(from, to string) error {
	if err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE); err != nil {
		return &os.LinkError{Op: "renameat2", Old: from, New: to, Err: err}
	}
	return nil
}

// unsupported reports whether err means that the file system lacks an operation.
func unsupported(err error) bool {
	for _, errno := range []error{unix.ENOSYS, unix.EINVAL, unix.ENOTSUP, unix.EPERM} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// isClaim reports whether a file is a claim: an empty file that reserves a name.
func isClaim(info fs.FileInfo) bool { return info.Mode().IsRegular() && info.Size() == 0 }

// errClaimed means that another process may be about to complete a claim.
var errClaimed = errors.New("there is an empty file of this name, which another process may be about to replace")

// nameNew renames temp to path. It returns fs.ErrExist if an object has that name.
func (s *folder) nameNew(temp, path, key string) error {
	err := s.calls.renameNew(temp, path)
	if unsupported(err) {
		err = s.calls.link(temp, path)
	}
	if !unsupported(err) && !errors.Is(err, fs.ErrExist) {
		return err
	}
	claim, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640)
	isOwn := err == nil
	if errors.Is(err, fs.ErrExist) { // perhaps a claim that a crash left
		claim, err = os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil { // not a regular file, or an object by now
			return fs.ErrExist
		}
	}
	if err != nil {
		return err
	}
	defer claim.Close()
	return s.complete(claim, isOwn, temp, path, key)
}

// complete replaces a claim with the file temp.
func (s *folder) complete(claim *os.File, isOwn bool, temp, path, key string) error {
	locked := unix.Flock(int(claim.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	claimInfo, err := claim.Stat()
	if err != nil {
		return err
	}
	current, err := os.Lstat(path)
	switch {
	case err != nil || !isClaim(claimInfo) || !os.SameFile(claimInfo, current): // another process has completed it
		return fs.ErrExist
	case errors.Is(locked, unix.EWOULDBLOCK), !isOwn && (locked != nil || !s.owns(key)):
		return errClaimed
	}
	return s.calls.rename(temp, path)
}

// owns reports whether only this collector makes objects with this key.
func (s *folder) owns(key string) bool {
	k, ok := ParseKey(key)
	if !ok {
		k, ok = ParseLossKey(key)
	}
	return ok && HexID(k.LogID) == s.owner
}

// checkNames returns an error if the file system can't name a file without replacing
// another.
func (s *folder) checkNames() error {
	temp, _, err := copyDurably(context.Background(), strings.NewReader("x"), s.tempDir(), s.tempPrefix())
	if err != nil {
		return err
	}
	defer os.Remove(temp)
	named := filepath.Join(s.tempDir(), filepath.Base(temp)+"0")
	defer os.Remove(named)
	if err := s.nameNew(temp, named, ""); err != nil {
		return fmt.Errorf("a file here can't be named without replacing an existing one: use another file system: %w", err)
	}
	return nil
}
