package wal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"

	"collectord/wal/vfs"
)

// badDisk fails to read some pages of some files, under any of their names.
type badDisk struct {
	mu          sync.Mutex
	pages       map[uint64]map[int64]bool // by inode; nil means all pages
	failedReads int                       // number of failed reads
}

// pageSize is the unit in which a disk fails to read.
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
		d.failedReads++
		n, _ := file.ReadAt(p[:at-off], off)
		return n, &os.PathError{Op: "read", Path: file.Name(), Err: syscall.EIO}
	}
	return file.ReadAt(p, off)
}

// breakPages makes the given pages of a file unreadable, or all pages if none are
// given.
func (d *badDisk) breakPages(t *testing.T, path string, pages ...int64) {
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

func (d *badDisk) repair() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pages = nil
}

// shipAll reads each segment as a shipper does, salvages unreadable segments, and
// removes the others. It returns the seqs that it shipped.
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
		wrong := "" // a wrong record may precede the damage that ends the reading
		for r, err := range s.Records() {
			if err != nil && !errors.As(err, &damage) {
				t.Fatal(err)
			}
			if err == nil {
				if !bytes.Equal(r.Usage, usage(int(r.Seq-1))) {
					wrong = fmt.Sprintf("seq %d has the wrong usage %s", r.Seq, r.Usage)
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

// seqsOnPages returns the seqs of one-record frames that overlap the pages, given where
// frames end. The length before a frame does not count, since the frame is found
// without it.
func seqsOnPages(ends []int64, pages ...int64) (hit []uint64) {
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

func seqsOfRanges(ranges []SeqRange) (seqs []uint64) {
	for _, r := range ranges {
		for seq := r.First; seq <= r.Last; seq++ {
			seqs = append(seqs, seq)
		}
	}
	slices.Sort(seqs)
	return seqs
}
