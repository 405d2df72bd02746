package wal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// badDisk fails to read some pages of some files, whatever their names are.
type badDisk struct {
	mu    sync.Mutex
	pages map[uint64]map[int64]bool // by inode; nil stands for all pages
	reads int                       // that failed
}

// pageSize is the unit in which a disk fails to give what it holds.
const pageSize = 4096

func (d *badDisk) read(file vfs.File, p []byte, off int64) (int, error) {
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	bad, hit := d.pages[info.Sys().(*syscall.Stat_t).Ino]
	for at := off; hit && at < off+int64(len(p)) && at < info.Size(); at = at - at%pageSize + pageSize {
		if bad != nil && !bad[at/pageSize] {
			continue
		}
		d.reads++
		n, _ := file.ReadAt(p[:at-off], off)
		return n, &os.PathError{Op: "read", Path: file.Name(), Err: syscall.EIO}
	}
	return file.ReadAt(p, off)
}

// spoil makes pages of a file unreadable; all of them where none is named.
func (d *badDisk) spoil(t *testing.T, path string, pages ...int64) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pages == nil {
		d.pages = map[uint64]map[int64]bool{}
	}
	var bad map[int64]bool
	if len(pages) > 0 {
		bad = map[int64]bool{}
	}
	for _, p := range pages {
		bad[p] = true
	}
	d.pages[info.Sys().(*syscall.Stat_t).Ino] = bad
}

func (d *badDisk) mend() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pages = nil
}

// shipAll does what a shipper does: it reads each segment, has those salvaged that
// can't be read, and removes those that can. It returns the seqs that it shipped.
func shipAll(t *testing.T, l *Log) (shipped []uint64) {
	t.Helper()
	for {
		segments, _ := l.Sealed()
		if len(segments) == 0 {
			slices.Sort(shipped)
			return shipped
		}
		s := segments[0]
		var damage *DamageError
		var seqs []uint64
		wrong := "" // may be in front of the damage, which ends the reading
		for r, err := range s.Records() {
			if err != nil && !errors.As(err, &damage) {
				t.Fatal(err)
			}
			if err == nil {
				if !bytes.Equal(r.Usage, usage(int(r.Seq-1))) {
					wrong = fmt.Sprintf("seq %d holds %s", r.Seq, r.Usage)
				}
				seqs = append(seqs, r.Seq)
			}
		}
		checkLedger(t, l)
		if damage != nil {
			for attempt := 1; ; attempt++ {
				before := l.Stats().LossNotes
				changed, err := l.Salvage(s)
				checkLedger(t, l)
				var unread *UnreadableError
				if changed && err == nil {
					break
				}
				if !errors.As(err, &unread) || changed || attempt > 10 || l.Stats().LossNotes != before {
					t.Fatalf("attempt %d to salvage %s: changed %v, %v", attempt, s, changed, err)
				}
			}
			continue
		}
		if err := s.Remove(); err != nil || wrong != "" {
			t.Fatal(wrong, err)
		}
		shipped = append(shipped, seqs...)
	}
}

func notedSeqs(t *testing.T, l *Log) (lost, skipped []uint64) {
	t.Helper()
	notes, err := l.Losses()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range notes {
		for seq := n.FirstSeq; seq <= n.LastSeq; seq++ {
			if n.Reason == LossSkipped {
				skipped = append(skipped, seq)
			} else {
				lost = append(lost, seq)
			}
		}
	}
	return lost, skipped
}

func seqsTo(n int) (all []uint64) {
	for seq := range n {
		all = append(all, uint64(seq+1))
	}
	return all
}

// hitBy lists the seqs of one-record frames that pages are part of, given where
// frames end. The length in front of a frame is not needed to find it.
func hitBy(ends []int64, pages ...int64) (hit []uint64) {
	for i := range ends[:len(ends)-1] {
		from := ends[i] + int64(len(uvarint(int(ends[i+1]-ends[i]))))
		for p := from / pageSize; p <= (ends[i+1]-1)/pageSize; p++ {
			if slices.Contains(pages, p) {
				hit = append(hit, uint64(i+1))
				break
			}
		}
	}
	return hit
}

func without(all, some []uint64) []uint64 {
	return slices.DeleteFunc(slices.Clone(all), func(seq uint64) bool { return slices.Contains(some, seq) })
}

func inRanges(ranges []SeqRange) (seqs []uint64) {
	for _, r := range ranges {
		for seq := r.First; seq <= r.Last; seq++ {
			seqs = append(seqs, seq)
		}
	}
	slices.Sort(seqs)
	return seqs
}

