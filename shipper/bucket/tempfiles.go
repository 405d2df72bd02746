package bucket

import (
	"errors"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// RemoveFiles removes the regular files of dir whose names match pattern, unless spare
// reports that one is in use. It returns the names of all other entries. It enters no
// directory and follows no link; dir itself may be one.
func RemoveFiles(dir, pattern string, keep func(*os.File) bool) (others []string, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	top, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	defer top.Close()
	entries, err := top.ReadDir(-1)
	for _, e := range entries {
		if match, _ := path.Match(pattern, e.Name()); !match || !e.Type().IsRegular() {
			others = append(others, e.Name())
			continue
		}
		if keep != nil {
			file, openErr := root.Open(e.Name())
			if openErr != nil || keep(file) {
				others = append(others, e.Name())
			} else if removeErr := root.Remove(e.Name()); !errors.Is(removeErr, fs.ErrNotExist) {
				err = errors.Join(err, removeErr)
			}
			if openErr == nil {
				file.Close()
			}
			continue
		}
		if removeErr := root.Remove(e.Name()); !errors.Is(removeErr, fs.ErrNotExist) {
			err = errors.Join(err, removeErr)
		}
	}
	return others, err
}

// isLocked reports whether a process holds the lock on a file that it writes.
func isLocked(f *os.File) bool {
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
}
