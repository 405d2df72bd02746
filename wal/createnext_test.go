package wal

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"collectord/wal/segment"
	"collectord/wal/vfs"
	"collectord/wal/vfs/simdisk"
)

func TestThePreparedSegmentReplacesALeftover(t *testing.T) {
	d := simdisk.New(simulatedRoom, func(int) int { return 0 })
	l := newLog((&life{t: t, disk: d}).options(d).withDefaults(), simulatedDir)
	if err := l.disk.MkdirDurably(l.dir); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := l.roller.createNext(l.dir + "/" + nextName); err != nil {
			t.Error(err)
		}
	}
}

// TestASegmentThatDoesNotFitTheDiskLeavesNothing: the remains of a prepared segment
// would take the space that shipping needs.
func TestASegmentThatDoesNotFitTheDiskLeavesNothing(t *testing.T) {
	d := simdisk.New(simulatedRoom, func(int) int { return 0 })
	s := &life{t: t, seed: 1, disk: d}
	l := newLog(s.options(d).withDefaults(), simulatedDir)
	if err := l.disk.MkdirDurably(l.dir); err != nil {
		t.Fatal(err)
	}
	d.Resize(d.Used() + 100)
	next := l.dir + "/" + nextName
	if _, err := l.roller.createNext(next); !vfs.IsFull(err) {
		t.Fatalf("a segment on a full disk: %v", err)
	}
	if _, err := d.Stat(next); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s still exists (%v)", next, err)
	}
}

// TestANameAfterASealedSegmentIsDurableBeforeItsRecords tests the segment that follows
// a failure. If a crash takes records from the beginning of this segment, only its name shows
// which ones.
func TestANameAfterASealedSegmentIsDurableBeforeItsRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := simdisk.New(simulatedRoom, func(int) int { return 0 }) // a crash leaves only durable data
		stop := make(chan struct{})
		var syncs, prepared atomic.Int32
		d.SetIntercept(func(c simdisk.Call) (f simdisk.Fault) {
			switch {
			case c.Op == simdisk.Datasync:
				if syncs.Add(1) == 2 {
					f.Err = syscall.EIO
				}
			case c.Op == simdisk.Mkdir && syncs.Load() > 1 && filepath.Base(c.Path) == nextName:
				if prepared.Add(1) == 2 { // this mkdir is followed by a sync, which would also make the name durable
					<-stop
				}
			}
			return f
		})
		l := openLog(t, simulatedDir, (&life{t: t, disk: d}).options(d))
		synctest.Wait() // until a segment is prepared
		mustAppend(t, l, Record{Usage: usage(1)})
		for l.Append(context.Background(), Record{Usage: usage(2)}) != nil {
			time.Sleep(time.Second)
		}
		left := d.Detach(simdisk.Locked.Crash)
		close(stop)
		if _, err := left.Stat(filepath.Join(l.dir, segment.ActiveName(2))); syncs.Load() != 3 || err != nil {
			t.Errorf("after %d syncs and a crash the disk has\n%s(%v)", syncs.Load(), listing(left, simulatedDir), err)
		}
		mustClose(t, l)
	})
}
