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

// A file gets its name by the first of these that its file system can do:
//
//	renameat2(RENAME_NOREPLACE)
//	link, and unlink of the other name      NFS
//	claim, and rename over the claim        exFAT, many of FUSE
//
// A claim is an empty file under the final name, which is made with O_EXCL, so that
// only one process gets it. After a crash between claim and rename it is left over.
// Readers take it for nothing at all, and the next attempt completes it: the name holds
// the log id, so that no other collector has the same. A copy of this one, with the same
// log id, is kept away by a lock on the claim, which its owner holds until the rename.

// nameCalls are the system calls that give a file its name.
type nameCalls struct{ renameNew, link, rename func(from, to string) error }

var systemCalls = nameCalls{renameNew, os.Link, os.Rename} //nolint:gochecknoglobals // never changed

func renameNew(from, to string) error {
	if err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE); err != nil {
		return &os.LinkError{Op: "renameat2", Old: from, New: to, Err: err}
	}
	return nil
}

// unsupported reports whether a file system can't do what it was asked for.
func unsupported(err error) bool {
	for _, errno := range []error{unix.ENOSYS, unix.EINVAL, unix.ENOTSUP, unix.EPERM} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// isClaim reports whether a file only holds a name for an object to come.
func isClaim(info fs.FileInfo) bool { return info.Mode().IsRegular() && info.Size() == 0 }

// errClaimed means that another process may be about to complete a claim.
var errClaimed = errors.New("there is an empty file of this name, which another process may be about to replace")

// nameNew gives a file the name of an object, unless there is an object of that name
// already: fs.ErrExist.
func (s *folder) nameNew(temp, path, key string) error {
	err := s.calls.renameNew(temp, path)
	if unsupported(err) {
		err = s.calls.link(temp, path)
	}
	if !unsupported(err) && !errors.Is(err, fs.ErrExist) {
		return err
	}
	claim, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640)
	own := err == nil
	if errors.Is(err, fs.ErrExist) { // perhaps a claim from before a crash
		claim, err = os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil { // it is no file, or there is an object now
			return fs.ErrExist
		}
	}
	if err != nil {
		return err
	}
	defer claim.Close()
	return s.complete(claim, own, temp, path, key)
}

// complete puts a file in the place of a claim.
func (s *folder) complete(claim *os.File, own bool, temp, path, key string) error {
	locked := unix.Flock(int(claim.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	mine, err := claim.Stat()
	if err != nil {
		return err
	}
	there, err := os.Lstat(path)
	switch {
	case err != nil || !isClaim(mine) || !os.SameFile(mine, there): // completed meanwhile
		return fs.ErrExist
	case errors.Is(locked, unix.EWOULDBLOCK), !own && (locked != nil || !s.owns(key)):
		return errClaimed
	}
	return s.calls.rename(temp, path)
}

// owns reports whether no other collector makes an object of that name.
func (s *folder) owns(key string) bool {
	k, ok := ParseKey(key)
	if !ok {
		k, ok = ParseLossKey(key)
	}
	return ok && HexID(k.LogID) == s.owner
}

// checkNames returns an error where no file can get a name without replacing another.
func (s *folder) checkNames() error {
	temp, _, err := copyDurably(context.Background(), strings.NewReader("x"), s.temp(), s.tempPattern())
	if err != nil {
		return err
	}
	defer os.Remove(temp)
	named := filepath.Join(s.temp(), filepath.Base(temp)+"0")
	defer os.Remove(named)
	if err := s.nameNew(temp, named, ""); err != nil {
		return fmt.Errorf("its file system can give no file a name without replacing another: use another one: %w", err)
	}
	return nil
}
