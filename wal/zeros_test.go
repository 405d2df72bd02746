package wal

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// sizeOf returns the size of a segment's file, with the zeros ahead of use.
func sizeOf(t *testing.T, l *Log, name string) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(l.dir, name, segment.FileName))
	if err != nil {
		return -1 // the file is being created or renamed
	}
	return info.Size()
}

func wantNextSize(t *testing.T, l *Log, want int64) {
	t.Helper()
	until(t, "the next segment has its zeros", func() bool { return sizeOf(t, l, nextName) == want })
}

func TestZerosAheadFollowTheSizesOfRecentSegments(t *testing.T) {
	l := openLog(t, t.TempDir(), Options{SegmentSize: 1 << 20})
	wantNextSize(t, l, minFill)
	mustAppend(t, l, Record{Usage: usage(1)})
	mustSeal(t, l)
	wantNextSize(t, l, minFill)
	mustAppend(t, l, Record{Usage: make([]byte, 100<<10)})
	mustSeal(t, l)
	for range len(recentSizes{}) { // segments with few bytes
		wantNextSize(t, l, 128<<10)
		mustAppend(t, l, Record{Usage: usage(1)})
		mustSeal(t, l)
	}
	wantNextSize(t, l, minFill)
	mustAppend(t, l, Record{Usage: make([]byte, 2<<20)})
	mustSeal(t, l)
	wantNextSize(t, l, 1<<20) // at most the size of a segment
}

// TestASegmentThatOutgrowsItsZerosGetsMore watches the file. A commit within the zeros
// does not change the file's size, and the records never reach the end of the zeros.
func TestASegmentThatOutgrowsItsZerosGetsMore(t *testing.T) {
	const size = 256 << 10
	l := openLog(t, t.TempDir(), Options{SegmentSize: size})
	changes, last := 0, int64(0)
	for i := 0; l.Stats().Bytes < size-2<<10; i++ {
		mustAppend(t, l, Record{Usage: make([]byte, 500)})
		name := segment.ActiveName(1)
		if now := sizeOf(t, l, name); now != last {
			changes, last = changes+1, now
		}
		until(t, "the file has zeros ahead", func() bool { return sizeOf(t, l, name) > l.Stats().Bytes })
	}
	if last != size || changes > 10 { // 16 KiB, doubled four times
		t.Errorf("%d changes of the size, to %d", changes, last)
	}
	checkLedger(t, l)
}

// A disk without space for many zeros gets a few.
func TestANextSegmentIsPreparedOnADiskThatIsNearlyFull(t *testing.T) {
	o := Options{SegmentSize: 1 << 20}.WithFree(func(string) (int64, error) { return 200 << 10, nil })
	l := openLog(t, t.TempDir(), o)
	mustAppend(t, l, Record{Usage: make([]byte, 500<<10)})
	mustSeal(t, l)
	wantNextSize(t, l, 50<<10) // a quarter of the free space

	full := Options{SegmentSize: 1 << 20, files: smallDisk{limit: 100 << 10}}
	l = openLog(t, t.TempDir(), full)
	mustAppend(t, l, Record{Usage: make([]byte, 500<<10)})
	mustSeal(t, l)
	wantNextSize(t, l, minFill)
	mustAppend(t, l, Record{Usage: usage(1)})
}

// smallDisk is a file system on which zeros can't make a file larger than limit.
type smallDisk struct {
	vfs.OS
	limit int64
}

type limitedFile struct {
	vfs.File
	limit int64
}

func (l smallDisk) OpenWritable(path string) (vfs.File, error) {
	f, err := l.OS.OpenWritable(path)
	return limitedFile{f, l.limit}, err
}

func (f limitedFile) WriteAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.limit {
		return 0, &os.PathError{Op: "write", Path: f.Name(), Err: syscall.ENOSPC}
	}
	return f.File.WriteAt(p, off)
}
