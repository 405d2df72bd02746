package wal

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

func TestAnUnreadablePageOfTheActiveSegmentFailsNoStart(t *testing.T) {
	const n = 150
	running := openLog(t, t.TempDir(), Options{Node: "edge-1", SegmentSize: 8 * pageSize}) // zeros are written ahead
	for i := range n {
		mustAppend(t, running, Record{Usage: usage(i)})
	}
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "wal"), os.DirFS(running.dir)); err != nil {
		t.Fatal(err)
	}
	ends := frameEnds(t, filepath.Join(dir, "wal", segment.ActiveName(1), segment.FileName))
	for page := range int64(8) {
		for _, readable := range []bool{true, false} {
			t.Run(fmt.Sprintf("page %d, readable later %v", page, readable), func(t *testing.T) {
				t.Parallel()
				copied := t.TempDir()
				if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
					t.Fatal(err)
				}
				if readable { // a stray directory has a name in its range, too
					putForeignFile(t, filepath.Join(copied, "wal", segment.ActiveName(n-10), "x"))
				}
				disk := &badDisk{}
				disk.breakPages(t, filepath.Join(copied, "wal", segment.ActiveName(1), segment.FileName), page)
				hit := seqsOnPages(ends, page)
				o := Options{Node: "edge-1", SegmentSize: 4 << 10}.WithReads(disk.read)

				l := openLog(t, copied, o)
				if got := shipAll(t, l); !slices.Equal(got, without(seqsTo(n), hit)) {
					t.Errorf("shipped %v, without %v", got, hit)
				}
				if lost, skipped := notedSeqs(t, l); len(lost)+len(skipped) > 0 {
					t.Errorf("noted before a restart: %v, %v", lost, skipped)
				}
				unread := seqsOfRanges(l.Unread())
				if len(without(hit, unread)) > 0 || len(hit) == 0 && len(unread) > 0 {
					t.Errorf("unread %v, but %v was hit", unread, hit)
				}
				next := l.queue.nextSeq
				if next <= n || slices.Contains(unread, next) {
					t.Errorf("continues with seq %d, which may be in use", next)
				}
				mustAppend(t, l, Record{Usage: usage(int(next - 1))})
				mustClose(t, l)

				if readable {
					disk.repair()
				}
				l = openLog(t, copied, o)
				got := shipAll(t, l)
				lost, skipped := notedSeqs(t, l)
				if readable && (!slices.Equal(got, append(hit, next)) || len(lost) > 0) {
					t.Errorf("shipped after a restart %v, noted as lost %v, want %v and %d", got, lost, hit, next)
				}
				if !readable && (!slices.Equal(got, []uint64{next}) || len(without(hit, lost)) > 0) {
					t.Errorf("shipped after a restart %v, noted as lost %v, of %v", got, lost, hit)
				}
				// Every seq below the next one must be shipped, lost or skipped.
				all := slices.Concat(without(seqsTo(n), hit), lost, skipped, got)
				slices.Sort(all)
				if !slices.Equal(all, seqsTo(int(next))) {
					t.Errorf("the seqs up to %d have gaps or duplicates: %v", next, all)
				}
				checkLedger(t, l)
			})
		}
	}
}

