package wal

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"collectord/wal/segment"
	"collectord/wal/vfs/simdisk"
)

// TestANextThatHasRecordsIsNotReplaced: a power loss undid the rename of next, which then has
// records, and the start can't rename it. Its records are shipped by a later start.
func TestANextThatHasRecordsIsNotReplaced(t *testing.T) {
	for _, lasting := range []bool{false, true} { // whether the rename fails until the log is closed
		t.Run(fmt.Sprint("lasting: ", lasting), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := newSimulatedDisk(t)
				start := func() *Log {
					l := mustStart(t, disk)
					time.Sleep(5 * time.Minute)
					synctest.Wait()
					return l
				}
				l := start()
				for i := range 3 {
					mustAppend(t, l, Record{Usage: usage(i)})
				}
				killed := disk.Kill()
				mustClose(t, l)
				disk = killed
				next := filepath.Join(simulatedDir, "wal", nextName)
				for _, err := range []error{
					disk.Remove(filepath.Join(next, segment.FileName)), disk.RemoveDir(next),
					disk.Rename(filepath.Join(simulatedDir, "wal", segment.ActiveName(1)), next),
				} {
					if err != nil {
						t.Fatal(err)
					}
				}
				began := time.Now()
				disk.SetIntercept(func(c simdisk.Call) (f simdisk.Fault) {
					if c.Op == simdisk.Rename && strings.HasPrefix(c.Path, next) && (lasting || time.Since(began) < 10*time.Second) {
						f.Err = syscall.EIO
					}
					return f
				})
				l = start()
				if lasting {
					if err := l.Append(t.Context(), Record{Usage: usage(3)}); err == nil {
						t.Error("there is no segment for this record")
					}
				} else {
					l.queue.mu.Lock()
					seq := int(l.queue.nextSeq)
					l.queue.mu.Unlock()
					mustAppend(t, l, Record{Usage: usage(seq - 1)})
				}
				mustClose(t, l)
				disk.SetIntercept(nil)
				l = start()
				shipped := shipAll(t, l)
				if len(shipped) < 3 || !slices.Equal(shipped[:3], []uint64{1, 2, 3}) || len(shipped) == 3 != lasting {
					t.Errorf("shipped: %v", shipped)
				}
				notes, err := l.Losses()
				if err != nil || slices.ContainsFunc(notes, func(n LossNote) bool { return n.Reason != LossSkipped }) {
					t.Errorf("loss notes: %+v, %v", notes, err)
				}
				checkLedger(t, l)
				mustClose(t, l)
			})
		})
	}
}