func TestUnreadablePagesOfASealedSegmentWaitForOneRestart(t *testing.T) {
	const n = 180 // records on five pages
	for _, bad := range [][]int64{{0}, {2}, {4}, {1, 3}, {0, 2, 4}, {1, 2}, nil} {
		for _, outcome := range []string{"the cable comes back", "it stays so", "one page comes back"} {
			if outcome == "one page comes back" && len(bad) < 2 {
				continue
			}
			t.Run(fmt.Sprintf("pages %v, %s", bad, outcome), func(t *testing.T) {
				t.Parallel()
				dir, file := sealedDir(t, n)
				ends := frameEnds(t, file)
				disk := &badDisk{}
				disk.spoil(t, file, bad...)
				hit := hitBy(ends, bad...)
				if bad == nil {
					hit = seqsTo(n)
				}
				o := Options{Node: "edge-1", SegmentSize: 4 << 10}.WithReads(disk.read)

				l := open(t, dir, o)
				before := l.Stats().Bytes
				if got := shipAll(t, l); !slices.Equal(got, without(seqsTo(n), hit)) {
					t.Errorf("shipped %v, without %v", got, hit)
				}
				if lost, _ := notedSeqs(t, l); len(lost) > 0 {
					t.Errorf("noted as lost before a restart: %v", lost)
				}
				if got := inRanges(l.Unread()); !slices.Equal(got, hit) {
					t.Errorf("unread %v, want %v", got, hit)
				}
				if g := checkLedger(t, l); g.Pending != uint64(len(hit)) {
					t.Errorf("%d records are pending, want %d", g.Pending, len(hit))
				}
				if used := l.Stats().Bytes; used < before-int64(len(bad)) {
					t.Errorf("%d bytes count, of %d", used, before)
				}
				mustAppend(t, l, Record{Usage: usage(n)})
				mustClose(t, l)

				lost := hit
				switch outcome {
				case "the cable comes back":
					disk.mend()
					lost = nil
				case "one page comes back":
					disk.mend()
					left, _ := filepath.Glob(filepath.Join(dir, "wal", "*"+unreadSuffix, segment.FileName))
					disk.spoil(t, left[0], bad[1:]...)
					lost = hitBy(ends, bad[1:]...)
				}
				l = open(t, dir, o)
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
					t.Errorf("the quarantine holds %v", kept)
				}
				mustClose(t, l)
				l = open(t, dir, o)
				if g := checkLedger(t, l); g.Recovered != 0 {
					t.Errorf("a third start recovers %d records", g.Recovered)
				}
			})
		}
	}
}

func TestUnreadablePageOfTheActiveSegmentEndsNoStart(t *testing.T) {
	const n = 150
	running := open(t, t.TempDir(), Options{Node: "edge-1", SegmentSize: 8 * pageSize}) // of which zeros are written ahead
	for i := range n {
		mustAppend(t, running, Record{Usage: usage(i)})
	}
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "wal"), os.DirFS(running.dir)); err != nil {
		t.Fatal(err)
	}
	ends := frameEnds(t, filepath.Join(dir, "wal", segment.ActiveName(1), segment.FileName))
	for page := range int64(8) {
		for _, back := range []bool{true, false} {
			t.Run(fmt.Sprintf("page %d, comes back %v", page, back), func(t *testing.T) {
				t.Parallel()
				copied := t.TempDir()
				if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
					t.Fatal(err)
				}
				disk := &badDisk{}
				disk.spoil(t, filepath.Join(copied, "wal", segment.ActiveName(1), segment.FileName), page)
				hit := hitBy(ends, page)
				o := Options{Node: "edge-1", SegmentSize: 4 << 10}.WithReads(disk.read)

				l := open(t, copied, o)
				if got := shipAll(t, l); !slices.Equal(got, without(seqsTo(n), hit)) {
					t.Errorf("shipped %v, without %v", got, hit)
				}
				if lost, skipped := notedSeqs(t, l); len(lost)+len(skipped) > 0 {
					t.Errorf("noted before a restart: %v, %v", lost, skipped)
				}
				unread := inRanges(l.Unread())
				if len(without(hit, unread)) > 0 || len(hit) == 0 && len(unread) > 0 {
					t.Errorf("unread %v, but %v was hit", unread, hit)
				}
				next := l.queue.nextSeq
				if next <= n || slices.Contains(unread, next) {
					t.Errorf("goes on with seq %d, which may be in use", next)
				}
				mustAppend(t, l, Record{Usage: usage(int(next - 1))})
				mustClose(t, l)

				if back {
					disk.mend()
				}
				l = open(t, copied, o)
				got := shipAll(t, l)
				lost, skipped := notedSeqs(t, l)
				if back && (!slices.Equal(got, append(hit, next)) || len(lost) > 0) {
					t.Errorf("shipped after a restart %v, noted as lost %v, want %v and %d", got, lost, hit, next)
				}
				if !back && (!slices.Equal(got, []uint64{next}) || len(without(hit, lost)) > 0) {
					t.Errorf("shipped after a restart %v, noted as lost %v, of %v", got, lost, hit)
				}
				// Every seq below the next one is shipped, lost or skipped.
				all := slices.Concat(without(seqsTo(n), hit), lost, skipped, got)
				slices.Sort(all)
				if !slices.Equal(all, seqsTo(int(next))) {
					t.Errorf("the numbering up to %d has holes, or seqs twice: %v", next, all)
				}
				checkLedger(t, l)
			})
		}
	}
}