// A sector can fail in any file. The log must start, and return everything readable.
func TestAnUnreadableFileFailsNoStart(t *testing.T) {
	for _, r := range []struct {
		name, file string
		want       int // expected number of sealed records
		kind       Finding
	}{
		{"next", filepath.Join(nextName, segment.FileName), 6, FoundUnreadable},
		{"LOG", identityName, 6, FoundIdentity},
		{"a loss note", filepath.Join(lostName, LossNote{FirstSeq: 1, LastSeq: 2}.fileName()), 6, FoundUnreadableNote},
		{"the active segment", filepath.Join(segment.ActiveName(4), segment.FileName), 3, FoundUnreadable},
		{"a sealed segment", filepath.Join(segment.SealedName(1, 3), segment.FileName), 6, FoundOpenSegment},
	} {
		t.Run(r.name, func(t *testing.T) {
			before := openLog(t, t.TempDir(), Options{Node: "edge-1", SegmentSize: 4 << 10})
			for i := range 6 {
				mustAppend(t, before, Record{Usage: usage(i)})
				if i == 2 {
					mustSeal(t, before)
				}
			}
			dir := t.TempDir()
			log := filepath.Join(dir, "wal")
			if err := os.CopyFS(log, os.DirFS(before.dir)); err != nil {
				t.Fatal(err)
			}
			note := LossNote{Node: "edge-1", LogID: before.logID, FirstSeq: 1, LastSeq: 2, Reason: LossEvicted}
			if err := writeNote(vfs.OSDisk(), filepath.Join(log, lostName), note); err != nil {
				t.Fatal(err)
			}
			disk := &badDisk{}
			disk.breakPages(t, filepath.Join(log, r.file))
			o := Options{Node: "edge-1", SegmentSize: 4 << 10}.WithReads(disk.read)
			l := openLog(t, dir, o)
			if l.logID != before.logID {
				t.Errorf("log id %x, was %x", l.logID, before.logID)
			}
			if findings(l)[r.kind] != 1 {
				t.Errorf("findings %v", findings(l))
			}
			if g := checkLedger(t, l); g.Recovered != uint64(r.want) {
				t.Errorf("%d records recovered, want %d", g.Recovered, r.want)
			}
			notes, err := l.Losses()
			if err != nil || (len(notes) == 0) != (r.name == "a loss note") {
				t.Errorf("notes %v, %v", notes, err)
			}
			if r.name == "a loss note" && fmt.Sprint(l.Unread()) != "[{1 2}]" {
				t.Errorf("unread %v", l.Unread())
			}
			mustAppend(t, l, Record{Usage: usage(99)})
			mustSeal(t, l)
			mustClose(t, l)
			disk.repair()
			l = openLog(t, dir, o)
			if notes, err := l.Losses(); err != nil || len(notes) == 0 || notes[0].LastSeq != 2 {
				t.Errorf("notes after the repair of the disk: %v, %v", notes, err)
			}
		})
	}
}

func TestAnInterruptedSealingOfAnUnreadableEndContinues(t *testing.T) {
	const n = 150
	for _, readable := range []bool{true, false} {
		running := openLog(t, t.TempDir(), Options{Node: "edge-1", SegmentSize: 8 * pageSize})
		for i := range n {
			mustAppend(t, running, Record{Usage: usage(i)})
		}
		dir := t.TempDir()
		log := filepath.Join(dir, "wal")
		if err := os.CopyFS(log, os.DirFS(running.dir)); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(log, segment.ActiveName(1), segment.FileName)
		ends := frameEnds(t, file)
		page := (ends[n] - 1) / pageSize
		hit := seqsOnPages(ends, page)
		disk := &badDisk{}
		disk.breakPages(t, file, page)
		o := Options{Node: "edge-1", SegmentSize: 4 << 10}.WithReads(disk.read)
		mustClose(t, openLog(t, dir, o))
		sealed := segment.SealedName(1, hit[0]-1)
		if tails, _ := filepath.Glob(filepath.Join(log, "*"+tailSuffix)); len(tails) != 1 {
			t.Fatalf("tails %v", tails)
		}
		if err := os.Rename(filepath.Join(log, sealed), filepath.Join(log, segment.ActiveName(1))); err != nil { // the rename was the last step
			t.Fatal(err)
		}
		if readable {
			disk.repair()
		}
		l := openLog(t, dir, o)
		got := shipAll(t, l)
		lost, _ := notedSeqs(t, l)
		if readable && (!slices.Equal(got, seqsTo(n)) || len(lost) > 0) {
			t.Errorf("shipped %v, noted as lost %v", got, lost)
		}
		if !readable && (!slices.Equal(got, without(seqsTo(n), hit)) || len(without(hit, lost)) > 0) {
			t.Errorf("shipped %v, noted as lost %v", got, lost)
		}
		checkLedger(t, l)
	}
}
