package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"
)

// salvageName is the directory in which the pieces of a damaged segment are
// made. It never holds the only copy of anything.
const salvageName = "salvage"

// Salvage puts one segment for each unbroken range of records that still check
// out in the place of a damaged one. The bytes that do not are kept in the
// quarantine, and a loss note stands for every range of records that is gone.
// A segment of a later format version is left as it is, with ErrVersion; one
// without damage too, and changed is false: it may be memory that failed.
//
// What the disk does not give is an UnreadableError, and changed is false, until
// the segment was read a few times. Then it is set aside for the next start, and
// has no loss note; if that can't read it either, it is damage.
//
// The pieces are durable beside the damaged segment before its name says that it
// was replaced. If that is interrupted earlier, the next start deletes the pieces
// again; later, it writes the notes.
func (l *Log) Salvage(s *Segment) (changed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.salvageMu.Lock()
	defer l.salvageMu.Unlock()
	if s.removed {
		return false, nil
	}
	if changed, err = l.salvage(s); err != nil {
		err = fmt.Errorf("salvage %s: %w", s, err)
	}
	return changed, err
}

func (l *Log) salvage(s *Segment) (changed bool, err error) {
	want := l.search(s.first, s.last)
	want.others = s.reread
	w, err := want.survey(s.path())
	if err != nil {
		return false, err
	}
	gaps := w.lost(s.first, s.last)
	if len(gaps) == 0 && w.reason == nil && !s.reread {
		return false, nil
	}
	unread := w.unread != nil && len(gaps) > 0 // what is not there may be in what was not read
	if unread {
		if s.attempts++; s.attempts < readAttempts {
			return false, w.unread
		}
	}
	w.adopt(l)
	if unread && !s.reread {
		return l.setUnreadAside(s, w, gaps)
	}
	if !unread {
		if err := l.keepDamaged(s, w); err != nil {
			return false, err
		}
	}
	hours := w.hours(l.disk, s.path())
	if len(hours) == 0 { // no segment is open for much longer than an hour
		hours = []int64{hourOf(s.sealedAt.UnixMicro())}
	}
	pieces, err := l.makePieces(s, w)
	if err != nil {
		return false, err
	}
	if w.whole(s.first, s.last) && !s.reread {
		s.removed = true
		l.foundDamage(s, w, pieces, 0)
		l.exchange(s, pieces, nil)
		return true, nil
	}
	d := s.departure(damagedSuffix)
	if unread {
		d.dir, d.report = d.place+lostSuffix, w.unreadReport(s)
	}
	decided, err := l.disk.decide(s.dir, d.dir)
	if !decided {
		return false, err
	}
	s.removed, s.made = true, nil
	d.synced, d.pieces, d.open = err == nil, pieces, s.first
	gaps, skipped := unused(s, w, gaps)
	note := LossNote{Node: w.header.Node, LogID: w.header.LogID, Run: w.header.Run, At: time.Now(), Hours: hours}
	for _, g := range gaps {
		d.lost += g[1] - g[0] + 1
		note.FirstSeq, note.LastSeq, note.Reason = g[0], g[1], w.lossReason(g[0])
		d.notes = append(d.notes, note)
	}
	for _, g := range skipped {
		note.FirstSeq, note.LastSeq, note.Reason = g[0], g[1], LossSkipped
		d.notes = append(d.notes, note)
	}
	switch {
	case unread:
		l.found(FoundDamage, slog.LevelError, "the disk did not give a part of a segment after a restart either: it is lost, and the file is in the quarantine",
			"segment", s.String(), "lost_records", d.lost, "pieces", len(pieces), "reason", w.reason)
	case s.reread && d.lost == 0:
		l.opts.Logger.Info("read what the disk did not give before the restart: nothing of it is lost", "segment", s.String(), "pieces", len(pieces))
	default:
		l.foundDamage(s, w, pieces, d.lost)
	}
	_ = l.depart(d, func() { // logged
		l.unlistLocked(s)
		found := d.lost
		for _, p := range pieces {
			l.sealedBytes += p.bytes
			found += p.counted()
		}
		if s.uncertain { // it was not known that they exist
			l.ledger.Recovered += found
			l.ledger.Pending += found
		}
	})
	return true, nil
}

func (l *Log) foundDamage(s *Segment, w *wreck, pieces []*Segment, lost uint64) {
	l.found(FoundDamage, slog.LevelError, "a sealed segment was damaged: what still checks out is kept, the rest is in the quarantine",
		"segment", s.String(), "lost_records", lost, "pieces", len(pieces), "reason", w.reason)
}

// lossReason says what became of the records from seq first on. Nothing is left
// of them where the file ends with the records before.
func (w *wreck) lossReason(first uint64) string {
	if first > w.last() && !w.missing && w.unread == nil && w.begin > 0 && len(w.damaged) == 0 && w.end == w.size {
		return LossMissing
	}
	return LossDamaged
}

// adopt fills in what a damaged header no longer tells.
func (w *wreck) adopt(l *Log) {
	if w.header.LogID == 0 {
		w.header.LogID = l.logID
	}
	if w.header.Node == "" {
		w.header.Node = l.opts.Node
	}
	if w.header.CreatedAt == 0 {
		w.header.CreatedAt = time.Now().UnixMicro()
	}
}

