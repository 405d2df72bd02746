package wal

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"collectord/wal/segment"
	"collectord/wal/vfs"
	"collectord/wal/vfs/errorfs"
	"collectord/wal/vfs/simdisk"
)

// callRecorder records the calls of a log that change a disk, by operation and last
// element of the path.
type callRecorder struct {
	mu       sync.Mutex // guards the fields below
	calls    []string
	failNext []string // calls to fail, in this order
}

func (r *callRecorder) disk() vfs.FS {
	return errorfs.FS{FS: vfs.OS{}, Before: func(op, path string) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		call := op + " " + filepath.Base(path)
		if op == "fsync" && filepath.Base(path) == segment.FileName { // name the segment instead of its file
			call = op + " " + filepath.Base(filepath.Dir(path))
		}
		r.calls = append(r.calls, call)
		if len(r.failNext) > 0 && r.failNext[0] == call {
			r.failNext = r.failNext[1:]
			return syscall.EIO
		}
		return nil
	}}
}

// open opens a log, waits until it makes no calls of its own, and then clears the list.
func (r *callRecorder) open(t *testing.T, dir string) *Log {
	t.Helper()
	l := openLog(t, dir, Options{files: r.disk()})
	until(t, "a segment is prepared", func() bool { return len(l.roller.rolls.next) == 1 })
	r.reset()
	return l
}

// reset clears the list. Each of the given calls then fails once, one after the other.
func (r *callRecorder) reset(fails ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls, r.failNext = nil, fails
}

// wantCalls fails the test unless the given calls came in this order. Other calls may
// come between them.
func (r *callRecorder) wantCalls(t *testing.T, want ...string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	left := r.calls
	for _, call := range want {
		at := slices.IndexFunc(left, func(c string) bool { return strings.HasPrefix(c, call) })
		if at < 0 {
			t.Errorf("no %q after %q in %q", call, want[:slices.Index(want, call)], r.calls)
			return
		}
		left = left[at+1:]
	}
}

// TestALeftoverIsDurableBeforeItIsSealed: a killed process may have left records only
// in memory.
func TestALeftoverIsDurableBeforeItIsSealed(t *testing.T) {
	dir, _ := openSegmentDir(t, 9)
	var r callRecorder
	openLog(t, dir, Options{files: r.disk()})
	r.wantCalls(t, "fsync "+segment.ActiveName(1), "rename "+segment.ActiveName(1))
}

// TestARemovedNameIsDeletedOnceTheActiveOneIsDurable: without the name of a removed
// segment, a start would not know the next seq.
func TestARemovedNameIsDeletedOnceTheActiveOneIsDurable(t *testing.T) {
	dir, file := sealedDir(t, 9)
	gone := filepath.Dir(file) + goneSuffix
	if err := os.Rename(filepath.Dir(file), gone); err != nil {
		t.Fatal(err)
	}
	var r callRecorder
	openLog(t, dir, Options{files: r.disk()})
	r.wantCalls(t, "rename "+nextName, "fsync wal", "rmdir "+filepath.Base(gone))
}

// TestASegmentWithAnothersContentKeepsItsSeqsInACrash: the disk replaced the content of
// an unsealed segment by that of a shipped one. An interrupted start must not free the
// seqs of its name.
func TestASegmentWithAnothersContentKeepsItsSeqsInACrash(t *testing.T) {
	dir, file := sealedDir(t, 9)
	log := filepath.Dir(filepath.Dir(file))
	wrong := segment.ActiveName(11) // it differs in one digit
	if err := errors.Join(os.RemoveAll(filepath.Join(log, segment.ActiveName(10))), os.Rename(filepath.Dir(file), filepath.Join(log, wrong))); err != nil {
		t.Fatal(err)
	}
	var r callRecorder
	l := openLog(t, dir, Options{files: r.disk()})
	r.wantCalls(t, "mkdir "+wrong+goneSuffix, "fsync wal", "rename "+wrong, "rename "+nextName, "fsync wal", "rmdir "+wrong+goneSuffix)
	if next := l.queue.nextSeq; next != 11 {
		t.Errorf("next seq %d", next)
	}
}

// TestALossIsNotedOnceItsDecisionIsDurable makes both the sync of the rename and its
// undo fail.
func TestALossIsNotedOnceItsDecisionIsDurable(t *testing.T) {
	dir, _ := sealedDir(t, 9)
	var r callRecorder
	l := r.open(t, dir)
	all, _ := l.Sealed()
	evicted := all[0].String() + evictedSuffix
	r.reset("fsync wal", "rename "+evicted)
	if err := all[0].evict(); err != nil {
		t.Fatal(err)
	}
	r.wantCalls(t, "rename "+all[0].String(), "fsync wal", "rename "+evicted, "fsync wal", "write "+all[0].String())
}

