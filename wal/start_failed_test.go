package wal

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// A failed commit can leave a whole frame behind the last acknowledged one. Its seqs
// are used again, so a start must not confuse it with the records that have these seqs.
func TestAFailedCommitHidesNoAcknowledgedRecord(t *testing.T) {
	dir := t.TempDir()
	var fail atomic.Bool
	l := openLog(t, dir, Options{SegmentSize: 200, ProbeMin: time.Millisecond}.WithDatasync(func(f vfs.File) error {
		if fail.Swap(false) {
			return syscall.EIO
		}
		return f.Datasync()
	}))
	batch := func(n int) (recs []Record) {
		for i := range n {
			recs = append(recs, Record{Usage: usage(i)})
		}
		return recs
	}
	mustAppend(t, l, batch(1)...)
	fail.Store(true)
	if err := l.Append(context.Background(), batch(4)...); !errors.Is(err, ErrCommitFailed) { // seqs 2 to 5, which are used again
		t.Fatal(err)
	}
	until(t, "the log is writable", func() bool { return l.Full() == nil })
	for range 2 { // seqs 2 to 3, then 4 to 5
		mustAppend(t, l, batch(2)...)
		mustSeal(t, l)
	}
	segments, _ := l.Sealed()
	if got := fmt.Sprint(segments); got != fmt.Sprint([]string{segment.SealedName(1, 1), segment.SealedName(2, 3), segment.SealedName(4, 5)}) {
		t.Fatal(got)
	}
	if err := segments[1].Remove(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, l)

	l = openLog(t, dir, Options{})
	segments, _ = l.Sealed()
	var seqs []uint64
	for _, s := range segments {
		for r, err := range s.Records() {
			if err != nil {
				t.Fatal(err)
			}
			seqs = append(seqs, r.Seq)
		}
	}
	if fmt.Sprint(seqs) != "[1 4 5]" {
		t.Errorf("the log has seqs %v, want 1, 4 and 5", seqs)
	}
	if notes, err := l.Losses(); err != nil || len(notes) > 0 {
		t.Error(notes, err)
	}
	checkLedger(t, l)
}