// keepDamaged copies the bytes that do not check out to the quarantine.
func (l *Log) keepDamaged(s *Segment, w *wreck) error {
	if len(w.damaged) == 0 {
		return nil
	}
	file, err := l.disk.openRegular(s.path())
	if err != nil {
		return err
	}
	defer file.Close()
	in := &pages{file: file, read: l.disk.reader(), size: w.size}
	for _, d := range w.damaged {
		name := fmt.Sprintf("%s-at-%d", s, d.from)
		if err := l.quarantineBytes(name, s.String(), in, d, w.reason); err != nil {
			return err
		}
	}
	return nil
}

// makePieces makes the pieces durable under their names, beside the original or,
// if it holds all records, in the place of its file.
func (l *Log) makePieces(s *Segment, w *wreck) (pieces []*Segment, err error) {
	if err := l.dropPieces(&s.made); err != nil {
		return nil, err
	}
	inPlace := w.whole(s.first, s.last) && !s.reread
	work := filepath.Join(l.dir, salvageName)
	if err := l.clearSalvage(); err != nil {
		return nil, err
	}
	if err := l.disk.makeDirDurably(work); err != nil {
		return nil, err
	}
	for _, p := range w.pieces {
		name := sealedName(p.first, p.last)
		size, err := w.write(l.disk, s.path(), filepath.Join(work, name), p)
		if err != nil {
			return nil, err
		}
		dir := filepath.Join(l.dir, name)
		if inPlace { // same name: exchange the file instead
			if err := l.disk.rename(filepath.Join(work, name, fileName), filepath.Join(dir, fileName)); err != nil {
				return nil, err
			}
			if err := l.disk.syncDir(dir); err != nil {
				return nil, err
			}
		} else {
			if err := l.clearPiece(name, s.path(), w); err != nil {
				return nil, err
			}
			s.made = append(s.made, dir)
			if err := l.disk.renameDurably(filepath.Join(work, name), dir); err != nil {
				return nil, err
			}
		}
		pieces = append(pieces, &Segment{log: l, dir: dir, first: p.first, last: p.last, bytes: size, sealedAt: s.sealedAt})
	}
	return pieces, l.clearSalvage()
}

// dropPieces deletes pieces of a segment that is still there itself, durably: it is
// to be shipped, evicted or salvaged anew as a whole.
func (l *Log) dropPieces(dirs *[]string) error {
	if len(*dirs) == 0 {
		return nil
	}
	for _, dir := range *dirs {
		// By way of .gone: a piece without its file would look like a loss.
		if err := l.deleteExamined(filepath.Base(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	*dirs = nil
	return nil
}

// write makes a segment directory that holds one piece.
func (w *wreck) write(disk disk, from, dir string, p piece) (size int64, err error) {
	file, err := disk.openRegular(from)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	in := &pages{file: file, read: disk.reader(), size: w.size}
	if err := disk.mkdir(dir); err != nil {
		return 0, err
	}
	out, err := disk.create(filepath.Join(dir, fileName))
	if err != nil {
		return 0, err
	}
	closed := false
	defer func() {
		if !closed {
			out.Close()
		}
	}()
	end := io.NewOffsetWriter(out, 0)
	put := func(entry io.Reader, length int64) error {
		if _, err := end.Write(binary.AppendUvarint(nil, uint64(length))); err != nil {
			return err
		}
		n, err := io.Copy(end, entry)
		if err == nil && n != length {
			err = io.ErrUnexpectedEOF
		}
		size += int64(uvarintLen(uint64(length))) + length
		return err
	}
	header := w.header.append(nil)
	if err := put(bytes.NewReader(header), int64(len(header))); err != nil {
		return 0, err
	}
	for _, e := range p.extents {
		if err := e.eachFrame(in, func(f extent) error {
			payload := crc32.New(castagnoli)
			head := make([]byte, frameHeaderSize)
			if _, err := in.ReadAt(head, f.from); err != nil {
				return err
			}
			rest := io.NewSectionReader(in, f.from+frameHeaderSize, f.to-f.from-frameHeaderSize)
			if err := put(io.MultiReader(bytes.NewReader(head), io.TeeReader(rest, payload)), f.to-f.from); err != nil {
				return err
			}
			if h, err := decodeFrameHeader(head); err != nil || h.payloadCRC != payload.Sum32() {
				return &DamageError{Path: from, Offset: f.from, Reason: errors.New("a frame that checked out does not any more")}
			}
			return nil
		}); err != nil {
			return 0, err
		}
	}
	closed = true
	if err := disk.finish(out, nil); err != nil {
		return 0, err
	}
	return size, disk.syncDir(dir)
}

// exchange puts the pieces of a segment that lost no record, and what the disk did
// not give of it, in its place on the books.
func (l *Log) exchange(s *Segment, pieces, unread []*Segment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unlistLocked(s)
	l.sealedBytes -= s.bytes
	for _, p := range pieces {
		l.addSealedLocked(p)
		l.sealedBytes += p.bytes
	}
	for _, u := range unread {
		u.since = s.since
		l.unread = append(l.unread, u)
		l.sealedBytes += u.bytes
	}
	l.checkBoundsLocked()
	l.announceLocked()
}