// TestANewestNameIsDeletedOnceTheNextIsDurable retries a removal after another segment
// has become active.
func TestANewestNameIsDeletedOnceTheNextIsDurable(t *testing.T) {
	dir, _ := sealedDir(t, 9)
	var r callRecorder
	l := r.open(t, dir)
	all, _ := l.Sealed()
	d := all[0].removal("")
	d.dir += goneSuffix
	if err := l.disk.RenameDurably(all[0].dir, d.dir); err != nil {
		t.Fatal(err)
	}
	r.reset()
	if err := l.shelf.deleteGone(d); err != nil {
		t.Fatal(err)
	}
	r.wantCalls(t, "fsync wal", "unlink", "rmdir "+filepath.Base(d.dir))
}

// TestATombstoneIsDeletedOnceTheActiveNameIsDurable: until then its name gives the next
// seq.
func TestATombstoneIsDeletedOnceTheActiveNameIsDurable(t *testing.T) {
	dir, _ := sealedDir(t, 9)
	var r callRecorder
	l := r.open(t, dir)
	gone := filepath.Join(l.dir, segment.SealedName(20, 29)+goneSuffix)
	if err := l.disk.MkdirDurably(gone); err != nil {
		t.Fatal(err)
	}
	l.shelf.lock()
	l.shelf.addTombstoneLocked(gone)
	l.shelf.unlock()
	r.reset()
	if !l.shelf.deleteTombstones() {
		t.Fatal("deleteTombstones wants a retry")
	}
	r.wantCalls(t, "fsync wal", "rmdir "+filepath.Base(gone))
}

func TestPiecesOfAFailedAttemptAreDeletedFirst(t *testing.T) {
	for name, then := range map[string]func(s *Segment) error{
		"before the loss is decided": func(s *Segment) error { return s.evict() },
		"before others are made":     func(s *Segment) error { return s.Split() },
	} {
		dir, file := sealedDir(t, 9)
		var r callRecorder
		l := r.open(t, dir)
		piece := filepath.Join(l.dir, segment.SealedName(2, 3))
		if err := os.CopyFS(piece, os.DirFS(filepath.Dir(file))); err != nil {
			t.Fatal(err)
		}
		all, _ := l.Sealed()
		all[0].unfinishedPieces = []string{piece}
		if err := then(all[0]); err != nil {
			t.Fatal(err)
		}
		t.Log(name)
		r.wantCalls(t, "rename "+filepath.Base(piece), "rmdir "+filepath.Base(piece)+goneSuffix, "rename "+all[0].String())
	}
}

// TestAFileIsDeletedOnceItsGoneNameIsDurable begins with each state that an earlier
// attempt may have left.
func TestAFileIsDeletedOnceItsGoneNameIsDurable(t *testing.T) {
	dir, file := sealedDir(t, 9)
	var r callRecorder
	l := r.open(t, dir)
	name := segment.SealedName(20, 29)
	for _, left := range []struct {
		names []string
		want  []string
	}{
		{[]string{name}, []string{"rename " + name, "fsync wal", "unlink", "rmdir"}},
		{[]string{name + goneSuffix}, []string{"rename " + name, "fsync wal", "unlink", "rmdir"}},
		{[]string{name, name + goneSuffix}, []string{"rename " + name, "fsync wal", "unlink", "rmdir", "rename " + name, "fsync wal", "unlink", "rmdir"}},
	} {
		for _, name := range left.names {
			if err := os.CopyFS(filepath.Join(l.dir, name), os.DirFS(filepath.Dir(file))); err != nil {
				t.Fatal(err)
			}
		}
		r.reset()
		if err := l.deleteRedundant(name); err != nil {
			t.Error(err)
		}
		r.wantCalls(t, left.want...)
	}
}

func TestQuarantinedBytesKeepTheirZerosAndAreDurable(t *testing.T) {
	var r callRecorder
	l := r.open(t, t.TempDir())
	b := append([]byte(foreignContent), make([]byte, 2*chunkSize)...)
	if err := l.quarantineBytes("x", "x", bytes.NewReader(b), segment.ByteRange{To: int64(len(b))}, errInTheWay); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(l.dir, quarantineName, "x.bin")); err != nil || !bytes.Equal(got, b) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	r.wantCalls(t, "write x.bin", "fsync x.bin", "fsync quarantine")
}

