package wal

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"collectord/wal/segment"
	"collectord/wal/vfs"
	"collectord/wal/vfs/errorfs"
)

const foreignContent = "of somebody else"

// putForeignFile creates a file that no log wrote, and its directory.
func putForeignFile(t *testing.T, path string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o750), os.WriteFile(path, []byte(foreignContent), 0o640)); err != nil {
		t.Fatal(err)
	}
}

// checkQuarantined fails the test unless a file in the quarantine contains content.
func checkQuarantined(t *testing.T, l *Log, content []byte) {
	t.Helper()
	found := false
	err := filepath.WalkDir(filepath.Join(l.dir, quarantineName), func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			b, errRead := os.ReadFile(path)
			found, err = found || bytes.Contains(b, content), errRead
		}
		return err
	})
	if err != nil || !found {
		t.Errorf("the foreign content is not in the quarantine (%v)", err)
	}
}

func TestEntriesInTheWayOfAStartAreQuarantined(t *testing.T) {
	for name, put := range map[string]func(t *testing.T, dir string){
		"left by an earlier attempt to put it aside": func(t *testing.T, dir string) { putForeignFile(t, filepath.Join(dir, "x"+asideMark+"0")) },
		"the same in the data directory":             func(t *testing.T, dir string) { putForeignFile(t, filepath.Join(dir, "..", "x"+asideMark+"0")) },
		"in the place of the active segment": func(t *testing.T, dir string) {
			active := filepath.Join(dir, segment.ActiveName(10))
			if err := os.Rename(active, active+goneSuffix); err != nil {
				t.Fatal(err)
			}
			putForeignFile(t, active)
		},
		"in the place of the reserve": func(t *testing.T, dir string) {
			reserve := filepath.Join(dir, lostName, reserveName)
			if err := os.Remove(reserve); err != nil {
				t.Fatal(err)
			}
			putForeignFile(t, filepath.Join(reserve, "x"))
		},
		"beside the reserve":        func(t *testing.T, dir string) { putForeignFile(t, filepath.Join(dir, lostName, "x.tmp", "x")) },
		"in the place of the spool": func(t *testing.T, dir string) { putForeignFile(t, filepath.Join(dir, "..", spoolName)) },
		"in the place of a segment that has a wrong name": func(t *testing.T, dir string) {
			name := filepath.Join(dir, segment.SealedName(1, 9))
			if err := os.Rename(name, filepath.Join(dir, segment.SealedName(2, 9))); err != nil {
				t.Fatal(err)
			}
			putForeignFile(t, name)
		},
		"in the place of a removed segment": func(t *testing.T, dir string) {
			putForeignFile(t, filepath.Join(dir, segment.SealedName(1, 9)+goneSuffix, "x"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			data, _ := sealedDir(t, 9)
			put(t, filepath.Join(data, "wal"))
			l := openLog(t, data, Options{})
			if _, err := l.Losses(); err != nil {
				t.Error(err)
			}
			mustAppend(t, l, Record{Usage: usage(9)})
			checkQuarantined(t, l, []byte(foreignContent))
			if info, err := os.Stat(filepath.Join(l.dir, lostName, reserveName)); err != nil || info.Size() != reserveSize {
				t.Errorf("the reserve: %v, %v", info, err)
			}
			if got := usagesOf(t, l); len(got) != 9 {
				t.Errorf("usages %v", got)
			}
		})
	}
}

// TestAnUnreadablePreparedSegmentIsQuarantined tests a file of another user, and one
// that the disk can't read.
func TestAnUnreadablePreparedSegmentIsQuarantined(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EACCES, syscall.EIO} {
		data, _ := sealedDir(t, 9)
		putForeignFile(t, filepath.Join(data, "wal", nextName, segment.FileName))
		l := openLog(t, data, Options{files: unopenableFS{vfs.OS{}, errno}})
		mustAppend(t, l, Record{Usage: usage(9)})
		checkQuarantined(t, l, []byte(foreignContent))
	}
}

// unopenableFS can't open foreign files.
type unopenableFS struct {
	vfs.FS
	errno syscall.Errno
}

func (u unopenableFS) Open(path string) (vfs.File, error) {
	if b, err := os.ReadFile(path); err == nil && string(b) == foreignContent {
		return nil, &fs.PathError{Op: "open", Path: path, Err: u.errno}
	}
	return u.FS.Open(path)
}

func TestEntriesInTheWayOfARemovalAreQuarantined(t *testing.T) {
	data, _ := sealedDir(t, 9)
	l := openLog(t, data, Options{})
	all, _ := l.Sealed()
	putForeignFile(t, filepath.Join(l.dir, all[0].String()+goneSuffix))
	if err := all[0].Remove(); err != nil {
		t.Error(err)
	}
	checkQuarantined(t, l, []byte(foreignContent))
	if left, err := filepath.Glob(filepath.Join(l.dir, all[0].String()+"*")); err != nil || len(left) > 0 {
		t.Errorf("%v still exists (%v)", left, err)
	}
}

