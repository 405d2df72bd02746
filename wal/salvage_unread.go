package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// A page that the disk can't read today may be readable later, for example behind another
// cable. So an unreadable part of a segment stays in its file, under a name of its own,
// until the next start has read it again:
//
//	FIRST-LAST.unread   the file may contain these records, and contains others, too
//	FIRST-LAST.tail     the same for the end of an unsealed segment: it contains at most
//	                    these records, and the seqs that it does not use are skipped
//
// A file with several unreadable ranges has one such name for each, by hard links. Once a
// later run has read such a segment, the segment is removed: as .damaged if all of the file
// could be read, else as .lost.
const (
	unreadSuffix = ".unread"
	tailSuffix   = ".tail"
)

// readAttempts is how often a segment is read, with pauses, before the unreadable part is
// left to the next start. After a restart that part is lost after as many attempts.
const readAttempts = 3

func unreadName(first, last uint64) string { return segment.SealedName(first, last) + unreadSuffix }
func tailName(first, last uint64) string   { return segment.SealedName(first, last) + tailSuffix }

// Unread lists the seqs whose records, or whose loss note, the disk could not read. They
// are not shipped, not noted as lost, and not in a segment that Sealed returns.
func (l *Log) Unread() (ranges []SeqRange) {
	ranges = l.losses.unreadRanges()
	l.shelf.lock()
	defer l.shelf.unlock()
	for _, s := range l.shelf.unread {
		ranges = append(ranges, SeqRange{First: s.first, Last: s.last})
	}
	return ranges
}

// ledgerCount is the number of records that the ledger counts for the segment.
func (s *Segment) ledgerCount() uint64 {
	if s.countUncertain {
		return 0
	}
	return s.last - s.first + 1
}

// splitOffUnread makes segments of the readable ranges, and gives the unreadable ones
// .unread names for the next start. The caller holds the mutexes that Salvage locks.
func (s *shelf) splitOffUnread(seg *Segment, w *segment.Scan, gaps []SeqRange) (changed bool, err error) {
	if err := s.deleteUnreadLinks(seg); err != nil {
		return false, err
	}
	if gaps, err = s.linkUnread(seg.path(), w, gaps); err != nil {
		return false, err
	}
	names := make([]string, len(gaps))
	for i, g := range gaps {
		names[i] = filepath.Join(s.dir, unreadName(g.First, g.Last))
	}
	pieces, err := s.makePieces(seg, w)
	if err != nil {
		return false, err
	}
	// If the new name is not durable, the next start finds the segment with its links and
	// pieces. It deletes those, and the segment is salvaged again.
	if decided, err := renameOrUndo(s.disk, seg.dir, names[0]); !decided {
		return false, err
	}
	seg.removed, seg.unfinishedPieces = true, nil
	var unread []*Segment
	var records uint64
	for i, g := range gaps {
		unread = append(unread, &Segment{
			shelf: s, dir: names[i], first: g.First, last: g.Last, bytes: seg.bytes / int64(len(gaps)), sealedAt: seg.sealedAt,
		})
		records += g.Last - g.First + 1
	}
	s.reportFinding(FoundUnreadable, slog.LevelError, "the disk can't read a part of a sealed segment: the rest is shipped, and the next start tries again (check the disk and its cable)",
		"segment", seg.String(), "unread_records", records, "pages", w.Unread.Pages, "error", w.Unread.Err)
	s.replace(seg, pieces, unread)
	return true, nil
}

