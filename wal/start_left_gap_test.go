package wal

import (
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

// TestSeqsSkippedForALeftSegmentAreNoted has a start that can neither open nor rename an
// unsealed segment. It continues above all seqs that the segment may hold. Once the segment
// can be read, a note must stand for those that it does not hold.
func TestSeqsSkippedForALeftSegmentAreNoted(t *testing.T) {
	for name, c := range map[string]struct {
		records int
		damaged bool // before it can be read
		fails   []simdisk.Op
		unread  []simdisk.Op // of the file, in another start before it can be read
	}{
		"it has records":         {3, false, []simdisk.Op{simdisk.Open, simdisk.Rename}, nil},
		"it has none":            {0, false, []simdisk.Op{simdisk.Open, simdisk.Rename}, nil},
		"its size is unknown":    {3, false, []simdisk.Op{simdisk.Open, simdisk.Rename, simdisk.Stat}, nil},
		"its header is damaged":  {3, true, []simdisk.Op{simdisk.Open, simdisk.Rename}, nil},
		"the disk can't open it": {3, false, []simdisk.Op{simdisk.Open, simdisk.Rename}, []simdisk.Op{simdisk.Open}},
		"the disk can't read it": {3, false, []simdisk.Op{simdisk.Open, simdisk.Rename}, []simdisk.Op{simdisk.Read}},
		"the disk can't see it":  {3, false, []simdisk.Op{simdisk.Open, simdisk.Rename}, []simdisk.Op{simdisk.Open, simdisk.Stat}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newSimulatedDisk(t)
				open := func() *Log {
					return mustStart(t, d)
				}
				l := open()
				for i := range c.records {
					mustAppend(t, l, Record{Usage: usage(i)})
				}
				killed := d.Kill()
				mustClose(t, l)

				d = killed
				left := filepath.Join(simulatedDir, "wal", segment.ActiveName(1))
				d.SetIntercept(func(call simdisk.Call) simdisk.Fault {
					if strings.HasPrefix(call.Path, left) && slices.Contains(c.fails, call.Op) {
						return simdisk.Fault{Err: syscall.EACCES}
					}
					return simdisk.Fault{}
				})
				l = open()
				next := l.queue.nextSeq
				mustAppend(t, l, Record{Usage: usage(int(next) - 1)})
				if notes, err := l.Losses(); err != nil || len(notes) > 0 {
					t.Errorf("notes before the segment was read: %v, %v", notes, err)
				}
				killed = d.Kill()
				mustClose(t, l)

				if len(c.unread) > 0 {
					d = killed
					d.SetIntercept(func(call simdisk.Call) simdisk.Fault {
						if strings.HasPrefix(call.Path, left) && slices.Contains(c.unread, call.Op) {
							return simdisk.Fault{Err: syscall.EIO}
						}
						return simdisk.Fault{}
					})
					l = open()
					time.Sleep(time.Minute) // until the start has failed often enough to skip the segment
					killed = d.Kill()
					mustClose(t, l)
				}

				d = killed
				want := []uint64{1, 2, 3}[:c.records]
				if c.damaged {
					want = nil
					if err := d.Edit(filepath.Join(left, segment.FileName), func(content []byte) []byte { clear(content); return content }); err != nil {
						t.Fatal(err)
					}
				}
				l = open()
				if shipped := shipAll(t, l); !slices.Equal(shipped, append(want, next)) {
					t.Errorf("shipped %v", shipped)
				}
				notes, err := l.Losses()
				switch {
				case err != nil:
					t.Error(err)
				case c.damaged: // nothing shows what it held
					if len(notes) > 0 {
						t.Errorf("notes %v", notes)
					}
				case len(notes) != 1 || notes[0].Reason != LossSkipped || notes[0].FirstSeq != uint64(c.records+1) || notes[0].LastSeq != next-1:
					t.Errorf("notes %v, next was %d", notes, next)
				}
				checkLedger(t, l)
				mustClose(t, l)
			})
		})
	}
}

// TestASealedSegmentWithoutASizeKeepsItsSeqs has a start that seals a segment at its second
// attempt, and then can't look up the size of its file.
func TestASealedSegmentWithoutASizeKeepsItsSeqs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newSimulatedDisk(t)
		open := func() *Log {
			return mustStart(t, d)
		}
		l := open()
		for i := range 3 {
			mustAppend(t, l, Record{Usage: usage(i)})
		}
		killed := d.Kill()
		mustClose(t, l)

		d = killed
		sealed := filepath.Join(simulatedDir, "wal", segment.SealedName(1, 3))
		renames := 0
		d.SetIntercept(func(call simdisk.Call) simdisk.Fault {
			if call.To == sealed {
				renames++
			}
			if call.To == sealed && renames == 1 || filepath.Dir(call.Path) == sealed && call.Op == simdisk.Stat {
				return simdisk.Fault{Err: syscall.EACCES}
			}
			return simdisk.Fault{}
		})
		l = open()
		if next := l.queue.nextSeq; next != 4 {
			t.Errorf("the next seq is %d", next)
		}
		if aside := l.PutAside(); len(aside) != 1 || aside[0].Path != filepath.Join("wal", filepath.Base(sealed)) {
			t.Errorf("left: %v", aside)
		}
		killed = d.Kill()
		mustClose(t, l)

		d = killed
		l = open()
		if shipped := shipAll(t, l); !slices.Equal(shipped, seqsTo(3)) {
			t.Errorf("shipped %v", shipped)
		}
		mustClose(t, l)
	})
}