// TestEntriesInTheWayOfASalvageAreKept damages the last of nine records. The piece has
// the first eight.
func TestEntriesInTheWayOfASalvageAreKept(t *testing.T) {
	piece := segment.SealedName(1, 8)
	for name, put := range map[string]func(t *testing.T, dir string) (kept []byte){
		"in the place of its directory": func(t *testing.T, dir string) []byte {
			putForeignFile(t, filepath.Join(dir, salvageName))
			return []byte(foreignContent)
		},
		"a directory without a segment": func(t *testing.T, dir string) []byte {
			putForeignFile(t, filepath.Join(dir, piece, "x"))
			return []byte(foreignContent)
		},
		"another segment": func(t *testing.T, dir string) []byte {
			_, other := sealedDir(t, 8)
			b, err := os.ReadFile(other)
			if err != nil {
				t.Fatal(err)
			}
			putForeignFile(t, filepath.Join(dir, piece, segment.FileName))
			if err := os.WriteFile(filepath.Join(dir, piece, segment.FileName), b, 0o640); err != nil {
				t.Fatal(err)
			}
			return b
		},
		"the piece itself": func(t *testing.T, dir string) []byte {
			b, err := os.ReadFile(filepath.Join(dir, segment.SealedName(1, 9), segment.FileName))
			if err != nil {
				t.Fatal(err)
			}
			putForeignFile(t, filepath.Join(dir, piece, segment.FileName))
			if err := os.WriteFile(filepath.Join(dir, piece, segment.FileName), b[:len(b)-200], 0o640); err != nil {
				t.Fatal(err)
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			data, file := sealedDir(t, 9)
			l := openLog(t, data, Options{})
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)-3] ^= 1
			if err := os.WriteFile(file, b, 0o640); err != nil {
				t.Fatal(err)
			}
			kept := put(t, l.dir)
			salvageAll(t, l)
			if got := usagesOf(t, l); len(got) != 8 {
				t.Errorf("usages %v", got)
			}
			if kept != nil {
				checkQuarantined(t, l, kept)
			}
			left, err := os.ReadDir(l.dir)
			for _, e := range left {
				if e.Name() == salvageName || strings.HasSuffix(e.Name(), goneSuffix) {
					t.Errorf("%s still exists (%v)", e.Name(), err)
				}
			}
		})
	}
}

func TestEntriesInTheWayOfTheActiveSegmentAreQuarantined(t *testing.T) {
	l := openLog(t, t.TempDir(), Options{})
	dir := filepath.Join(l.dir, segment.ActiveName(5))
	putForeignFile(t, filepath.Join(dir, "x"))
	if err := l.shelf.clearActive(dir); err != nil {
		t.Fatal(err)
	}
	checkQuarantined(t, l, []byte(foreignContent))
	if _, err := os.Stat(dir + goneSuffix); err != nil {
		t.Errorf("no name gives the next seq: %v", err)
	}
}

func TestOfTwoSegmentsWithTheSameRecordsTheSmallerIsQuarantined(t *testing.T) {
	data, _ := sealedDir(t, 9)
	_, other := sealedDir(t, 8)
	b, err := os.ReadFile(other)
	if err == nil {
		err = os.CopyFS(filepath.Join(data, "wal", segment.SealedName(1, 8)), os.DirFS(filepath.Dir(other)))
	}
	if err != nil {
		t.Fatal(err)
	}
	l := openLog(t, data, Options{})
	checkQuarantined(t, l, b)
	if got := usagesOf(t, l); len(got) != 9 {
		t.Errorf("usages %v", got)
	}
}

// TestAMoveToTheQuarantineIsDurableOnBothSides: on some file systems a move between
// directories is more than one change.
func TestAMoveToTheQuarantineIsDurableOnBothSides(t *testing.T) {
	data, _ := sealedDir(t, 9)
	var (
		mu    sync.Mutex
		calls []string
	)
	l := openLog(t, data, Options{files: errorfs.FS{FS: vfs.OS{}, Before: func(op, path string) error {
		mu.Lock()
		defer mu.Unlock()
		calls = append(calls, op+" "+filepath.Base(path))
		return nil
	}}})
	mustClose(t, l)
	putForeignFile(t, filepath.Join(l.dir, "x"))
	calls = nil
	if err := l.quarantineDir("x"); err != nil {
		t.Fatal(err)
	}
	at := strings.Index(strings.Join(calls, ", "), "rename x")
	if after := strings.Join(calls, ", ")[max(at, 0):]; at < 0 || !strings.Contains(after, "fsync "+quarantineName) || !strings.Contains(after, "fsync wal") {
		t.Errorf("calls: %v", calls)
	}
}
