package wal

import (
	"errors"
	"fmt"
	"path/filepath"

	"collectord/wal/segment"
)

// findLaterVersion returns an error that wraps ErrVersion if a later version of this
// program has written LOG or a segment. That version may have changed the meaning of any
// file, so a start checks this before it takes the lock or changes anything. Files that
// can't be read are left to the later steps of the start.
func (l *Log) findLaterVersion() error {
	path := filepath.Join(l.dir, identityName)
	if b, err := l.disk.ReadFile(path); err == nil {
		if _, err := decodeIdentity(b); errors.Is(err, ErrVersion) {
			return laterVersion(path, err)
		}
	}
	entries, err := l.disk.List(l.dir)
	if err != nil {
		return nil //nolint:nilerr // the later steps of the start report it
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if _, err := segment.ReadHeader(l.disk, l.fileOf(e.Name())); errors.Is(err, ErrVersion) {
			return laterVersion(filepath.Join(l.dir, e.Name()), err)
		}
	}
	return nil
}

func laterVersion(path string, err error) error {
	return fmt.Errorf("a later version wrote %s: nothing was changed (install that version again): %w", path, err)
}
