package wal

import (
	"bytes"
	"sync/atomic"
	"testing"

	"collectord/wal/vfs"
)

func TestReadersGiveWayToUDPWithoutStopping(t *testing.T) {
	hang := make(chan struct{})
	var hanging atomic.Bool
	l := openLog(t, t.TempDir(), Options{QueueBytes: 1 << 20}.WithDatasync(func(f vfs.File) error {
		if hanging.Load() {
			<-hang
		}
		return f.Datasync()
	}))
	for i := range 3 { // frames
		mustAppend(t, l, Record{Usage: usage(i)})
	}
	mustSeal(t, l)
	if l.shelf.udpHasPriority() {
		t.Error("readers give way although the queue is empty")
	}
	l.YieldToIngest()
	if !l.shelf.udpHasPriority() {
		t.Error("readers do not give way after YieldToIngest")
	}
	until(t, "readers no longer give way", func() bool { return !l.shelf.udpHasPriority() })
	hanging.Store(true)
	l.Enqueue(Record{Usage: usage(3), Source: UDP}) // this record is being committed
	until(t, "a commit is under way", func() bool {
		return l.committer.diskWait.isBusy()
	})
	for range 1000 {
		l.Enqueue(Record{Usage: bytes.Repeat([]byte("x"), 100), Source: UDP})
	}
	if !l.shelf.udpHasPriority() {
		t.Error("readers do not give way while the queue fills")
	}
	sealed, _ := l.Sealed()
	n := 0
	for _, err := range sealed[0].Records() {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 3 {
		t.Errorf("%d records read while giving way", n)
	}
	limits := Limits{MaxBytes: sealed[0].Bytes()}
	l.SetLimits(limits)
	if l.shelf.udpHasPriority() {
		t.Error("readers give way although only shipping makes space")
	}
	close(hang)
	until(t, "the queue is empty", func() bool { return !l.shelf.udpHasPriority() })
}
