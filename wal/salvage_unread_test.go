package wal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"collectord/wal/segment"
)

func TestUnreadablePagesAreReadAgainAfterOneRestart(t *testing.T) {
	const n = 180 // records on five pages
	for _, bad := range [][]int64{{0}, {2}, {4}, {1, 3}, {0, 2, 4}, {1, 2}, nil} {
		for _, outcome := range []string{"readable after a restart", "unreadable for good", "one page readable after a restart"} {
			if outcome == "one page readable after a restart" && len(bad) < 2 {
				continue
			}
			t.Run(fmt.Sprintf("pages %v, %s", bad, outcome), func(t *testing.T) {
				t.Parallel()
				dir, file := sealedDir(t, n)
				ends := frameEnds(t, file)
				disk := &badDisk{}
				disk.breakPages(t, file, bad...)
				hit := seqsOnPages(ends, bad...)
				if bad == nil {
					hit = seqsTo(n)
				}
				o := Options{Node: "edge-1", SegmentSize: 4 << 10}.WithReads(disk.read)

				l := openLog(t, dir, o)
				before := l.Stats().Bytes
				if got := shipAll(t, l); !slices.Equal(got, without(seqsTo(n), hit)) {
					t.Errorf("shipped %v, without %v", got, hit)
				}
				if lost, _ := notedSeqs(t, l); len(lost) > 0 {
					t.Errorf("noted as lost before a restart: %v", lost)
				}
				if got := seqsOfRanges(l.Unread()); !slices.Equal(got, hit) {
					t.Errorf("unread %v, want %v", got, hit)
				}
				if g := checkLedger(t, l); g.Pending != uint64(len(hit)) {
					t.Errorf("%d records are pending, want %d", g.Pending, len(hit))
				}
				if used := l.Stats().Bytes; used < before-int64(len(bad)) {
					t.Errorf("%d bytes are counted, before %d", used, before)
				}
				mustAppend(t, l, Record{Usage: usage(n)})
				mustClose(t, l)

				lost := hit
				switch outcome {
				case "readable after a restart":
					disk.repair()
					lost = nil
				case "one page readable after a restart":
					disk.repair()
					left, _ := filepath.Glob(filepath.Join(dir, "wal", "*"+unreadSuffix, segment.FileName))
					disk.breakPages(t, left[0], bad[1:]...)
					lost = seqsOnPages(ends, bad[1:]...)
				}
				l = openLog(t, dir, o)
				if lost, _ := notedSeqs(t, l); len(lost) > 0 {
					t.Errorf("noted as lost before it was read again: %v", lost)
				}
				if got := shipAll(t, l); !slices.Equal(got, append(without(hit, lost), n+1)) {
					t.Errorf("shipped after a restart %v, want %v and %d", got, without(hit, lost), n+1)
				}
				if noted, _ := notedSeqs(t, l); !slices.Equal(noted, lost) {
					t.Errorf("noted as lost %v, want %v", noted, lost)
				}
				if len(l.Unread()) > 0 {
					t.Errorf("still unread: %v", l.Unread())
				}
				if g := checkLedger(t, l); g.Pending != 0 || g.Quarantined != uint64(len(lost)) {
					t.Errorf("ledger %+v", g)
				}
				kept, _ := filepath.Glob(filepath.Join(dir, "wal", quarantineName, "*", segment.FileName))
				if (len(lost) > 0) != (len(kept) > 0) {
					t.Errorf("the quarantine contains %v", kept)
				}
				mustClose(t, l)
				l = openLog(t, dir, o)
				if g := checkLedger(t, l); g.Recovered != 0 {
					t.Errorf("a third start recovers %d records", g.Recovered)
				}
			})
		}
	}
}

// A transient failure loses nothing and leaves the segment as it is.
func TestATransientReadErrorChangesNothing(t *testing.T) {
	dir, file := sealedDir(t, 100)
	disk := &badDisk{}
	disk.breakPages(t, file, 1)
	l := openLog(t, dir, Options{Node: "edge-1"}.WithReads(disk.read))
	segments, _ := l.Sealed()
	for range readAttempts - 1 {
		var unread *UnreadableError
		if changed, err := l.Salvage(segments[0]); changed || !errors.As(err, &unread) || unread.Pages != 1 {
			t.Fatalf("changed %v, %v", changed, err)
		}
	}
	disk.repair()
	if changed, err := l.Salvage(segments[0]); changed || err != nil {
		t.Errorf("salvage of a readable segment: changed %v, %v", changed, err)
	}
	if got := shipAll(t, l); !slices.Equal(got, seqsTo(100)) {
		t.Errorf("shipped %v", got)
	}
}

