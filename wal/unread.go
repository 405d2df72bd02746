package wal

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
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
//	FIRST-LAST.lost     the next start could not read it either: what is missing is
//	                    noted as lost, and the file is on its way to the quarantine
//
// A file in which several ranges are missing has several such names, by hard link.
const (
	unreadSuffix = ".unread"
	tailSuffix   = ".tail"
	lostSuffix   = ".lost"
)

// readAttempts is how often a segment is read, with time in between, before what
// the disk did not give is set aside or, after a restart, given up.
const readAttempts = 3

func unreadName(first, last uint64) string { return sealedName(first, last) + unreadSuffix }
func tailName(first, last uint64) string   { return sealedName(first, last) + tailSuffix }

// parseUnread reads a name of what the disk did not give.
func parseUnread(name string) (first, last uint64, tail, ok bool) {
	name, tail = strings.CutSuffix(name, tailSuffix)
	if !tail {
		if name, ok = strings.CutSuffix(name, unreadSuffix); !ok {
			return 0, 0, false, false
		}
	}
	first, last, gone, ok := parseName(name)
	return first, last, tail, ok && !gone && last > 0
}

func isUnreadName(name string) bool {
	name, lost := strings.CutSuffix(name, lostSuffix)
	if lost {
		_, last, gone, ok := parseName(name)
		return ok && !gone && last > 0
	}
	_, _, _, ok := parseUnread(name)
	return ok
}

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
func (l *Log) setUnreadAside(s *Segment, w *wreck, gaps [][2]uint64) error {
	gaps, err := l.linkUnread(s.path(), w, gaps)
	if err != nil {
		return err
	}
	names := make([]string, len(gaps))
	for i, g := range gaps {
		names[i] = filepath.Join(l.dir, unreadName(g[0], g[1]))
	}
	pieces, err := l.replace(s, w, func() error { return renameDurably(s.dir, names[0]) })
	if err != nil {
		return err
	}
	var unread []*Segment
	var records uint64
	for i, g := range gaps {
		unread = append(unread, &Segment{
			log: l, dir: names[i], first: g[0], last: g[1], bytes: s.bytes / int64(len(gaps)), sealedAt: s.sealedAt,
		})
		records += g[1] - g[0] + 1
	}
	s.removed = true
	l.found(FoundUnreadable, slog.LevelError, "the disk does not give a part of a sealed segment: the rest is shipped, and that part is read again at the next start (check the disk and its cable)",
		"segment", s.String(), "unread_records", records, "pages", w.unread.Pages, "error", w.unread.Err)
	l.exchange(s, pieces, unread, 0)
	return nil
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
			if err := discard(filepath.Join(l.dir, unreadName(g[0], g[1]))); err != nil {
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
	if sameFile(path, filepath.Join(dir, fileName)) {
		return nil
	}
	work := filepath.Join(l.dir, salvageName)
	if err := os.RemoveAll(work); err != nil {
		return err
	}
	temp := filepath.Join(work, filepath.Base(dir))
	if err := os.MkdirAll(temp, 0o750); err != nil {
		return err
	}
	if err := os.Link(path, filepath.Join(temp, fileName)); err != nil {
		return errors.Join(err, os.RemoveAll(work))
	}
	if err := syncDir(temp); err != nil {
		return err
	}
	if err := renameDurably(temp, dir); err != nil {
		return err
	}
	return os.RemoveAll(work)
}

func sameFile(a, b string) bool {
	left, errLeft := os.Stat(a)
	right, errRight := os.Stat(b)
	return errLeft == nil && errRight == nil && os.SameFile(left, right)
}

// giveUp makes a loss of what the disk did not give after a restart either. From
// the rename on it is one, whatever the disk gives later.
func (l *Log) giveUp(s *Segment, w *wreck, gaps [][2]uint64) error {
	l.mu.Lock()
	open := l.active.open
	l.mu.Unlock()
	if !open {
		return errors.New("the name of the segment is needed until the log can be written again")
	}
	dir := filepath.Join(l.dir, s.String()+lostSuffix)
	pieces, err := l.replace(s, w, func() error {
		if s.dir == dir {
			return nil // done before
		}
		return renameDurably(s.dir, dir)
	})
	if err != nil {
		return err
	}
	s.dir = dir
	lost, err := l.noteGaps(w.header, gaps)
	if err != nil {
		return err
	}
	if err := l.quarantineUnread(s, w); err != nil {
		return err
	}
	s.removed = true
	l.found(FoundDamage, slog.LevelError, "the disk did not give a part of a segment after a restart either: it is lost, and the file is in the quarantine",
		"segment", s.String(), "lost_records", lost, "pieces", len(pieces), "reason", w.reason)
	l.exchange(s, pieces, nil, lost)
	return nil
}

// noteGaps notes ranges of seqs as damaged, and counts their records.
func (l *Log) noteGaps(h SegmentHeader, gaps [][2]uint64) (lost uint64, err error) {
	for _, g := range gaps {
		lost += g[1] - g[0] + 1
		if err := l.noteLoss(LossNote{
			Node: h.Node, LogID: h.LogID, Run: h.Run, FirstSeq: g[0], LastSeq: g[1], Reason: LossDamaged, At: time.Now(),
		}); err != nil {
			return 0, err
		}
	}
	return lost, nil
}

// finishGivingUp does what a crash left of giveUp. Pieces that were saved are
// among the segments.
func (l *Log) finishGivingUp(u named, segments []named) error {
	h := SegmentHeader{LogID: l.logID, Node: l.opts.Node}
	if r, err := openFrames(l.opts.readAt, filepath.Join(l.dir, u.name, fileName)); err == nil {
		h = r.header
		r.close()
	}
	if err := makeDirDurably(filepath.Join(l.dir, lostName)); err != nil {
		return err
	}
	lost, err := l.noteGaps(h, (&wreck{pieces: savedOf(u, segments)}).lost(u.first, u.last))
	if err != nil {
		return err
	}
	l.ledger.Recovered += lost
	l.ledger.Quarantined += lost
	l.found(FoundDamage, slog.LevelError, "noted as lost what the disk did not give: the last run was interrupted at that", "segment", u.name, "lost_records", lost)
	return l.quarantineDir(u.name)
}

// savedOf lists the records of u that other segments hold.
func savedOf(u named, segments []named) (saved []piece) {
	for _, s := range segments {
		if s.last > 0 && s.last >= u.first && s.first <= u.last {
			saved = append(saved, piece{first: max(s.first, u.first), last: min(s.last, u.last)})
		}
	}
	return saved
}

// quarantineUnread moves the file of a segment that the disk did not give after a
// restart either to the quarantine.
func (l *Log) quarantineUnread(s *Segment, w *wreck) error {
	var report strings.Builder
	fmt.Fprintf(&report, "segment: %s\nbytes: %d\nreason: %v\n", s, w.size, w.unread)
	for _, p := range w.pages {
		fmt.Fprintf(&report, "not read: bytes %d to %d\n", p.from, p.to-1)
	}
	name := filepath.Base(s.dir)
	if err := l.quarantineDir(name); err != nil {
		return err
	}
	return writeFileDurably(filepath.Join(l.dir, quarantineName, fmt.Sprintf("%s-%016x.txt", name, l.run)), []byte(report.String()))
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
func (w *wreck) unreadTail(read readAt, path string) (records uint64, err error) {
	if w.unread == nil {
		return 0, nil
	}
	file, err := os.Open(path)
	if isUnreadable(err) {
		return 1, nil // there is no telling how many
	}
	if err != nil {
		return 0, err
	}
	defer file.Close()
	in := &pages{file: file, read: read.orDefault(), size: w.size}
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
func (l *Log) keepTail(s named, last, records uint64, w *wreck) (moved bool, err error) {
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
		if err := renameDurably(dir, tail); err != nil {
			return false, err
		}
	}
	_, end, _, _ := parseUnread(filepath.Base(tail))
	u := &Segment{log: l, dir: tail, first: first, last: end, bytes: w.size, sealedAt: time.Now(), uncertain: true}
	if last > 0 {
		u.bytes /= 2 // the other half is the sealed segment's
	}
	l.unread = append(l.unread, u)
	l.sealedBytes += u.bytes
	return last == 0, nil
}

// readUnread lists what the disk did not give to an earlier run, by first seq.
func (l *Log) readUnread(segments []named) (unread []named, err error) {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if name, lost := strings.CutSuffix(e.Name(), lostSuffix); lost {
			if first, last, gone, ok := parseName(name); ok && !gone && last > 0 {
				if err := l.finishGivingUp(named{e.Name(), first, last}, segments); err != nil {
					return nil, err
				}
			}
			continue
		}
		first, last, tail, ok := parseUnread(e.Name())
		if !ok || !e.IsDir() {
			continue
		}
		left, err := l.leftOf(named{e.Name(), first, last}, segments, tail)
		if err != nil {
			return nil, err
		}
		unread = append(unread, left...)
	}
	slices.SortFunc(unread, func(a, b named) int { return cmp.Compare(a.first, b.first) })
	return unread, nil
}

// leftOf takes from what the disk did not give the records that a salvage, which
// was interrupted, has saved since.
func (l *Log) leftOf(u named, segments []named, tail bool) (left []named, err error) {
	dir := filepath.Join(l.dir, u.name)
	for _, s := range segments {
		if u.within(s) && sameFile(filepath.Join(dir, fileName), filepath.Join(l.dir, s.name, fileName)) {
			// The segment itself is still there, to be salvaged again.
			return nil, discard(dir)
		}
	}
	saved := savedOf(u, segments)
	if len(saved) == 0 {
		return []named{u}, nil
	}
	l.found(FoundSalvage, slog.LevelWarn, "went on with an interrupted salvage", "segment", u.name)
	gaps := (&wreck{pieces: saved}).lost(u.first, u.last)
	if len(gaps) == 0 {
		return nil, l.quarantineDir(u.name)
	}
	name := unreadName
	if tail {
		name = tailName
	}
	for _, g := range slices.Backward(gaps) {
		to := filepath.Join(l.dir, name(g[0], g[1]))
		if g == gaps[0] {
			err = renameDurably(dir, to)
		} else {
			err = l.link(filepath.Join(dir, fileName), to)
		}
		if err != nil {
			return nil, err
		}
		left = append(left, named{filepath.Base(to), g[0], g[1]})
	}
	return left, nil
}

// addUnread lists what the disk did not give to an earlier run as a segment: the
// first to read it salvages it.
func (l *Log) addUnread(u named) {
	_, _, tail, _ := parseUnread(u.name)
	s := &Segment{
		log: l, dir: filepath.Join(l.dir, u.name), first: u.first, last: u.last, sealedAt: time.Now(), reread: true, uncertain: tail,
	}
	if info, err := os.Stat(s.path()); err == nil {
		s.bytes, s.sealedAt = sizeOnDisk(info), info.ModTime()
	}
	l.ledger.Recovered += s.counted()
	l.ledger.Pending += s.counted()
	l.sealedBytes += s.bytes
	l.addSealedLocked(s)
	l.found(FoundUnreadable, slog.LevelWarn, "reading again what the disk did not give before the restart", "segment", u.name)
}

// limitOf is the highest seq that an unsealed segment can hold acknowledged records
// of, given the segments behind it.
func limitOf(s named, others ...[]named) uint64 {
	limit := uint64(math.MaxUint64)
	for _, o := range slices.Concat(others...) {
		if o.first > s.first {
			limit = min(limit, o.first-1)
		}
	}
	return limit
}

// statSegment is os.Stat of a sealed segment's file. What the disk does not give
// counts as empty, and is met again when it is read.
func statSegment(path string) (size int64, at time.Time, err error) {
	info, err := os.Stat(path)
	if isUnreadable(err) && !errors.Is(err, fs.ErrNotExist) {
		return 0, time.Now(), nil
	}
	if err != nil {
		return 0, at, err
	}
	return sizeOnDisk(info), info.ModTime(), nil
}
