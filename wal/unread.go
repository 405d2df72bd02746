package wal

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// A disk that does not give a page today may give it tomorrow, behind another
// cable. So what it did not give stays where it is, under a name of its own, until
// the next start has read it again:
//
//	FIRST-LAST.unread   these records may be in the file, which also holds others
//	FIRST-LAST.tail     the same for the end of a segment that was not sealed: how
//	                    many records there are is not known, so that seqs are
//	                    skipped for as many as there can be
//
// A file in which several ranges are missing has several such names, by hard link.
// What becomes of such a name then is a departure: .damaged if all of the file could
// be read, .lost if the next start could not read it either.
const (
	unreadSuffix = ".unread"
	tailSuffix   = ".tail"
)

// readAttempts is how often a segment is read, with time in between, before what
// the disk did not give is set aside or, after a restart, given up.
const readAttempts = 3

func unreadName(first, last uint64) string { return segment.SealedName(first, last) + unreadSuffix }
func tailName(first, last uint64) string   { return segment.SealedName(first, last) + tailSuffix }

// Unread lists the seqs that are neither shipped nor noted as lost, and not part
// of what Sealed returns: the disk did not give their records, or their loss note.
func (l *Log) Unread() (ranges []SeqRange) {
	ranges = l.losses.unreadRanges()
	l.shelf.lock()
	defer l.shelf.unlock()
	for _, s := range l.shelf.unread {
		ranges = append(ranges, SeqRange{First: s.first, Last: s.last})
	}
	return ranges
}

// counted is how many records of the segment the ledger holds.
func (s *Segment) counted() uint64 {
	if s.uncertain {
		return 0
	}
	return s.last - s.first + 1
}