// deleteUnreadLinks deletes the .unread names that a failed attempt gave to the file of a
// segment, because its gaps may have changed.
func (s *shelf) deleteUnreadLinks(seg *Segment) error {
	entries, err := s.disk.List(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		first, last, ending, ok := parseName(e.Name())
		if !ok || ending != unreadSuffix || first < seg.first || last > seg.last { // another segment's, perhaps inaccessible
			continue
		}
		same, err := s.disk.IsSameFile(seg.path(), s.fileOf(e.Name()))
		if same {
			err = s.deleteRedundant(e.Name())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// linkUnread gives the file of a segment a name for each gap but the first; the caller
// renames the segment to the name of the first. On a file system without hard links one gap
// replaces all, and includes the records between them.
func (s *shelf) linkUnread(path string, w *segment.Scan, gaps []SeqRange) ([]SeqRange, error) {
	for i, g := range gaps[1:] {
		err := s.link(path, filepath.Join(s.dir, unreadName(g.First, g.Last)))
		if err == nil {
			continue
		}
		if vfs.IsFullOrIO(err) {
			return nil, err
		}
		for _, g := range gaps[1 : i+1] { // their directories contain only the link
			if err := s.deleteRedundant(unreadName(g.First, g.Last)); err != nil {
				return nil, err
			}
		}
		all := SeqRange{First: gaps[0].First, Last: gaps[len(gaps)-1].Last}
		w.Pieces = slices.DeleteFunc(w.Pieces, func(p segment.Piece) bool { return p.First > all.First && p.Last < all.Last })
		return []SeqRange{all}, nil
	}
	return gaps, nil
}

// link makes a directory that contains only a hard link to the file at path. It may be
// repeated.
func (b *base) link(path, dir string) error {
	if same, err := b.disk.IsSameFile(path, filepath.Join(dir, segment.FileName)); err != nil || same {
		return err
	}
	if err := b.deleteSalvageDir(); err != nil {
		return err
	}
	work := filepath.Join(b.dir, salvageName)
	temp := filepath.Join(work, filepath.Base(dir))
	if err := b.disk.MkdirDurably(work); err != nil {
		return err
	}
	if err := b.disk.Mkdir(temp); err != nil {
		return err
	}
	if err := b.disk.Link(path, filepath.Join(temp, segment.FileName)); err != nil {
		return errors.Join(err, b.deleteSalvageDir())
	}
	if err := b.disk.SyncDir(temp); err != nil {
		return err
	}
	if err := b.disk.RenameDurably(temp, dir); err != nil {
		return err
	}
	return b.deleteSalvageDir()
}

// unreadReport is the text of the report beside the file in the quarantine.
func unreadReport(w *segment.Scan, s *Segment) string {
	var report strings.Builder
	fmt.Fprintf(&report, "segment: %s\nbytes: %d\nreason: %v\n", s, w.Size, w.Unread)
	for _, p := range w.UnreadRanges {
		fmt.Fprintf(&report, "not read: bytes %d to %d\n", p.From, p.To-1)
	}
	return report.String()
}

// quarantineUnread moves to the quarantine a file that the disk still can't read after a
// restart. An empty .gone directory records that its seqs were used.
func (s *shelf) quarantineUnread(d *removal) error {
	gone := d.basePath + goneSuffix
	if err := s.disk.Mkdir(gone); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := s.disk.SyncDir(s.dir); err != nil {
		return err
	}
	if _, err := s.disk.Stat(d.dir); !errors.Is(err, fs.ErrNotExist) { // otherwise an earlier attempt moved it
		if err := s.quarantinePath(d.dir); err != nil {
			return err
		}
	}
	name := fmt.Sprintf("%s-%016x.txt", filepath.Base(d.dir), s.runID)
	d.dir = gone
	return s.disk.WriteFileDurably(filepath.Join(s.dir, quarantineName, name), []byte(d.report))
}

// separateSkipped separates the gap at the end of a .tail from the others, if the file
// was read to its end. No record had these seqs, so they are skipped and not lost.
func separateSkipped(s *Segment, w *segment.Scan, gaps []SeqRange) (lost, skipped []SeqRange) {
	n := len(gaps)
	if !s.countUncertain || w.Unread != nil || w.Missing || n == 0 || gaps[n-1].Last != s.last {
		return gaps, nil
	}
	return gaps[:n-1], gaps[n-1:]
}