// A sector can fail in any file. The log starts, and what can be read is there.
func TestUnreadableFileEndsNoStart(t *testing.T) {
	for _, r := range []struct {
		name, file string
		want       int // sealed records
		kind       Finding
	}{
		{"next", filepath.Join(nextName, segment.FileName), 6, FoundUnreadable},
		{"LOG", identityName, 6, FoundIdentity},
		{"a loss note", filepath.Join(lostName, LossNote{FirstSeq: 1, LastSeq: 2}.file()), 6, FoundUnreadableNote},
		{"the active segment", filepath.Join(segment.ActiveName(4), segment.FileName), 3, FoundUnreadable},
		{"a sealed segment", filepath.Join(segment.SealedName(1, 3), segment.FileName), 6, FoundOpenSegment},
	} {
		t.Run(r.name, func(t *testing.T) {
			before := open(t, t.TempDir(), Options{Node: "edge-1", SegmentSize: 4 << 10})
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
			disk.spoil(t, filepath.Join(log, r.file))
			o := Options{Node: "edge-1", SegmentSize: 4 << 10}.WithReads(disk.read)
			l := open(t, dir, o)
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
			disk.mend()
			l = open(t, dir, o)
			if notes, err := l.Losses(); err != nil || len(notes) == 0 || notes[0].LastSeq != 2 {
				t.Errorf("notes once the disk gives them again: %v, %v", notes, err)
			}
		})
	}
}

// A failure that passes costs nothing, and the segment stays as it is.
func TestReadErrorThatPassesIsForgotten(t *testing.T) {
	dir, file := sealedDir(t, 100)
	disk := &badDisk{}
	disk.spoil(t, file, 1)
	l := open(t, dir, Options{Node: "edge-1"}.WithReads(disk.read))
	segments, _ := l.Sealed()
	for range readAttempts - 1 {
		var unread *UnreadableError
		if changed, err := l.Salvage(segments[0]); changed || !errors.As(err, &unread) || unread.Pages != 1 {
			t.Fatalf("changed %v, %v", changed, err)
		}
	}
	disk.mend()
	if changed, err := l.Salvage(segments[0]); changed || err != nil {
		t.Errorf("a segment that can be read is salvaged: %v, %v", changed, err)
	}
	if got := shipAll(t, l); !slices.Equal(got, seqsTo(100)) {
		t.Errorf("shipped %v", got)
	}
}

