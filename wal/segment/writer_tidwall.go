package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

	tidwall "github.com/tidwall/wal"
)

// MaxCopied is the max size in bytes of a segment whose writer keeps a copy of everything
// in it.
const MaxCopied = 8 << 20

// NewLogWriter creates the file of a segment with the log library. The library's buffers
// share the memory of each entry; where that is impossible, the library keeps copies.
func NewLogWriter(dir string, first []byte) (EntryWriter, error) {
	return newLogWriter(openLog, dir, first)
}

// NewCopyingWriter is NewLogWriter without shared memory: the library keeps copies.
func NewCopyingWriter(dir string, first []byte) (EntryWriter, error) {
	return beginLog(openLog, dir, first, false)
}

// library is the part of the log library that this package uses.
type library interface {
	Write(index uint64, data []byte) error // index counts from 1
	Close() error
}

func openLog(dir string) (library, error) {
	return tidwall.Open(dir, &tidwall.Options{
		NoSync: true,
		// A lower size would make the library start further files in the directory.
		SegmentSize: math.MaxInt,
		DirPerms:    0o750,
		FilePerms:   0o640,
	})
}

// logWriter is an EntryWriter that uses the log library.
type logWriter struct {
	log    library
	shared *buffers // nil if the library keeps copies
	index  uint64   // of the last entry written
}

var errNotShared = errors.New("the log library does not use its buffers as expected")

func newLogWriter(open func(dir string) (library, error), dir string, first []byte) (EntryWriter, error) {
	w, err := beginLog(open, dir, bytes.Clone(first), true)
	if !errors.Is(err, errNotShared) {
		return w, err
	}
	if err := os.Remove(filepath.Join(dir, FileName)); err != nil {
		return nil, err
	}
	return beginLog(open, dir, first, false)
}

// beginLog writes the first entry of a file and reads it back, because another version of
// the library may use its buffers, or write the file, in another way.
func beginLog(open func(dir string) (library, error), dir string, first []byte, share bool) (EntryWriter, error) {
	want := append(binary.AppendUvarint(nil, uint64(len(first)-MaxLengthPrefix)), first[MaxLengthPrefix:]...)
	log, err := open(dir)
	if err != nil {
		return nil, err
	}
	w := &logWriter{log: log}
	if share {
		w.shared = buffersOf(log)
	}
	shared := w.shared != nil
	if err := w.Write(first); err != nil {
		return nil, err
	}
	written, readErr := os.ReadFile(filepath.Join(dir, FileName))
	switch {
	case readErr != nil && shared:
		return nil, errNotShared
	case readErr != nil: // a disk that can't read may still be able to write
	case shared && (w.shared == nil || !bytes.Equal(written, want)):
		return nil, errNotShared
	case !bytes.Equal(written, want):
		return nil, fmt.Errorf("the log library writes another format: %d bytes instead of %d", len(written), len(want))
	}
	return w, nil //nolint:nilerr // a failed read does not prevent writes
}

// Write implements EntryWriter.
func (w *logWriter) Write(buf []byte) error {
	if w.shared != nil {
		w.shared.share(buf)
	}
	err := w.log.Write(w.index+1, buf[MaxLengthPrefix:])
	if err == nil {
		w.index++
	}
	if w.shared != nil && !w.shared.unshare(buf) {
		w.shared = nil
	}
	return err
}

// KeepsCopies implements EntryWriter.
func (w *logWriter) KeepsCopies() bool { return w.shared == nil }

// Close implements EntryWriter.
func (w *logWriter) Close() error { return w.log.Close() }
