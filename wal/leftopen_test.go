package wal

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"collectord/wal/segment"
	"collectord/wal/vfs"
	"collectord/wal/vfs/errorfs"
)

// openSegmentDir is sealedDir with an unsealed segment. Another segment of the same run
// continues it.
func openSegmentDir(t *testing.T, n int) (dir, file string) {
	t.Helper()
	dir, file = sealedDir(t, n)
	unsealed := filepath.Join(dir, "wal", segment.ActiveName(1))
	if err := os.Rename(filepath.Dir(file), unsealed); err != nil {
		t.Fatal(err)
	}
	return dir, filepath.Join(unsealed, segment.FileName)
}

func TestAnEmptyOpenSegmentIsNotedAsMissing(t *testing.T) {
	dir, file := openSegmentDir(t, 9)
	if err := os.Truncate(file, 0); err != nil {
		t.Fatal(err)
	}
	l := openLog(t, dir, Options{})
	notes, err := l.Losses()
	if err != nil || len(notes) != 1 || notes[0].FirstSeq != 1 || notes[0].LastSeq != 9 || notes[0].Reason != LossMissing {
		t.Errorf("notes %v, %v", notes, err)
	}
	checkQuarantined(t, l, nil)
	checkLedger(t, l)
}

func TestBytesAfterTheRecordsOfAnOpenSegmentAreCutOff(t *testing.T) {
	dir, file := openSegmentDir(t, 9)
	b, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, append(b, foreignContent...), 0o640)
	}
	if err != nil {
		t.Fatal(err)
	}
	l := openLog(t, dir, Options{})
	if info, err := os.Stat(filepath.Join(l.dir, segment.SealedName(1, 9), segment.FileName)); err != nil || info.Size() != int64(len(b)) {
		t.Errorf("%v, %v, want %d bytes", info, err, len(b))
	}
	checkQuarantined(t, l, []byte(foreignContent))
}

// TestRecordsAboveTheSeqsOfANameAreKept: the name lacks the last records, and no other
// segment continues them.
func TestRecordsAboveTheSeqsOfANameAreKept(t *testing.T) {
	dir, file := sealedDir(t, 9)
	log := filepath.Join(dir, "wal")
	if err := errors.Join(os.Rename(filepath.Dir(file), filepath.Join(log, segment.SealedName(1, 7))), os.RemoveAll(filepath.Join(log, segment.ActiveName(10)))); err != nil {
		t.Fatal(err)
	}
	l := openLog(t, dir, Options{})
	checkQuarantined(t, l, usage(7))
	checkQuarantined(t, l, usage(8))
}

func TestALinkOfAnInterruptedSalvageIsDeleted(t *testing.T) {
	dir, file := sealedDir(t, 9)
	link := filepath.Join(dir, "wal", unreadName(3, 4))
	if err := errors.Join(os.Mkdir(link, 0o750), os.Link(file, filepath.Join(link, segment.FileName))); err != nil {
		t.Fatal(err)
	}
	l := openLog(t, dir, Options{})
	if _, err := os.Stat(link); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it still exists (%v)", err)
	}
	if got := usagesOf(t, l); len(got) != 9 || len(l.Unread()) > 0 {
		t.Errorf("usages %v, unread %v", got, l.Unread())
	}
}

func TestLinksOfAFailedAttemptAreDeletedBeforeTheNext(t *testing.T) {
	dir, file := sealedDir(t, 9)
	l := openLog(t, dir, Options{})
	link := filepath.Join(l.dir, unreadName(3, 4))
	if err := l.link(file, link); err != nil {
		t.Fatal(err)
	}
	all, _ := l.Sealed()
	if err := l.shelf.deleteUnreadLinks(all[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(link); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it still exists (%v)", err)
	}
}

// TestWithoutHardLinksOneGapReplacesAll makes the second link fail.
func TestWithoutHardLinksOneGapReplacesAll(t *testing.T) {
	dir, file := sealedDir(t, 9)
	links := 0
	l := openLog(t, dir, Options{files: errorfs.FS{FS: vfs.OS{}, Before: func(op, _ string) error {
		if op == "link" {
			if links++; links == 2 {
				return syscall.EPERM
			}
		}
		return nil
	}}})
	gaps, err := l.shelf.linkUnread(file, &segment.Scan{}, []SeqRange{{First: 1, Last: 2}, {First: 4, Last: 5}, {First: 7, Last: 8}})
	if err != nil || len(gaps) != 1 || gaps[0] != (SeqRange{First: 1, Last: 8}) {
		t.Errorf("gaps %v, %v", gaps, err)
	}
	for _, pattern := range []string{"*" + unreadSuffix, salvageName} {
		if left, err := filepath.Glob(filepath.Join(l.dir, pattern)); err != nil || len(left) > 0 {
			t.Errorf("%v still exists (%v)", left, err)
		}
	}
}

// TestSalvagedRecordsAreNoLongerUnread tests a range that was salvaged as a whole, and
// one whose unsalvaged part already has a name.
func TestSalvagedRecordsAreNoLongerUnread(t *testing.T) {
	dir, file := sealedDir(t, 9)
	all, part, rest := filepath.Join(dir, "wal", unreadName(1, 9)), filepath.Join(dir, "wal", unreadName(5, 20)), filepath.Join(dir, "wal", unreadName(10, 20))
	putForeignFile(t, filepath.Join(all, segment.FileName))
	putForeignFile(t, filepath.Join(part, segment.FileName))
	if err := errors.Join(os.Mkdir(rest, 0o750), os.Link(filepath.Join(part, segment.FileName), filepath.Join(rest, segment.FileName))); err != nil {
		t.Fatal(err)
	}
	l := openLog(t, dir, Options{})
	checkQuarantined(t, l, []byte(foreignContent))
	for path, want := range map[string]bool{all: false, part: false, rest: true, filepath.Dir(file): true} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: %v", filepath.Base(path), err)
		}
	}
}

