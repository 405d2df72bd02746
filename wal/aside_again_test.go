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
)

// mountedQuarantine is a disk on which the quarantine is another file system.
type mountedQuarantine struct{ vfs.FS }

func (m mountedQuarantine) Rename(from, to string) error {
	if filepath.Base(filepath.Dir(to)) == quarantineName {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: syscall.EXDEV}
	}
	return m.FS.Rename(from, to)
}

// TestEntriesThatCanNotBeMovedToTheQuarantineAreRenamedOnce also asserts that such
// entries do not prevent the rest of the recovery.
func TestEntriesThatCanNotBeMovedToTheQuarantineAreRenamedOnce(t *testing.T) {
	data, _ := sealedDir(t, 9)
	dir := filepath.Join(data, "wal")
	empty := segment.ActiveName(10)
	if err := os.Rename(filepath.Join(dir, empty), filepath.Join(dir, empty+goneSuffix)); err != nil {
		t.Fatal(err)
	}
	places := []string{filepath.Join(lostName, "x"), segment.SealedName(1, 2) + goneSuffix}
	for _, place := range places {
		putForeignFile(t, filepath.Join(dir, place))
	}
	var before []string
	for start := range 3 {
		l := openLog(t, data, Options{files: mountedQuarantine{vfs.OS{}}})
		for range 3 { // each call reads the notes
			if notes, err := l.Losses(); err != nil || len(notes) > 0 {
				t.Errorf("start %d: notes %v, %v", start, notes, err)
			}
		}
		if found := findings(l); start > 0 && len(found) > 0 {
			t.Errorf("start %d found %v", start, found)
		}
		mustAppend(t, l, Record{Usage: usage(9)})
		mustSeal(t, l)
		mustClose(t, l)
		var aside []string
		for _, in := range []string{dir, filepath.Join(dir, lostName)} {
			entries, err := os.ReadDir(in)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				switch name := e.Name(); {
				case isAside(name):
					aside = append(aside, name)
				case strings.HasSuffix(name, goneSuffix), name == filepath.Base(places[0]):
					t.Errorf("start %d left %s", start, name)
				}
			}
		}
		if start > 0 && !slices.Equal(aside, before) || len(aside) != len(places) {
			t.Errorf("start %d: put aside %q, before %q", start, aside, before)
		}
		before = aside
		for _, place := range places {
			if _, err := os.Stat(filepath.Join(dir, place)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("start %d: %s: %v", start, place, err)
			}
		}
	}
}

// fixedNext is a disk on which next can be neither renamed nor deleted.
type fixedNext struct {
	vfs.FS
	attempts *atomic.Int32 // to delete it
}

func (f fixedNext) Rename(from, to string) error {
	if filepath.Base(from) == nextName {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: syscall.EPERM}
	}
	return f.FS.Rename(from, to)
}

func (f fixedNext) RemoveDir(path string) error {
	if filepath.Base(path) == nextName {
		f.attempts.Add(1)
		return &os.PathError{Op: "rmdir", Path: path, Err: syscall.EPERM}
	}
	return f.FS.RemoveDir(path)
}

// TestAnEntryThatStaysInItsPlaceIsListedOnce: the log tries again and again to make room for
// the next segment.
func TestAnEntryThatStaysInItsPlaceIsListedOnce(t *testing.T) {
	data, _ := sealedDir(t, 9)
	disk := fixedNext{vfs.OS{}, &atomic.Int32{}}
	l := openLog(t, data, Options{files: disk, ProbeMin: time.Millisecond, ProbeMax: time.Millisecond})
	until(t, "the log has tried to delete next", func() bool { return disk.attempts.Load() > 5 })
	if n := l.refreshAside(); n != 1 {
		t.Errorf("%d entries are put aside: %v", n, l.PutAside())
	}
}

// unreadableNotes is a disk that can't open loss notes.
type unreadableNotes struct {
	vfs.FS
	fails *atomic.Bool
}

func (u unreadableNotes) Open(path string) (vfs.File, error) {
	if filepath.Base(filepath.Dir(path)) == lostName && u.fails.Load() {
		return nil, &os.PathError{Op: "open", Path: path, Err: syscall.EACCES}
	}
	return u.FS.Open(path)
}

func TestANoteThatCanNotBeReadIsListedUntilItCan(t *testing.T) {
	data, _ := sealedDir(t, 9)
	n := noteOf(1, 2)
	if err := os.WriteFile(filepath.Join(data, "wal", lostName, n.fileName()), n.encode(), 0o640); err != nil {
		t.Fatal(err)
	}
	disk := unreadableNotes{vfs.OS{}, &atomic.Bool{}}
	disk.fails.Store(true)
	l := openLog(t, data, Options{files: disk})
	for range 2 { // each call reads the notes
		if notes, err := l.Losses(); err != nil || len(notes) > 0 {
			t.Errorf("notes %v, %v", notes, err)
		}
		l.refreshAside()
		if all := l.PutAside(); len(all) != 1 || filepath.Base(all[0].Path) != n.fileName() {
			t.Errorf("put aside: %v", all)
		}
	}
	disk.fails.Store(false)
	if notes, err := l.Losses(); err != nil || len(notes) != 1 {
		t.Errorf("notes %v, %v", notes, err)
	}
	if n := l.refreshAside(); n != 0 {
		t.Errorf("put aside: %v", l.PutAside())
	}
}
