package wal

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"collectord/wal/segment"
	"collectord/wal/vfs/simdisk"
)

// TestSeqsSkippedForALeftSegmentAreNoted has a start that can neither open nor rename an
// unsealed segment. It continues above all seqs that the segment may hold. Once the segment
// can be read, a note must stand for those that it does not hold, and for no others.
func TestSeqsSkippedForALeftSegmentAreNoted(t *testing.T) {
	open, rename := simdisk.Open, simdisk.Rename
	for name, c := range map[string]struct {
		records int
		fails   []simdisk.Op
		repair  func(content []byte) []byte // changes the file before it can be read
		reason  string                      // of the note; empty: none
		kept    int                         // records that are shipped
	}{
		"it has records":                  {3, []simdisk.Op{open, rename}, nil, LossSkipped, 3},
		"it has none":                     {0, []simdisk.Op{open, rename}, nil, LossSkipped, 0},
		"its size is unknown":             {3, []simdisk.Op{open, rename, simdisk.Stat}, nil, LossSkipped, 3},
		"it can't be reserved":            {3, []simdisk.Op{open, rename, simdisk.Mkdir}, nil, LossSkipped, 3},
		"it is cut":                       {3, []simdisk.Op{open, rename}, func(b []byte) []byte { return b[:len(b)-100] }, LossSkipped, 3},
		"it grows":                        {3, []simdisk.Op{open, rename}, func(b []byte) []byte { return append(b, make([]byte, 4096)...) }, LossSkipped, 3},
		"it is emptied":                   {3, []simdisk.Op{open, rename}, func([]byte) []byte { return nil }, LossDamaged, 0},
		"it is zeroed":                    {3, []simdisk.Op{open, rename}, func(b []byte) []byte { clear(b); return b }, LossDamaged, 0},
		"it is zeroed and has no reserve": {3, []simdisk.Op{open, rename, simdisk.Mkdir}, func(b []byte) []byte { clear(b); return b }, "", 0}, // nothing shows what it held
	} {
		for _, shipped := range []bool{false, true} {
			if shipped && slices.Contains(c.fails, simdisk.Mkdir) {
				continue // the segment behind the skipped seqs is the only evidence of them
			}
			t.Run(fmt.Sprintf("%s, later ones shipped before %t", name, shipped), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					d := simdisk.New(1<<24, func(n int) int { return n / 2 })
					if err := d.Mkdir(simulatedDir); err != nil {
						t.Fatal(err)
					}
					open := func() *Log {
						l, err := Open(simulatedDir, startTrial{}.options(d, t))
						if err != nil {
							t.Fatal(err)
						}
						return l
					}
					kill := func(l *Log) {
						killed := d.Kill()
						mustClose(t, l)
						d = killed
					}
					l := open()
					for i := range c.records {
						mustAppend(t, l, Record{Usage: usage(i)})
					}
					kill(l)
					left := filepath.Join(simulatedDir, "wal", segment.ActiveName(1))
					fail := func(call simdisk.Call) simdisk.Fault {
						of := call.Path == left || strings.HasPrefix(call.Path, left+"/") || call.Op == simdisk.Mkdir && strings.HasSuffix(call.Path, tailSuffix)
						if of && slices.Contains(c.fails, call.Op) {
							return simdisk.Fault{Err: syscall.EACCES}
						}
						return simdisk.Fault{}
					}
					d.SetIntercept(fail)
					l = open()
					next := l.queue.nextSeq
					want := []uint64{next}
					mustAppend(t, l, Record{Usage: usage(int(next) - 1)})
					if shipped { // and left by another start
						mustSeal(t, l)
						if got := shipAll(t, l); !slices.Equal(got, want) {
							t.Errorf("shipped %v", got)
						}
						kill(l)
						d.SetIntercept(fail)
						l = open()
						if unread := l.Unread(); len(unread) != 1 || unread[0] != (SeqRange{First: 1, Last: next - 1}) {
							t.Errorf("unread %v, next was %d", unread, next)
						}
						want = []uint64{next + 1}
						mustAppend(t, l, Record{Usage: usage(int(next))})
					}
					if notes, err := l.Losses(); err != nil || len(notes) > 0 {
						t.Errorf("notes before the segment was read: %v, %v", notes, err)
					}
					kill(l)

					if c.repair != nil {
						if err := d.Edit(filepath.Join(left, segment.FileName), c.repair); err != nil {
							t.Fatal(err)
						}
					}
					l = open()
					if got := shipAll(t, l); !slices.Equal(got, append(seqsTo(c.kept), want...)) {
						t.Errorf("shipped %v", got)
					}
					notes, err := l.Losses()
					switch {
					case err != nil:
						t.Error(err)
					case c.reason == "":
						if len(notes) > 0 {
							t.Errorf("notes %v", notes)
						}
					case len(notes) != 1 || notes[0].Reason != c.reason || notes[0].FirstSeq != uint64(c.kept+1) || notes[0].LastSeq != next-1:
						t.Errorf("notes %v, next was %d", notes, next)
					}
					checkLedger(t, l)
					kill(l)
					l = open()
					if again, err := l.Losses(); err != nil || len(again) != len(notes) || len(shipAll(t, l)) > 0 {
						t.Errorf("notes after another start %v, %v", again, err)
					}
					if entries, err := d.List(filepath.Join(simulatedDir, "wal")); err != nil || slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return strings.HasSuffix(e.Name(), tailSuffix) }) {
						t.Errorf("left %v, %v", entries, err)
					}
					mustClose(t, l)
				})
			})
		}
	}
}