func TestATombstoneKeepsItsNameAndTakesNoSpace(t *testing.T) {
	l := openLog(t, t.TempDir(), Options{})
	dir := filepath.Join(l.dir, segment.ActiveName(20))
	putForeignFile(t, filepath.Join(dir, segment.FileName))
	if err := l.shelf.makeTombstone(dir); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir + goneSuffix); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}

// TestATombstoneKeepsTheOnlyHeaderWithTheLogID also asserts that the file has no more
// than the header.
func TestATombstoneKeepsTheOnlyHeaderWithTheLogID(t *testing.T) {
	dir, file := sealedDir(t, 30)
	l := openLog(t, dir, Options{})
	want, err := segment.ReadHeader(l.disk, file)
	if err != nil {
		t.Fatal(err)
	}
	l.identityUnsaved = true
	if err := l.emptyTombstone(filepath.Dir(file)); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Size() > segment.MaxHeader {
		t.Errorf("%v, %v", info, err)
	}
	if h, err := segment.ReadHeader(l.disk, file); err != nil || h != want {
		t.Errorf("header %+v, %v", h, err)
	}
}

// TestAnUnreadableOpenSegmentIsNotLost: no page of the segment can be read, and another
// segment continues it.
func TestAnUnreadableOpenSegmentIsNotLost(t *testing.T) {
	dir, _ := openSegmentDir(t, 9)
	l := openLog(t, dir, Options{files: errorfs.FS{FS: vfs.OS{}, ReadAt: func(f vfs.File, p []byte, off int64) (int, error) {
		if name := filepath.Base(filepath.Dir(f.Name())); strings.HasPrefix(name, segment.ActiveName(1)) {
			return 0, syscall.EIO
		}
		return f.ReadAt(p, off)
	}}})
	if notes, err := l.Losses(); err != nil || len(notes) > 0 {
		t.Errorf("notes %v, %v", notes, err)
	}
	all, _ := l.Sealed()
	var ranges []SeqRange
	for _, s := range all {
		ranges = append(ranges, SeqRange{First: s.first, Last: s.last})
	}
	if ranges = append(ranges, l.Unread()...); len(ranges) != 1 || ranges[0] != (SeqRange{First: 1, Last: 9}) {
		t.Errorf("sealed or unread: %v", ranges)
	}
}

// TestAnUndeletablePreparedSegmentIsQuarantined makes the deletion fail.
func TestAnUndeletablePreparedSegmentIsQuarantined(t *testing.T) {
	dir, _ := sealedDir(t, 9)
	next := filepath.Join(dir, "wal", nextName)
	if err := os.MkdirAll(next, 0o750); err != nil {
		t.Fatal(err)
	}
	var failed atomic.Int32
	l := openLog(t, dir, Options{ProbeMin: time.Millisecond, files: errorfs.FS{FS: vfs.OS{}, Before: func(op, path string) error {
		if op == "rmdir" && path == next && failed.Add(1) <= 2*startsBeforeSkipping {
			return syscall.EBUSY
		}
		return nil
	}}})
	until(t, "the log is started", l.Started)
	entries, err := os.ReadDir(filepath.Join(l.dir, quarantineName))
	if err != nil || !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), nextName) }) {
		t.Errorf("quarantine: %v, %v", entries, err)
	}
}

func TestLaterVersionsAreReportedByTheInspector(t *testing.T) {
	dir, file := sealedDir(t, 3)
	setLaterVersion(t, file)
	i, err := Inspect(dir)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := i.Entries()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, err := i.Examine(e, nil); e.FirstSeq == 1 && (!errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), "segment "+e.Name)) {
			t.Errorf("segment %s: %v", e.Name, err)
		}
	}
}