// setUnreadAside ships what can be read of a segment, and leaves the rest to the
// next start. The caller holds the mutexes of Salvage.
func (s *shelf) setUnreadAside(seg *Segment, w *segment.Scan, gaps []SeqRange) (changed bool, err error) {
	if err := s.clearLinks(seg); err != nil {
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
	// If the name is not durable, the next start finds the segment with its links
	// and pieces, and begins again.
	if decided, err := decide(s.disk, seg.dir, names[0]); !decided {
		return false, err
	}
	seg.removed, seg.made = true, nil
	var unread []*Segment
	var records uint64
	for i, g := range gaps {
		unread = append(unread, &Segment{
			shelf: s, dir: names[i], first: g.First, last: g.Last, bytes: seg.bytes / int64(len(gaps)), sealedAt: seg.sealedAt,
		})
		records += g.Last - g.First + 1
	}
	s.found(FoundUnreadable, slog.LevelError, "the disk does not give a part of a sealed segment: the rest is shipped, and that part is read again at the next start (check the disk and its cable)",
		"segment", seg.String(), "unread_records", records, "pages", w.Unread.Pages, "error", w.Unread.Err)
	s.exchange(seg, pieces, unread)
	return true, nil
}

// clearLinks deletes the names that an attempt which failed gave to the file of a
// segment: its gaps may have been others.
func (s *shelf) clearLinks(seg *Segment) error {
	entries, err := s.disk.List(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, _, ending, ok := parseName(e.Name()); ok && ending == unreadSuffix && s.disk.IsSameFile(seg.path(), s.fileOf(e.Name())) {
			if err := s.deleteExamined(e.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

// deleteLinks deletes the names that an interrupted salvage gave to the file of a
// segment which is there still, to be salvaged again.
func (l *Log) deleteLinks(found *names) (err error) {
	found.unread = slices.DeleteFunc(found.unread, func(u *named) bool {
		if _, _, ending, _ := parseName(u.name); err != nil || ending != unreadSuffix {
			return false
		}
		same := slices.ContainsFunc(found.segments, func(s *named) bool { return s.sealed && l.disk.IsSameFile(l.fileOf(u.name), l.fileOf(s.name)) })
		if same {
			err = l.deleteExamined(u.name)
		}
		return same
	})
	return err
}

// linkUnread gives the file of a segment the names of all gaps but the first,
// whose name its directory will get. Where the file system has no hard links, one
// gap stands for all, with what is between them.
func (s *shelf) linkUnread(path string, w *segment.Scan, gaps []SeqRange) ([]SeqRange, error) {
	for i, g := range gaps[1:] {
		err := s.link(path, filepath.Join(s.dir, unreadName(g.First, g.Last)))
		if err == nil {
			continue
		}
		if vfs.IsTrouble(err) {
			return nil, err
		}
		for _, g := range gaps[1 : i+1] { // these hold nothing but the link
			if err := s.deleteExamined(unreadName(g.First, g.Last)); err != nil {
				return nil, err
			}
		}
		all := SeqRange{First: gaps[0].First, Last: gaps[len(gaps)-1].Last}
		w.Pieces = slices.DeleteFunc(w.Pieces, func(p segment.Piece) bool { return p.First > all.First && p.Last < all.Last })
		return []SeqRange{all}, nil
	}
	return gaps, nil
}

// link makes a directory that holds nothing but a link to the file at path. It may
// be repeated.
func (b *base) link(path, dir string) error {
	if b.disk.IsSameFile(path, filepath.Join(dir, segment.FileName)) {
		return nil
	}
	if err := b.clearSalvage(); err != nil {
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
		return errors.Join(err, b.clearSalvage())
	}
	if err := b.disk.SyncDir(temp); err != nil {
		return err
	}
	if err := b.disk.RenameDurably(temp, dir); err != nil {
		return err
	}
	return b.clearSalvage()
}

// savedOf lists the records of u that other segments hold.
func savedOf(u *named, segments []*named) (saved []segment.Piece) {
	for _, s := range segments {
		if s.sealed && s.last >= u.first && s.first <= u.last {
			saved = append(saved, segment.Piece{SeqRange: SeqRange{First: max(s.first, u.first), Last: min(s.last, u.last)}})
		}
	}
	return saved
}

// unreadReport is for people who look at the file in the quarantine.
func unreadReport(w *segment.Scan, s *Segment) string {
	var report strings.Builder
	fmt.Fprintf(&report, "segment: %s\nbytes: %d\nreason: %v\n", s, w.Size, w.Unread)
	for _, p := range w.Pages {
		fmt.Fprintf(&report, "not read: bytes %d to %d\n", p.From, p.To-1)
	}
	return report.String()
}

// quarantineUnread moves a file that the disk did not give after a restart either
// to the quarantine. A directory with its last name tells that its seqs were used.
func (s *shelf) quarantineUnread(d *departure) error {
	gone := d.place + goneSuffix
	if err := s.disk.Mkdir(gone); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := s.disk.SyncDir(s.dir); err != nil {
		return err
	}
	if _, err := s.disk.Stat(d.dir); !errors.Is(err, fs.ErrNotExist) { // otherwise done before
		if err := s.quarantinePath(d.dir); err != nil {
			return err
		}
	}
	name := fmt.Sprintf("%s-%016x.txt", filepath.Base(d.dir), s.runID)
	d.dir = gone
	return s.disk.WriteFileDurably(filepath.Join(s.dir, quarantineName, name), []byte(d.report))
}

// unused takes the seqs that were skipped for the tail of a segment, and had no
// record, from the end of gaps: the file has been read to its end by now.
func unused(s *Segment, w *segment.Scan, gaps []SeqRange) (lost, skipped []SeqRange) {
	n := len(gaps)
	if !s.uncertain || w.Unread != nil || w.Missing || n == 0 || gaps[n-1].Last != s.last {
		return gaps, nil
	}
	return gaps[:n-1], gaps[n-1:]
}

// keepTail seals a segment whose end the disk does not give at its last good
// frame, and gives that end a name of its own. last is 0 if there is no good frame;
// then, and without hard links, the end takes all of the segment with it.
func (l *Log) keepTail(s *named, last, records uint64, w *segment.Scan) (moved bool, err error) {
	dir := filepath.Join(l.dir, s.name)
	first := max(last+1, s.first)
	tail := filepath.Join(l.dir, tailName(first, first+records-1))
	l.found(FoundUnreadable, slog.LevelError, "the disk does not give the end of a segment: it is kept, and read again at the next start (check the disk and its cable)",
		"segment", s.name, "offset", w.End, "records_at_most", records, "error", w.Unread.Err)
	if last > 0 {
		err := l.link(filepath.Join(dir, segment.FileName), tail)
		if vfs.IsTrouble(err) {
			return false, err
		}
		if err != nil { // a file system without hard links: all of it waits for the next start
			first, last = s.first, 0
			tail = filepath.Join(l.dir, tailName(first, max(w.Last(), first-1)+records))
		}
	}
	if last == 0 {
		if err := l.disk.RenameDurably(dir, tail); err != nil {
			return false, err
		}
	}
	_, end, _, _ := parseName(filepath.Base(tail))
	u := &Segment{shelf: l.shelf, dir: tail, first: first, last: end, bytes: w.Size, sealedAt: time.Now(), uncertain: true}
	if last > 0 {
		u.bytes /= 2 // the other half is the sealed segment's
	}
	l.shelf.enterUnread(u)
	return last == 0, nil
}

// readUnread finds out what is left of what the disk did not give to an earlier
// run, by first seq.
func (l *Log) readUnread(found *names) error {
	var left []*named
	for _, u := range found.unread {
		some, err := l.leftOf(u, found.segments)
		if err != nil {
			if err := l.leaveSegment(u, found, err); err != nil {
				return err
			}
			continue
		}
		left = append(left, some...)
	}
	slices.SortStableFunc(left, func(a, b *named) int { return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.name, b.name)) })
	found.unread = slices.CompactFunc(left, func(a, b *named) bool { return a.name == b.name })
	for _, s := range slices.Concat(found.unread, found.leaving) {
		if l.look(s); !s.part() && s.begins <= s.last { // otherwise it is another segment's, written to the wrong place
			s.first = s.begins
		}
	}
	return nil
}

// part reports that the disk did not give a part of the file: it holds records of
// others, too, and only the name tells which are meant.
func (s *named) part() bool {
	_, _, ending, _ := parseName(s.name)
	_, unread := cutUnread(ending)
	return unread || ending == lostSuffix
}

// leftOf takes from what the disk did not give the records that a salvage, which
// was interrupted, has saved since.
func (l *Log) leftOf(u *named, segments []*named) (left []*named, err error) {
	saved := savedOf(u, segments)
	if len(saved) == 0 {
		return []*named{u}, nil
	}
	l.found(FoundSalvage, slog.LevelWarn, "went on with an interrupted salvage", "segment", u.name)
	gaps := segment.Gaps(u.first, u.last, saved)
	if len(gaps) == 0 {
		return nil, l.quarantineDir(u.name)
	}
	dir := filepath.Join(l.dir, u.name)
	name := unreadName
	if strings.HasSuffix(u.name, tailSuffix) {
		name = tailName
	}
	for _, g := range slices.Backward(gaps) {
		part := &named{name: name(g.First, g.Last), first: g.First, last: g.Last, sealed: true, sound: true}
		to := filepath.Join(l.dir, part.name)
		switch {
		case g != gaps[0]:
			err = l.link(filepath.Join(dir, segment.FileName), to)
		case to == dir:
		case l.disk.IsSameFile(filepath.Join(dir, segment.FileName), filepath.Join(to, segment.FileName)):
			err = l.deleteExamined(u.name)
		default:
			err = l.disk.RenameDurably(dir, to)
		}
		if err != nil {
			return nil, err
		}
		left = append(left, part)
	}
	return left, nil
}

// addUnread lists what the disk did not give to an earlier run as a segment: the
// first to read it salvages it.
func (l *Log) addUnread(u *named, found *names) error {
	tail := strings.HasSuffix(u.name, tailSuffix)
	s := &Segment{
		shelf: l.shelf, dir: filepath.Join(l.dir, u.name), first: u.first, last: u.last, sealedAt: time.Now(), reread: true, uncertain: tail,
	}
	if info, err := l.disk.Stat(s.path()); err == nil {
		s.bytes, s.sealedAt = vfs.SizeOf(info), info.ModTime()
	}
	if u.failed != nil && !errors.Is(u.failed, fs.ErrNotExist) {
		return l.leaveSegment(u, found, u.failed)
	}
	l.queue.recovered(s.counted(), pending)
	l.shelf.enter(s)
	l.found(FoundUnreadable, slog.LevelWarn, "reading again what the disk did not give before the restart", "segment", u.name)
	return nil
}

// statSegment is os.Stat of a sealed segment's file. What the disk does not give
// counts as empty, and is met again when it is read.
func (l *Log) statSegment(path string) (size int64, at time.Time, err error) {
	info, err := l.disk.Stat(path)
	if vfs.IsUnreadable(err) && !errors.Is(err, fs.ErrNotExist) {
		return 0, time.Now(), nil
	}
	if err == nil && !info.Mode().IsRegular() { // no bytes are in there
		err = fs.ErrNotExist
	}
	if err != nil {
		return 0, at, err
	}
	return vfs.SizeOf(info), info.ModTime(), nil
}