// TestInterruptedSalvageOfAnUnreadableSegmentGoesOn makes what a crash leaves after
// each step of setting a segment aside, and of giving up what can't be read.
func TestInterruptedSalvageOfAnUnreadableSegmentGoesOn(t *testing.T) {
	const n = 180
	prepared, file := sealedDir(t, n)
	ends := frameEnds(t, file)
	bad := []int64{1, 3}
	hit := hitBy(ends, bad...)
	name := segment.SealedName(1, n)
	o := Options{Node: "edge-1", SegmentSize: 4 << 10}

	// pieces returns what a salvage makes of it, unread names included.
	disk := &badDisk{}
	aside := t.TempDir()
	if err := os.CopyFS(aside, os.DirFS(prepared)); err != nil {
		t.Fatal(err)
	}
	disk.spoil(t, filepath.Join(aside, "wal", name, segment.FileName), bad...)
	l := open(t, aside, Options{Node: "edge-1", SegmentSize: 4 << 10}.WithReads(disk.read))
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
		name   string
		pieces []string // that are there beside the original
		as     string   // name of the original
		links  []string // other names of its file
		back   bool     // the disk gives all of it now
		lost   []uint64
		holds  []uint64 // that the start knows of
	}
	var table []row
	for _, back := range []bool{true, false} {
		table = append(table,
			row{"linked", nil, name, []string{secondGap}, back, nil, seqsTo(n)},
			row{"linked, a piece is in place", pieces[:1], name, []string{secondGap}, back, nil, seqsTo(n)},
			row{"all but the last rename", pieces, name, []string{secondGap}, back, nil, seqsTo(n)},
			row{"read after a restart, pieces are in place", pieces, all, nil, back, nil, seqsTo(n)},
			row{"read after a restart, one piece is in place", pieces[1:2], all, nil, back, nil, seqsTo(n)},
			row{"given up, not noted", pieces, segment.SealedName(1, n) + lostSuffix, nil, back, hit, seqsTo(n)},
		)
	}
	for _, r := range table {
		t.Run(fmt.Sprintf("%s, comes back %v", r.name, r.back), func(t *testing.T) {
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
			if !r.back {
				disk.spoil(t, original, bad...)
			}
			if r.as != name {
				if err := os.Rename(filepath.Join(log, name), filepath.Join(log, r.as)); err != nil {
					t.Fatal(err)
				}
			}

			o := o.WithReads(disk.read)
			l := open(t, dir, o)
			if g := checkLedger(t, l); g.Recovered != uint64(len(r.holds)) {
				t.Errorf("%d records recovered, want %d", g.Recovered, len(r.holds))
			}
			got := shipAll(t, l)
			mustClose(t, l)
			l = open(t, dir, o) // reads again what it could not
			got = append(got, shipAll(t, l)...)
			slices.Sort(got)
			lost := r.lost
			if !r.back {
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

// What the disk can't read is the first to be evicted, with a true note.
func TestUnreadablePartIsEvictedFirst(t *testing.T) {
	const n = 180
	dir, file := sealedDir(t, n)
	disk := &badDisk{}
	disk.spoil(t, file, 1)
	hit := hitBy(frameEnds(t, file), 1)
	l := open(t, dir, Options{Node: "edge-1", SegmentSize: 4 << 10}.WithReads(disk.read))
	segments, _ := l.Sealed()
	for range readAttempts {
		_, _ = l.Salvage(segments[0])
	}
	l.SetLimits(Limits{MaxBytes: l.Stats().Bytes + 1000, WhenFull: DropOldest})
	until(t, "something is evicted", func() bool { return l.Ledger().Evicted > 0 })
	until(t, "the note is there", func() bool { lost, _ := notedSeqs(t, l); return slices.Equal(lost, hit) })
	if g := checkLedger(t, l); g.Evicted != uint64(len(hit)) || len(l.Unread()) > 0 {
		t.Errorf("ledger %+v, unread %v", g, l.Unread())
	}
}

func TestInterruptedSealingOfASegmentWithAnUnreadableEndGoesOn(t *testing.T) {
	const n = 150
	for _, back := range []bool{true, false} {
		running := open(t, t.TempDir(), Options{Node: "edge-1", SegmentSize: 8 * pageSize})
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
		hit := hitBy(ends, page)
		disk := &badDisk{}
		disk.spoil(t, file, page)
		o := Options{Node: "edge-1", SegmentSize: 4 << 10}.WithReads(disk.read)
		mustClose(t, open(t, dir, o))
		sealed := segment.SealedName(1, hit[0]-1)
		if tails, _ := filepath.Glob(filepath.Join(log, "*"+tailSuffix)); len(tails) != 1 {
			t.Fatalf("tails %v", tails)
		}
		if err := os.Rename(filepath.Join(log, sealed), filepath.Join(log, segment.ActiveName(1))); err != nil { // which came last
			t.Fatal(err)
		}
		if back {
			disk.mend()
		}
		l := open(t, dir, o)
		got := shipAll(t, l)
		lost, _ := notedSeqs(t, l)
		if back && (!slices.Equal(got, seqsTo(n)) || len(lost) > 0) {
			t.Errorf("shipped %v, noted as lost %v", got, lost)
		}
		if !back && (!slices.Equal(got, without(seqsTo(n), hit)) || len(without(hit, lost)) > 0) {
			t.Errorf("shipped %v, noted as lost %v", got, lost)
		}
		checkLedger(t, l)
	}
}
