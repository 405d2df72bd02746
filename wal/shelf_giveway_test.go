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
		t.Error("an empty queue makes readers give way")
	}
	l.YieldToIngest()
	if !l.shelf.udpHasPriority() {
		t.Error("whoever reads does not give way to who is in a hurry")
	}
	until(t, "the end of the hurry", func() bool { return !l.shelf.udpHasPriority() })
	hanging.Store(true)
	l.Enqueue(Record{Usage: usage(3), Source: UDP}) // this record is being committed
	until(t, "a commit", func() bool {
		return l.committer.diskWait.isBusy()
	})
	for range 1000 {
		l.Enqueue(Record{Usage: bytes.Repeat([]byte("x"), 100), Source: UDP})
	}
	if !l.shelf.udpHasPriority() {
		t.Error("a queue that fills makes nobody give way")
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
		t.Error("shipping gives way though it alone can make room")
	}
	close(hang)
	until(t, "an empty queue", func() bool { return !l.shelf.udpHasPriority() })
}
