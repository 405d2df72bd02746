package segment

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"collectord/wal/vfs"
)

// frameOf returns a buffer with a frame of one record.
func frameOf(seq uint64, usage int) []byte {
	buf := AppendRecord(make([]byte, FrameStart), &Record{Usage: bytes.Repeat([]byte{'x'}, usage)})
	PutFrame(buf, 1, 2, seq, 1)
	return buf
}

func create(t *testing.T, newLog NewEntryWriter) *Writer {
	t.Helper()
	w, err := Create(vfs.OSDisk(), filepath.Join(t.TempDir(), "segment"), Header{LogID: 1, Run: 2}, Prealloc{}, newLog)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// A new version of the log library may keep its copies elsewhere. Records are safe
// then, but segments are small and batches slow. If this test fails, look for the new
// buffers.
func TestTheLogLibraryCopiesNothing(t *testing.T) {
	w := create(t, NewLogWriter)
	for seq, usage := range []int{1, 60, 61, 200, 16 << 10, 1 << 20, 2} {
		if err := w.Append(frameOf(uint64(seq+1), usage)); err != nil {
			t.Fatal(err)
		}
		shared := w.log.(*logWriter).shared
		if shared == nil {
			t.Fatalf("the library copies frames of %d bytes", usage)
		}
		if cap(*shared.batch)+cap(*shared.file) > 0 || shared.positions.Cap() > 1 {
			t.Errorf("the library keeps %d and %d bytes and %d positions", cap(*shared.batch), cap(*shared.file), shared.positions.Cap())
		}
	}
}

func TestACommitAllocatesNothing(t *testing.T) {
	w := create(t, NewLogWriter)
	buf := frameOf(1, 100)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const commits = 20_000
	for range commits {
		if err := w.Append(buf); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	// Other goroutines of the test may allocate, but less than a byte per commit.
	if n := after.TotalAlloc - before.TotalAlloc; n > commits {
		t.Errorf("%d commits allocated %d bytes", commits, n)
	}
}

// These are possible future versions of the log library. The first is as expected.
//
//nolint:unused // fields that are only looked for
type (
	// expectedLog has all buffers as expected, and uses them as expected.
	expectedLog struct {
		segments []*expectedFile
		wbatch   expectedBatch
		file     *os.File
	}
	expectedFile struct {
		ebuf []byte
		epos []struct{ pos, end int }
	}
	expectedBatch struct{ datas []byte }

	// filesByValueLog has its files by value instead of by pointer.
	filesByValueLog struct {
		library
		segments []expectedFile
	}
	// otherTypeLog has a field of another type.
	otherTypeLog struct {
		library
		segments []*struct {
			ebuf []string
			epos []int
		}
		wbatch expectedBatch
	}
	// missingFieldLog lacks a field.
	missingFieldLog struct {
		library
		segments []*struct{ ebuf []byte }
		wbatch   expectedBatch
	}
	// lateFilesLog has its buffers only after the first entry.
	lateFilesLog struct {
		library
		segments []*expectedFile
		wbatch   expectedBatch
	}
	// newMemoryLog appends each entry to new memory.
	newMemoryLog struct{ expectedLog }
	// clearingLog clears its batch before it appends.
	clearingLog struct{ expectedLog }
	// lateNewMemoryLog appends to new memory from the third entry on.
	lateNewMemoryLog struct{ expectedLog }
)

func (l *expectedLog) write(data []byte) error {
	l.wbatch.datas = append(l.wbatch.datas[:0], data...)
	s := l.segments[0]
	from := len(s.ebuf)
	s.ebuf = append(binary.AppendUvarint(s.ebuf, uint64(len(data))), l.wbatch.datas...)
	s.epos = append(s.epos, struct{ pos, end int }{from, len(s.ebuf)})
	_, err := l.file.Write(s.ebuf[from:])
	return err
}

func (l *expectedLog) Write(_ uint64, data []byte) error { return l.write(data) }
func (l *expectedLog) Close() error                      { return l.file.Close() }

func (l *newMemoryLog) Write(_ uint64, data []byte) error {
	l.segments[0].ebuf = nil
	return l.write(data)
}

func (l *clearingLog) Write(_ uint64, data []byte) error {
	if l.wbatch.datas != nil {
		clear(l.wbatch.datas[:cap(l.wbatch.datas)])
	}
	return l.write(data)
}

func (l *lateNewMemoryLog) Write(index uint64, data []byte) error {
	if index > 2 {
		l.wbatch.datas = nil
	}
	return l.write(data)
}

// openExpectedLog creates the file that the libraries of the test write to.
func openExpectedLog(dir string) expectedLog {
	f, err := os.Create(filepath.Join(dir, FileName))
	if err != nil {
		panic(err)
	}
	return expectedLog{segments: []*expectedFile{{}}, file: f}
}

func TestAnUnexpectedLogLibraryKeepsItsCopiesAndWritesTheSameFile(t *testing.T) {
	for name, c := range map[string]struct {
		open   func(dir string) library
		copies bool
	}{
		"expected buffers":        {func(dir string) library { s := openExpectedLog(dir); return &s }, false},
		"files by value":          {func(dir string) library { s := openExpectedLog(dir); return &filesByValueLog{library: &s} }, true},
		"buffers of another type": {func(dir string) library { s := openExpectedLog(dir); return &otherTypeLog{library: &s} }, true},
		"a missing buffer":        {func(dir string) library { s := openExpectedLog(dir); return &missingFieldLog{library: &s} }, true},
		"no file yet":             {func(dir string) library { s := openExpectedLog(dir); return &lateFilesLog{library: &s} }, true},
		"buffers unused": {func(dir string) library {
			s := openExpectedLog(dir)
			return &lateFilesLog{library: &s, segments: []*expectedFile{{}}}
		}, true},
		"new memory each time":      {func(dir string) library { return &newMemoryLog{openExpectedLog(dir)} }, true},
		"the shared memory cleared": {func(dir string) library { return &clearingLog{openExpectedLog(dir)} }, true},
		"new memory later on":       {func(dir string) library { return &lateNewMemoryLog{openExpectedLog(dir)} }, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := create(t, func(dir string, first []byte) (EntryWriter, error) {
				return newLogWriter(func(dir string) (library, error) { return c.open(dir), nil }, dir, first)
			})
			want := entryOf(Header{LogID: 1, Run: 2}.append(make([]byte, MaxLengthPrefix)))
			for seq, usage := range []int{1, 200, 16 << 10, 3} {
				buf := frameOf(uint64(seq+1), usage)
				want = append(want, entryOf(buf)...)
				if err := w.Append(buf); err != nil {
					t.Fatal(err)
				}
			}
			if w.KeepsCopies() != c.copies {
				t.Errorf("copies: %t", w.KeepsCopies())
			}
			if size := w.Limit(64 << 20); c.copies != (size == MaxCopied) {
				t.Errorf("Limit returns %d", size)
			}
			got, err := os.ReadFile(w.file.Name())
			if err != nil || !bytes.Equal(got, want) || w.Bytes() != int64(len(want)) {
				t.Errorf("%d bytes in the file, %d counted, where %d were written: %v", len(got), w.Bytes(), len(want), err)
			}
		})
	}
}

func entryOf(buf []byte) []byte {
	return append(binary.AppendUvarint(nil, uint64(len(buf)-MaxLengthPrefix)), buf[MaxLengthPrefix:]...)
}

// TestALogLibraryOfAnotherFormatIsRefused: no reader could read another format.
func TestALogLibraryOfAnotherFormatIsRefused(t *testing.T) {
	dir := t.TempDir()
	_, err := newLogWriter(func(dir string) (library, error) {
		s := openExpectedLog(dir)
		_, err := s.file.Write([]byte("later"))
		return &s, err
	}, dir, Header{LogID: 1}.append(make([]byte, MaxLengthPrefix)))
	if err == nil {
		t.Error("a library of another format is used")
	}
}

// TestNothingFollowsAFailedWrite: a scan would find a frame behind the remains of
// another, and its seqs are used again.
func TestNothingFollowsAFailedWrite(t *testing.T) {
	var s expectedLog
	w := create(t, func(dir string, first []byte) (EntryWriter, error) {
		s = openExpectedLog(dir)
		return newLogWriter(func(string) (library, error) { return &s, nil }, dir, first)
	})
	good := s.file
	s.file = nil // every call on it fails
	if err := w.Append(frameOf(1, 100)); err == nil {
		t.Fatal("no error")
	}
	if shared := w.log.(*logWriter).shared; shared == nil || *shared.batch != nil || *shared.file != nil {
		t.Error("the library keeps shared memory")
	}
	s.file = good
	before := w.Bytes()
	if err := w.Append(frameOf(1, 100)); err == nil || w.Bytes() != before {
		t.Errorf("%v, %d bytes where there were %d", err, w.Bytes(), before)
	}
	if info, err := good.Stat(); err != nil || info.Size() != before {
		t.Errorf("the file has %v, %v", info, err)
	}
}
