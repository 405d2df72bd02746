package wal

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"collectord/wal/segment"
	"collectord/wal/vfs/simdisk"
)

// TestACallThatFailsOnceChangesNoDecisionOfAStart writes one segment, or half of it, over
// another. Then calls of a start fail, one in each start. The start must ship and note the
// same records as a start without a failed call: what it renames or deletes can't be undone.
func TestACallThatFailsOnceChangesNoDecisionOfAStart(t *testing.T) {
	t.Parallel()
	names := []string{segment.SealedName(1, 3), segment.SealedName(4, 6), segment.SealedName(7, 9), segment.ActiveName(10)}
	var disk *simdisk.Disk
	synctest.Test(t, func(t *testing.T) { disk = tenRecords(t) })
	pathOf := func(i int) string { return filepath.Join(simulatedDir, "wal", names[i], segment.FileName) }
	files := map[string][]byte{}
	disk.Walk(simulatedDir, func(path string, data []byte) { files[path] = slices.Clone(data) })
	for from := range names {
		for to := range names {
			for _, row := range []struct {
				all   bool
				errno syscall.Errno
				step  int
			}{{true, syscall.EIO, *startStep / 3}, {true, syscall.EACCES, *startStep / 3}, {false, syscall.EIO, *startStep}} {
				if from == to {
					continue
				}
				t.Run(fmt.Sprintf("%d over %d, all of it %t, %s", from, to, row.all, unix.ErrnoName(row.errno)), func(t *testing.T) {
					t.Parallel()
					s := startTrial{disk: disk.Kill()}
					if err := s.disk.Edit(pathOf(to), func(data []byte) []byte {
						content := files[pathOf(from)]
						if row.all {
							return content
						}
						copy(data, content[:len(content)/2])
						return data
					}); err != nil {
						t.Fatal(err)
					}
					var want string
					synctest.Test(t, func(t *testing.T) { want, _, _ = s.outcome(t, 0, row.errno) })
					step := max(1, row.step)
					for at := 1 + (from+to)%step; at <= s.calls && !t.Failed(); at += step {
						synctest.Test(t, func(t *testing.T) {
							if got, _, call := s.outcome(t, at, row.errno); got != want {
								t.Errorf("call %d (%s %s) failed once: %s\nwithout: %s", at, call.Op, call.Path, got, want)
							}
						})
					}
				})
			}
		}
	}
}

// newSimulatedDisk returns a disk on which simulatedDir is empty.
func newSimulatedDisk(t *testing.T) *simdisk.Disk {
	t.Helper()
	disk := simdisk.New(1<<24, func(n int) int { return n / 2 })
	if err := disk.Mkdir(simulatedDir); err != nil {
		t.Fatal(err)
	}
	return disk
}

// mustStart opens the log on a simulated disk.
func mustStart(t *testing.T, disk *simdisk.Disk) *Log {
	t.Helper()
	l, err := Open(simulatedDir, startTrial{}.options(disk, t))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// tenRecords returns a disk as a kill leaves it: three sealed segments of three records each, and
// the tenth record in an unsealed one.
func tenRecords(t *testing.T) *simdisk.Disk {
	disk := newSimulatedDisk(t)
	l := mustStart(t, disk)
	for i := range 10 {
		mustAppend(t, l, Record{Usage: usage(i)})
		if i%3 == 2 {
			mustSeal(t, l)
		}
	}
	disk = disk.Kill()
	mustClose(t, l)
	return disk
}

// outcome starts the log twice and returns which records were shipped and noted, and which files were
// put aside. Call number at of the
// first start fails with errno; 0: none does, and the number of calls is counted.
func (s *startTrial) outcome(t *testing.T, at int, errno syscall.Errno) (records, aside string, failed simdisk.Call) {
	d := s.disk.Kill()
	var last atomic.Int64
	d.SetIntercept(func(c simdisk.Call) simdisk.Fault {
		last.Store(int64(c.N))
		if c.N == at && strings.HasPrefix(c.Path, simulatedDir+"/wal/") { // of the data directory itself, a failure may end Open
			failed = c
			return simdisk.Fault{Err: errno}
		}
		return simdisk.Fault{}
	})
	var shipped, lost, skipped []uint64
	for range 2 {
		l, err := Open(simulatedDir, s.options(d, t))
		if err != nil {
			t.Fatal(err)
		}
		if at == 0 && s.calls == 0 {
			s.calls = int(last.Load())
		}
		time.Sleep(5 * time.Minute)
		if err := l.Seal(t.Context()); err != nil {
			t.Error(err)
		}
		shipped = append(shipped, shipAll(t, l)...)
		lost, skipped = notedSeqs(t, l)
		mustClose(t, l)
	}
	slices.Sort(shipped)
	slices.Sort(lost)
	var files []string
	d.Walk(filepath.Join(simulatedDir, "wal", quarantineName), func(path string, data []byte) {
		if !strings.HasSuffix(path, reportSuffix) {
			files = append(files, fmt.Sprintf("%d bytes", len(data)))
		}
	})
	slices.Sort(files)
	return fmt.Sprintf("shipped %v, lost %v, skipped %v", shipped, lost, skipped), fmt.Sprint(files), failed
}