// TestAnInterruptedSalvageOfAnUnreadableSegmentContinues makes the state that a crash
// leaves after each step of splitting off, and of giving up, the unreadable part.
func TestAnInterruptedSalvageOfAnUnreadableSegmentContinues(t *testing.T) {
	const n = 180
	prepared, file := sealedDir(t, n)
	ends := frameEnds(t, file)
	bad := []int64{1, 3}
	hit := seqsOnPages(ends, bad...)
	name := segment.SealedName(1, n)
	o := Options{Node: "edge-1", SegmentSize: 4 << 10}

	// pieces are the segments that a salvage makes, without the unreadable ranges.
	disk := &badDisk{}
	aside := t.TempDir()
	if err := os.CopyFS(aside, os.DirFS(prepared)); err != nil {
		t.Fatal(err)
	}
	disk.breakPages(t, filepath.Join(aside, "wal", name, segment.FileName), bad...)
	l := openLog(t, aside, Options{Node: "edge-1", SegmentSize: 4 << 10}.WithReads(disk.read))
	segments, _ := l.Sealed()
	for range readAttempts {
		_, _ = l.Salvage(segments[0])
	}
	var pieces []string
	segments, _ = l.Sealed()
	for _, s := range segments {
		pieces = append(pieces, s.String())
	}
	gaps := l.Unread()
	if len(pieces) != 3 || len(gaps) != 2 {
		t.Fatalf("pieces %v, unread %v", pieces, gaps)
	}
	secondGap := unreadName(gaps[1].First, gaps[1].Last)
	all := unreadName(1, n)

	type row struct {
		name     string
		pieces   []string // pieces that exist beside the original
		as       string   // name of the original
		links    []string // other names of its file
		readable bool     // the disk can read the whole file now
		lost     []uint64
		known    []uint64 // records that the start recovers
	}
	var table []row
	for _, readable := range []bool{true, false} {
		table = append(table,
			row{"a link is made", nil, name, []string{secondGap}, readable, nil, seqsTo(n)},
			row{"linked, a piece is in place", pieces[:1], name, []string{secondGap}, readable, nil, seqsTo(n)},
			row{"everything but the last rename", pieces, name, []string{secondGap}, readable, nil, seqsTo(n)},
			row{"read after a restart, pieces are in place", pieces, all, nil, readable, nil, seqsTo(n)},
			row{"read after a restart, one piece is in place", pieces[1:2], all, nil, readable, nil, seqsTo(n)},
			row{"given up and not noted", pieces, segment.SealedName(1, n) + lostSuffix, nil, readable, hit, seqsTo(n)},
		)
	}
	for _, r := range table {
		t.Run(fmt.Sprintf("%s, readable later %v", r.name, r.readable), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			log := filepath.Join(dir, "wal")
			if err := os.CopyFS(dir, os.DirFS(prepared)); err != nil {
				t.Fatal(err)
			}
			for _, p := range r.pieces {
				if err := os.CopyFS(filepath.Join(log, p), os.DirFS(filepath.Join(aside, "wal", p))); err != nil {
					t.Fatal(err)
				}
			}
			original := filepath.Join(log, name, segment.FileName)
			for _, link := range r.links {
				if err := errors.Join(os.Mkdir(filepath.Join(log, link), 0o750), os.Link(original, filepath.Join(log, link, segment.FileName))); err != nil {
					t.Fatal(err)
				}
			}
			disk := &badDisk{}
			if !r.readable {
				disk.breakPages(t, original, bad...)
			}
			if r.as != name {
				if err := os.Rename(filepath.Join(log, name), filepath.Join(log, r.as)); err != nil {
					t.Fatal(err)
				}
			}

			o := o.WithReads(disk.read)
			l := openLog(t, dir, o)
			if g := checkLedger(t, l); g.Recovered != uint64(len(r.known)) {
				t.Errorf("%d records recovered, want %d", g.Recovered, len(r.known))
			}
			got := shipAll(t, l)
			mustClose(t, l)
			l = openLog(t, dir, o) // this start reads the unread part again
			got = append(got, shipAll(t, l)...)
			slices.Sort(got)
			lost := r.lost
			if !r.readable {
				lost = hit
			}
			if want := without(seqsTo(n), lost); !slices.Equal(got, want) {
				t.Errorf("shipped %v, want %v", got, want)
			}
			if noted, _ := notedSeqs(t, l); !slices.Equal(noted, lost) {
				t.Errorf("noted as lost %v, want %v", noted, lost)
			}
			if g := checkLedger(t, l); g.Pending != 0 || len(l.Unread()) > 0 {
				t.Errorf("left: %+v, unread %v", g, l.Unread())
			}
		})
	}
}

// An unreadable part is evicted first, with a correct note.
func TestUnreadablePartIsEvictedFirst(t *testing.T) {
	const n = 180
	dir, file := sealedDir(t, n)
	disk := &badDisk{}
	disk.breakPages(t, file, 1)
	hit := seqsOnPages(frameEnds(t, file), 1)
	l := openLog(t, dir, Options{Node: "edge-1", SegmentSize: 4 << 10}.WithReads(disk.read))
	segments, _ := l.Sealed()
	for range readAttempts {
		_, _ = l.Salvage(segments[0])
	}
	l.SetLimits(Limits{MaxBytes: l.Stats().Bytes + 1000, WhenFull: DropOldest})
	until(t, "something is evicted", func() bool { return l.Ledger().Evicted > 0 })
	until(t, "the loss is noted", func() bool { lost, _ := notedSeqs(t, l); return slices.Equal(lost, hit) })
	if g := checkLedger(t, l); g.Evicted != uint64(len(hit)) || len(l.Unread()) > 0 {
		t.Errorf("ledger %+v, unread %v", g, l.Unread())
	}
}
