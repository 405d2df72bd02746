package wal

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"
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

func unreadName(first, last uint64) string { return sealedName(first, last) + unreadSuffix }
func tailName(first, last uint64) string   { return sealedName(first, last) + tailSuffix }

// Unread lists the seqs that are neither shipped nor noted as lost, and not part
// of what Sealed returns: the disk did not give their records, or their loss note.
func (l *Log) Unread() (ranges []SeqRange) {
	l.lossMu.Lock()
	for _, r := range l.unreadNotes {
		ranges = append(ranges, r)
	}
	l.lossMu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.unread {
		ranges = append(ranges, SeqRange{s.first, s.last})
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
func (l *Log) setUnreadAside(s *Segment, w *wreck, gaps [][2]uint64) (changed bool, err error) {
	if err := l.clearLinks(s); err != nil {
		return false, err
	}
	if gaps, err = l.linkUnread(s.path(), w, gaps); err != nil {
		return false, err
	}
	names := make([]string, len(gaps))
	for i, g := range gaps {
		names[i] = filepath.Join(l.dir, unreadName(g[0], g[1]))
	}
	pieces, err := l.makePieces(s, w)
	if err != nil {
		return false, err
	}
	// If the name is not durable, the next start finds the segment with its links
	// and pieces, and begins again.
	if decided, err := l.disk.decide(s.dir, names[0]); !decided {
		return false, err
	}
	s.removed, s.made = true, nil
	var unread []*Segment
	var records uint64
	for i, g := range gaps {
		unread = append(unread, &Segment{
			log: l, dir: names[i], first: g[0], last: g[1], bytes: s.bytes / int64(len(gaps)), sealedAt: s.sealedAt,
		})
		records += g[1] - g[0] + 1
	}
	l.found(FoundUnreadable, slog.LevelError, "the disk does not give a part of a sealed segment: the rest is shipped, and that part is read again at the next start (check the disk and its cable)",
		"segment", s.String(), "unread_records", records, "pages", w.unread.Pages, "error", w.unread.Err)
	l.exchange(s, pieces, unread)
	return true, nil
}

// clearLinks deletes the names that an attempt which failed gave to the file of a
// segment: its gaps may have been others.
func (l *Log) clearLinks(s *Segment) error {
	entries, err := l.disk.readDir(l.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, _, ending, ok := parseName(e.Name()); ok && ending == unreadSuffix && l.disk.sameFile(s.path(), l.fileOf(e.Name())) {
			if err := l.deleteExamined(e.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

// dropLinks deletes the names that an interrupted salvage gave to the file of a
// segment which is there still, to be salvaged again.
func (l *Log) dropLinks(found *names) (err error) {
	found.unread = slices.DeleteFunc(found.unread, func(u *named) bool {
		if _, _, ending, _ := parseName(u.name); err != nil || ending != unreadSuffix {
			return false
		}
		same := slices.ContainsFunc(found.segments, func(s *named) bool { return s.sealed && l.disk.sameFile(l.fileOf(u.name), l.fileOf(s.name)) })
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
func (l *Log) linkUnread(path string, w *wreck, gaps [][2]uint64) ([][2]uint64, error) {
	for i, g := range gaps[1:] {
		err := l.link(path, filepath.Join(l.dir, unreadName(g[0], g[1])))
		if err == nil {
			continue
		}
		if isTrouble(err) {
			return nil, err
		}
		for _, g := range gaps[1 : i+1] { // these hold nothing but the link
			if err := l.deleteExamined(unreadName(g[0], g[1])); err != nil {
				return nil, err
			}
		}
		all := [2]uint64{gaps[0][0], gaps[len(gaps)-1][1]}
		w.pieces = slices.DeleteFunc(w.pieces, func(p piece) bool { return p.first > all[0] && p.last < all[1] })
		return [][2]uint64{all}, nil
	}
	return gaps, nil
}

// link makes a directory that holds nothing but a link to the file at path. It may
// be repeated.
func (l *Log) link(path, dir string) error {
	if l.disk.sameFile(path, filepath.Join(dir, fileName)) {
		return nil
	}
	if err := l.clearSalvage(); err != nil {
		return err
	}
	work := filepath.Join(l.dir, salvageName)
	temp := filepath.Join(work, filepath.Base(dir))
	if err := l.disk.makeDirDurably(work); err != nil {
		return err
	}
	if err := l.disk.mkdir(temp); err != nil {
		return err
	}
	if err := l.disk.link(path, filepath.Join(temp, fileName)); err != nil {
		return errors.Join(err, l.clearSalvage())
	}
	if err := l.disk.syncDir(temp); err != nil {
		return err
	}
	if err := l.disk.renameDurably(temp, dir); err != nil {
		return err
	}
	return l.clearSalvage()
}

// savedOf lists the records of u that other segments hold.
func savedOf(u *named, segments []*named) (saved []piece) {
	for _, s := range segments {
		if s.sealed && s.last >= u.first && s.first <= u.last {
			saved = append(saved, piece{first: max(s.first, u.first), last: min(s.last, u.last)})
		}
	}
	return saved
}

// unreadReport is for people who look at the file in the quarantine.
func (w *wreck) unreadReport(s *Segment) string {
	var report strings.Builder
	fmt.Fprintf(&report, "segment: %s\nbytes: %d\nreason: %v\n", s, w.size, w.unread)
	for _, p := range w.pages {
		fmt.Fprintf(&report, "not read: bytes %d to %d\n", p.from, p.to-1)
	}
	return report.String()
}

// quarantineUnread moves a file that the disk did not give after a restart either
// to the quarantine. A directory with its last name tells that its seqs were used.
func (l *Log) quarantineUnread(d *departure) error {
	gone := d.place + goneSuffix
	if err := l.disk.mkdir(gone); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := l.disk.syncDir(l.dir); err != nil {
		return err
	}
	if _, err := l.disk.fs().Stat(d.dir); !errors.Is(err, fs.ErrNotExist) { // otherwise done before
		if err := l.quarantinePath(d.dir); err != nil {
			return err
		}
	}
	name := fmt.Sprintf("%s-%016x.txt", filepath.Base(d.dir), l.run)
	d.dir = gone
	return l.disk.writeFileDurably(filepath.Join(l.dir, quarantineName, name), []byte(d.report))
}

// unused takes the seqs that were skipped for the tail of a segment, and had no
// record, from the end of gaps: the file has been read to its end by now.
func unused(s *Segment, w *wreck, gaps [][2]uint64) (lost, skipped [][2]uint64) {
	n := len(gaps)
	if !s.uncertain || w.unread != nil || w.missing || n == 0 || gaps[n-1][1] != s.last {
		return gaps, nil
	}
	return gaps[:n-1], gaps[n-1:]
}

// unreadTail looks at what follows the last good frame of a segment that is not
// sealed. If the disk does not give all of it, there may be frames of acknowledged
// records, at most of as many as it returns.
func (w *wreck) unreadTail(disk disk, path string) (records uint64, err error) {
	if w.unread == nil {
		return 0, nil
	}
	if w.size == 0 { // it could not be opened: all of it may be records
		info, err := disk.fs().Stat(path)
		if err != nil {
			return 0, err
		}
		w.size = info.Size()
		return max(1, uint64(w.size)/recordOverhead), nil
	}
	file, err := disk.openRegular(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	in := &pages{file: file, read: disk.reader(), size: w.size}
	buf := make([]byte, pageSize)
	at, found := w.end, false
	for at < w.size {
		page := buf[:min(pageEnd(at), w.size)-at]
		if _, err := in.ReadAt(page, at); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		unread := in.isUnread(at)
		// No usage holds a page of zeros: nothing was written from here on.
		if !unread && len(strings.TrimRight(string(page), "\x00")) == 0 {
			break
		}
		found = found || unread
		at += int64(len(page))
	}
	if !found {
		return 0, nil
	}
	return max(1, uint64(at-w.end)/recordOverhead), nil
}

// keepTail seals a segment whose end the disk does not give at its last good
// frame, and gives that end a name of its own. last is 0 if there is no good frame;
// then, and without hard links, the end takes all of the segment with it.
func (l *Log) keepTail(s *named, last, records uint64, w *wreck) (moved bool, err error) {
	dir := filepath.Join(l.dir, s.name)
	first := max(last+1, s.first)
	tail := filepath.Join(l.dir, tailName(first, first+records-1))
	l.found(FoundUnreadable, slog.LevelError, "the disk does not give the end of a segment: it is kept, and read again at the next start (check the disk and its cable)",
		"segment", s.name, "offset", w.end, "records_at_most", records, "error", w.unread.Err)
	if last > 0 {
		err := l.link(filepath.Join(dir, fileName), tail)
		if isTrouble(err) {
			return false, err
		}
		if err != nil { // a file system without hard links: all of it waits for the next start
			first, last = s.first, 0
			tail = filepath.Join(l.dir, tailName(first, max(w.last(), first-1)+records))
		}
	}
	if last == 0 {
		if err := l.disk.renameDurably(dir, tail); err != nil {
			return false, err
		}
	}
	_, end, _, _ := parseName(filepath.Base(tail))
	u := &Segment{log: l, dir: tail, first: first, last: end, bytes: w.size, sealedAt: time.Now(), uncertain: true}
	if last > 0 {
		u.bytes /= 2 // the other half is the sealed segment's
	}
	l.unread = append(l.unread, u)
	l.sealedBytes += u.bytes
	return last == 0, nil
}

// readUnread finds out what is left of what the disk did not give to an earlier
// run, by first seq.
func (l *Log) readUnread(found *names) error {
	var left []*named
	for _, u := range found.unread {
		some, err := l.leftOf(u, found.segments)
		if err != nil {
			return err
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
	gaps := (&wreck{pieces: saved}).lost(u.first, u.last)
	if len(gaps) == 0 {
		return nil, l.quarantineDir(u.name)
	}
	dir := filepath.Join(l.dir, u.name)
	name := unreadName
	if strings.HasSuffix(u.name, tailSuffix) {
		name = tailName
	}
	for _, g := range slices.Backward(gaps) {
		part := &named{name: name(g[0], g[1]), first: g[0], last: g[1], sealed: true, sound: true}
		to := filepath.Join(l.dir, part.name)
		switch {
		case g != gaps[0]:
			err = l.link(filepath.Join(dir, fileName), to)
		case to == dir:
		case l.disk.sameFile(filepath.Join(dir, fileName), filepath.Join(to, fileName)):
			err = l.deleteExamined(u.name)
		default:
			err = l.disk.renameDurably(dir, to)
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
func (l *Log) addUnread(u *named) {
	tail := strings.HasSuffix(u.name, tailSuffix)
	s := &Segment{
		log: l, dir: filepath.Join(l.dir, u.name), first: u.first, last: u.last, sealedAt: time.Now(), reread: true, uncertain: tail,
	}
	if info, err := l.disk.fs().Stat(s.path()); err == nil {
		s.bytes, s.sealedAt = sizeOnDisk(info), info.ModTime()
	}
	l.ledger.Recovered += s.counted()
	l.ledger.Pending += s.counted()
	l.sealedBytes += s.bytes
	l.addSealedLocked(s)
	l.found(FoundUnreadable, slog.LevelWarn, "reading again what the disk did not give before the restart", "segment", u.name)
}

// statSegment is os.Stat of a sealed segment's file. What the disk does not give
// counts as empty, and is met again when it is read.
func (l *Log) statSegment(path string) (size int64, at time.Time, err error) {
	info, err := l.disk.fs().Stat(path)
	if isUnreadable(err) && !errors.Is(err, fs.ErrNotExist) {
		return 0, time.Now(), nil
	}
	if err != nil {
		return 0, at, err
	}
	return sizeOnDisk(info), info.ModTime(), nil
}
