package wal_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"collectord/wal"
	"collectord/wal/vfs"
)

// TestALockOfAnotherUser starts a process of another user, which can't open the lock file: first
// while the lock is held, then after its release.
func TestALockOfAnotherUser(t *testing.T) {
	if data := os.Getenv("COLLECTORD_TEST_LOCK"); data != "" {
		held := os.Getenv("COLLECTORD_TEST_HELD") != ""
		if i, err := wal.Inspect(data); err != nil || i.Live() != held {
			t.Errorf("inspected: %v, live %t", err, i.Live())
		}
		l, err := wal.Open(data, wal.Options{MachineID: "/nonexistent"})
		if held {
			if err == nil || !strings.Contains(err.Error(), "in use by another collectord") {
				t.Errorf("start while the lock is held: %v", err)
			}
			return
		}
		if err != nil {
			t.Fatalf("start: %v", err)
		}
		appendOnceWritable(t, l, `{"n":7}`)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		return
	}
	base := scratchDir(t)
	data := filepath.Join(base, "data")
	l, err := wal.Open(data, wal.Options{MachineID: "/nonexistent"})
	if err != nil {
		t.Fatal(err)
	}
	lock := filepath.Join(data, "LOCK")
	if err := os.Chmod(lock, 0); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := errors.Join(chownToNobody(base), os.Chown(lock, 0, 0)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("COLLECTORD_TEST_HELD", "yes")
	runAsNobody(t, base, "COLLECTORD_TEST_LOCK="+data)
	if aside, _ := filepath.Glob(lock + ".aside-*"); len(aside) > 0 || !exists(lock) {
		t.Errorf("a held lock was moved to %q", aside)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	t.Setenv("COLLECTORD_TEST_HELD", "")
	runAsNobody(t, base, "COLLECTORD_TEST_LOCK="+data)
}

// Starts at the same moment do not keep each other out: one of them gets the lock.
func TestOneOfManyStartsGetsTheLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "LOCK")
	for range 200 {
		var (
			wg   sync.WaitGroup
			mu   sync.Mutex
			held []io.Closer
		)
		begin := make(chan struct{})
		for range 4 {
			wg.Go(func() {
				<-begin
				if l, err := (vfs.OS{}).Lock(path); err == nil {
					mu.Lock()
					defer mu.Unlock()
					held = append(held, l)
				}
			})
		}
		close(begin)
		wg.Wait()
		if len(held) != 1 {
			t.Fatalf("%d starts have the lock", len(held))
		}
		held[0].Close()
	}
}

// People delete a lock file that looks stale.
func TestTheLockOutlivesItsFile(t *testing.T) {
	data := t.TempDir()
	l, err := wal.Open(data, wal.Options{MachineID: "/nonexistent"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(data, "LOCK")); err != nil {
		t.Fatal(err)
	}
	if i, err := wal.Inspect(data); err != nil || !i.Live() {
		t.Errorf("inspected: %v, live %t", err, i.Live())
	}
	if _, err := wal.Open(data, wal.Options{MachineID: "/nonexistent"}); !errors.As(err, new(*wal.InUseError)) {
		t.Errorf("second start: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if l, err = wal.Open(data, wal.Options{MachineID: "/nonexistent"}); err != nil {
		t.Fatalf("start after the first log was closed: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// An earlier version has a read lock of the directory, and a lock of its file only.
func TestAnEarlierVersionKeepsItsLockWithoutItsFile(t *testing.T) {
	data := t.TempDir()
	earlier, err := os.Open(data)
	if err == nil {
		err = unix.FcntlFlock(earlier.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK})
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wal.Open(data, wal.Options{MachineID: "/nonexistent"}); !errors.As(err, new(*wal.InUseError)) {
		t.Fatalf("start beside an earlier version: %v", err)
	}
	earlier.Close()
	l, err := wal.Open(data, wal.Options{MachineID: "/nonexistent"})
	if err != nil {
		t.Fatalf("start after the earlier version has ended: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestTheErrorForAnUnwritableDataDirectorySaysWhatToDo(t *testing.T) {
	if data := os.Getenv("COLLECTORD_TEST_LOCK"); data != "" {
		if _, err := wal.Open(data, wal.Options{}); err == nil || !strings.Contains(err.Error(), "the user who runs this must be able to write to "+data) {
			t.Errorf("start: %v", err)
		}
		return
	}
	t.Parallel()
	base := scratchDir(t)
	data := filepath.Join(base, "data")
	if err := os.Mkdir(data, 0o555); err != nil {
		t.Fatal(err)
	}
	runAsNobody(t, base, "COLLECTORD_TEST_LOCK="+data)
}
