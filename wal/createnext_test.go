package wal

import (
	"errors"
	"io/fs"
	"testing"

	"collectord/wal/vfs"
	"collectord/wal/vfs/simdisk"
)

func TestTheNextSegmentTakesThePlaceOfOneThatWasLeft(t *testing.T) {
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

// TestASegmentThatFindsNoRoomLeavesNothing fails where what there is of the next segment
// takes the room that shipping waits for.
func TestASegmentThatFindsNoRoomLeavesNothing(t *testing.T) {
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
		t.Errorf("%s is there still (%v)", next, err)
	}
}
