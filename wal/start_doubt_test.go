package wal

import (
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"collectord/wal/segment"
	"collectord/wal/vfs/simdisk"
)

// TestACallThatFailsOnceChangesNoDecisionOfAStart writes one segment, or half of it, over
// another. Then each call of a start fails once. The start must ship and note
// the same records as a start without a failed call: what it renames or deletes can't be
// undone.
func TestACallThatFailsOnceChangesNoDecisionOfAStart(t *testing.T) {
	t.Parallel()
	step := max(1, *startStep/3)
	names := []string{segment.SealedName(1, 3), segment.SealedName(4, 6), segment.SealedName(7, 9), segment.ActiveName(10)}
	var disk *simdisk.Disk
	synctest.Test(t, func(t *testing.T) {
		disk = simdisk.New(1<<24, func(n int) int { return n / 2 })
		if err := disk.Mkdir(simulatedDir); err != nil {
			t.Fatal(err)
		}
		l, err := Open(simulatedDir, startTrial{}.options(disk, t))
		if err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			mustAppend(t, l, Record{Usage: usage(i)})
			if i%3 == 2 {
				mustSeal(t, l)
			}
		}
		disk = disk.Kill()
		mustClose(t, l)
	})
	pathOf := func(i int) string { return filepath.Join(simulatedDir, "wal", names[i], segment.FileName) }
	files := map[string][]byte{}
	disk.Walk(simulatedDir, func(path string, data []byte) { files[path] = slices.Clone(data) })
	for from := range names {
		for to := range names {
			for _, all := range []bool{true, false} {
				if from == to {
					continue
				}
				t.Run(fmt.Sprintf("%d over %d, all of it %t", from, to, all), func(t *testing.T) {
					t.Parallel()
					s := startTrial{disk: disk.Kill()}
					if err := s.disk.Edit(pathOf(to), func(data []byte) []byte {
						content := files[pathOf(from)]
						if all {
							return content
						}
						copy(data, content[:len(content)/2])
						return data
					}); err != nil {
						t.Fatal(err)
					}
					var want string
					synctest.Test(t, func(t *testing.T) { want, _ = s.outcome(t, 0) })
					for at := 1 + (from+to)%step; at <= s.calls && !t.Failed(); at += step {
						synctest.Test(t, func(t *testing.T) {
							if got, call := s.outcome(t, at); got != want {
								t.Errorf("call %d (%s %s) failed once: %s\nwithout: %s", at, call.Op, call.Path, got, want)
							}
						})
					}
				})
			}
		}
	}
}

// outcome starts the log twice and returns what was shipped and noted. Call number at of the
// first start fails with EIO; 0: none does, and the number of calls is counted.
func (s *startTrial) outcome(t *testing.T, at int) (of string, failed simdisk.Call) {
	d := s.disk.Kill()
	var last atomic.Int64
	d.SetIntercept(func(c simdisk.Call) simdisk.Fault {
		last.Store(int64(c.N))
		if c.N == at {
			failed = c
			return simdisk.Fault{Err: syscall.EIO}
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
	return fmt.Sprintf("shipped %v, lost %v, skipped %v", shipped, lost, skipped), failed
}
