package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Stat returns the size and the metadata that the key contains: a folder stores no other
// metadata.
func (s *folder) Stat(_ context.Context, key string) (Stored, error) {
	f, stored, err := s.open("stat", key)
	if err == nil {
		f.Close()
	}
	return stored, err
}

// open opens a regular file. It rejects links, pipes and devices, since a link may lead anywhere,
// and reading a pipe or device may never end. An empty file is a claim and counts as missing.
func (s *folder) open(op, key string) (*os.File, Stored, error) {
	path, err := s.path(key)
	if err != nil {
		return nil, Stored{}, s.fail(op, key, err)
	}
	var f *os.File
	info, err := os.Lstat(path) // opening a device can have side effects
	if err == nil && info.Mode().IsRegular() {
		if f, err = os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0); err == nil {
			info, err = f.Stat()
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR), err == nil && isClaim(info):
		err = ErrNotFound
	case err != nil:
		err = s.fail(op, key, err)
	case f == nil, !info.Mode().IsRegular():
		err = &Error{
			Op: op, Key: key, Kind: "not_a_file", Permanent: true, ThisObjectOnly: true,
			Err: fmt.Errorf("it is not a regular file: %s", info.Mode()), Hint: "a link, a pipe or a device has the name of an object: move it away",
		}
	default:
		return f, Stored{Metadata: metadataFromKey(key), Size: info.Size(), Doubtful: true}, nil
	}
	if f != nil {
		f.Close()
	}
	return nil, Stored{}, err
}

func (s *folder) Open(_ context.Context, key string) (io.ReadCloser, Stored, error) {
	f, stored, err := s.open("open", key)
	if err != nil {
		return nil, stored, err // a nil *os.File in an interface is not nil
	}
	return &objectBody{f, func(err error) error { return s.fail("open", key, err) }}, stored, nil
}

// List lists regular files. It follows no link except the root, and skips empty files.
func (s *folder) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		top := s.root + "/."
		err := filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) && path != top {
				return nil // removed during the walk
			}
			if err != nil {
				return err
			}
			if path == top {
				return nil
			}
			rel, err := filepath.Rel(s.root, path)
			if err != nil {
				return err
			}
			key := filepath.ToSlash(rel)
			if e.IsDir() {
				if path == s.tempDir() || !strings.HasPrefix(key+"/", prefix) && !strings.HasPrefix(prefix, key+"/") {
					return filepath.SkipDir
				}
				return ctx.Err()
			}
			if !e.Type().IsRegular() || !strings.HasPrefix(key, prefix) {
				return nil
			}
			if info, err := e.Info(); err != nil || isClaim(info) {
				return ignoreMissing(err)
			}
			if !yield(key, nil) {
				return filepath.SkipAll
			}
			return nil
		})
		if err != nil {
			yield("", s.fail("list", prefix, err))
		}
	}
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
