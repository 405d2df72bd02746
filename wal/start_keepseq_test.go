package wal

import (
	"errors"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"collectord/wal/segment"
	"collectord/wal/vfs/simdisk"
)

// TestSeqsStayInUseWhileTheDiskTakesNoSegment loses all segments of a log, so that only a loss
// note has their seqs. The next start can't make a segment, and the storage gets the note.
func TestSeqsStayInUseWhileTheDiskTakesNoSegment(t *testing.T) {
	for name, c := range map[string]struct {
		op    simdisk.Op
		errno syscall.Errno
	}{
		"the disk is full":                  {simdisk.Reserve, syscall.ENOSPC},
		"the segment does not get its name": {simdisk.Rename, syscall.EIO},
	} {
		t.Run(name, func(t *testing.T) { checkSeqsStayInUse(t, c.op, c.errno) })
	}
}

// checkSeqsStayInUse lets the calls op on the next segment fail at the second start.
func checkSeqsStayInUse(t *testing.T, op simdisk.Op, errno syscall.Errno) {
	synctest.Test(t, func(t *testing.T) {
		d := newSimulatedDisk(t)
		l := mustStart(t, d)
		for i := range 3 {
			mustAppend(t, l, Record{Usage: usage(i)})
		}
		mustSeal(t, l)
		killed := d.Kill()
		mustClose(t, l)

		d = killed
		dir := filepath.Join(simulatedDir, "wal")
		active := filepath.Join(dir, segment.ActiveName(4))
		if err := errors.Join(d.Remove(filepath.Join(dir, segment.SealedName(1, 3), segment.FileName)), d.Remove(filepath.Join(active, segment.FileName)), d.RemoveDir(active)); err != nil {
			t.Fatal(err)
		}
		d.SetIntercept(func(c simdisk.Call) simdisk.Fault {
			if c.Op == op && strings.Contains(c.Path+"/", "/"+nextName+"/") {
				return simdisk.Fault{Err: errno}
			}
			return simdisk.Fault{}
		})
		l = mustStart(t, d)
		notes, err := l.Losses()
		if err != nil || len(notes) != 1 || notes[0].FirstSeq != 1 || notes[0].LastSeq != 3 {
			t.Fatalf("notes %v, %v", notes, err)
		}
		if err := l.LossStored(notes[0]); err != nil {
			t.Fatal(err)
		}
		killed = d.Kill()
		mustClose(t, l)

		d = killed
		if l, err = Open(simulatedDir, startTrial{}.options(d, t)); err != nil {
			t.Fatal(err)
		}
		if next := l.queue.nextSeq; next != 4 {
			t.Errorf("the log continues with seq %d, want 4", next)
		}
		mustAppend(t, l, Record{Usage: usage(3)})
		time.Sleep(time.Minute)
		entries, err := d.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), goneSuffix) {
				t.Errorf("%s is left", e.Name())
			}
		}
		mustClose(t, l)
	})
}

// TestANameThatKeepsSeqsIsDeletedIfItsSyncFailed starts a log on a disk that takes no segment and
// does not sync the name that keeps the seqs in use. The same run deletes that name.
func TestANameThatKeepsSeqsIsDeletedIfItsSyncFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newSimulatedDisk(t)
		l := mustStart(t, d)
		mustAppend(t, l, Record{Usage: usage(0)})
		mustSeal(t, l)
		killed := d.Kill()
		mustClose(t, l)

		d = killed
		made := false
		d.SetIntercept(func(c simdisk.Call) simdisk.Fault {
			made = made || strings.HasSuffix(c.Path, goneSuffix) || strings.HasSuffix(c.To, goneSuffix)
			if c.Op == simdisk.Create && strings.Contains(c.Path, nextName) || c.Op == simdisk.SyncDir && made {
				return simdisk.Fault{Err: syscall.EMFILE}
			}
			return simdisk.Fault{}
		})
		l = mustStart(t, d)
		d.SetIntercept(nil)
		time.Sleep(time.Minute)
		mustAppend(t, l, Record{Usage: usage(1)})
		if name := unfinishedWork(d); name != "" || !made {
			t.Errorf("%q is left", name)
		}
		mustClose(t, l)
	})
}