func TestALinkIsDurableBeforeItHasItsName(t *testing.T) {
	dir, file := sealedDir(t, 9)
	var r callRecorder
	l := r.open(t, dir)
	name := unreadName(3, 4)
	putForeignFile(t, filepath.Join(l.dir, salvageName, name, segment.FileName)) // left by a failed attempt
	r.reset()
	if err := l.link(file, filepath.Join(l.dir, name)); err != nil {
		t.Fatal(err)
	}
	r.wantCalls(t, "link", "fsync "+name, "rename "+name, "fsync wal", "rmdir "+salvageName)
}

func TestAnUnreadableFileIsQuarantinedOnceItsLastNameIsDurable(t *testing.T) {
	var r callRecorder
	l := r.open(t, t.TempDir())
	d := &removal{basePath: filepath.Join(l.dir, segment.SealedName(3, 4)), report: "report\n"}
	d.dir = d.basePath + lostSuffix
	putForeignFile(t, filepath.Join(d.dir, segment.FileName))
	name := filepath.Base(d.basePath)
	r.reset()
	if err := l.shelf.quarantineUnread(d); err != nil {
		t.Fatal(err)
	}
	r.wantCalls(t, "mkdir "+name+goneSuffix, "fsync wal", "rename "+name+lostSuffix)
	checkQuarantined(t, l, []byte(foreignContent))
}

// TestAMoveOfFilesIsOneChangeInACrash simulates a file system that does not rename
// older directories. It also interrupts the undoing of a move.
func TestAMoveOfFilesIsOneChangeInACrash(t *testing.T) {
	for seed := range uint64(100) {
		to := []string{"/b", "/q/b"}[seed%2] // no directory can be renamed to the second, so its files are moved one by one
		random := rand.New(rand.NewPCG(seed, 0))
		d := simdisk.New(simulatedRoom, random.IntN)
		disk := vfs.Disk{FS: d}
		if err := errors.Join(disk.MkdirDurably("/a"), disk.MkdirDurably("/q")); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"x", "y"} {
			if err := disk.WriteFileDurably("/a/"+name, []byte(foreignContent+name)); err != nil {
				t.Fatal(err)
			}
		}
		d.SetIntercept(func(c simdisk.Call) (f simdisk.Fault) {
			if c.Op == simdisk.Rename && (c.Path == "/a" || c.To == "/q/b") {
				f.Err = syscall.EXDEV
			}
			return f
		})
		var crashes []*simdisk.Disk
		d.SetChanged(func(_ simdisk.Call, d simdisk.Locked) { crashes = append(crashes, d.Crash(), d.Kill()) })
		if err := disk.Rename("/a", to); err != nil {
			t.Error(err)
		}
		undo := func(d *simdisk.Disk) {
			if err := (vfs.Disk{FS: d}).UndoMoves("/"); err != nil {
				t.Error(err)
			}
		}
		for _, after := range slices.Clone(crashes) {
			after.SetChanged(func(_ simdisk.Call, d simdisk.Locked) { crashes = append(crashes, d.Crash()) })
			undo(after)
			after.SetChanged(nil)
		}
		for n, after := range append(crashes, d) {
			undo(after)
			if to != "/b" {
				if !diskContains(after, "/", []byte(foreignContent+"x")) || !diskContains(after, "/", []byte(foreignContent+"y")) {
					t.Errorf("seed %d: after crash %d of %d the disk has\n%s", seed, n, len(crashes), listing(after, "/"))
				}
			} else if got := listing(after, "/"); got != "/a\n/a/x, 17 bytes\n/a/y, 17 bytes\n/q\n" && got != "/b\n/b/x, 17 bytes\n/b/y, 17 bytes\n/q\n" {
				t.Errorf("seed %d: after crash %d of %d the disk has\n%s", seed, n, len(crashes), got)
			}
		}
	}
}

func TestUnsyncedRecordsAreSyncedBeforeTheyAreSealed(t *testing.T) {
	var synced atomic.Int32
	l := openLog(t, t.TempDir(), Options{Sync: SyncInterval, SyncInterval: time.Hour}.WithDatasync(func(f vfs.File) error {
		synced.Add(1)
		return f.Datasync()
	}))
	mustAppend(t, l, Record{Usage: usage(0)})
	if n := synced.Load(); n > 0 {
		t.Fatalf("%d syncs before", n)
	}
	mustSeal(t, l)
	if n := synced.Load(); n != 1 {
		t.Errorf("%d syncs", n)
	}
}
