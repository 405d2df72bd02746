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
	"os"
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
// The damaged segment goes last. If that is interrupted, the next start deletes
// the pieces again.
func (l *Log) Salvage(s *Segment) (changed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.salvageMu.Lock()
	defer l.salvageMu.Unlock()
	if s.removed {
		return false, nil
	}
	want := l.search(s.first, s.last)
	want.others = s.reread
	w, err := want.survey(s.path())
	if err != nil {
		return false, fmt.Errorf("salvage %s: %w", s, err)
	}
	gaps := w.lost(s.first, s.last)
	if len(gaps) == 0 && w.reason == nil && !s.reread {
		return false, nil
	}
	unread := w.unread != nil && len(gaps) > 0 // what is not there may be in what was not read
	if unread {
		if s.attempts++; s.attempts < readAttempts {
			return false, fmt.Errorf("salvage %s: %w", s, w.unread)
		}
	}
	w.adopt(l)
	if unread && !s.reread {
		if err := l.setUnreadAside(s, w, gaps); err != nil {
			return false, fmt.Errorf("salvage %s: %w", s, err)
		}
		return true, nil
	}
	if unread {
		if err := l.giveUp(s, w, gaps); err != nil {
			return false, fmt.Errorf("salvage %s: %w", s, err)
		}
		return true, nil
	}
	if err := l.keepDamaged(s, w); err != nil {
		return false, fmt.Errorf("salvage %s: %w", s, err)
	}
	gaps, skipped := unused(s, w, gaps)
	for _, g := range skipped {
		if err := l.noteLoss(LossNote{
			Node: w.header.Node, LogID: w.header.LogID, Run: w.header.Run,
			FirstSeq: g[0], LastSeq: g[1], Reason: LossSkipped, At: time.Now(),
		}); err != nil {
			return false, err
		}
	}
	var lost uint64
	for _, g := range gaps {
		lost += g[1] - g[0] + 1
		if err := l.noteLoss(LossNote{
			Node: w.header.Node, LogID: w.header.LogID, Run: w.header.Run,
			FirstSeq: g[0], LastSeq: g[1], Reason: LossDamaged, At: time.Now(),
		}); err != nil {
			return false, err
		}
	}
	pieces, err := l.replace(s, w, func() error { return l.discard(s) })
	if err != nil {
		return false, fmt.Errorf("salvage %s: %w", s, err)
	}
	s.removed = true
	if s.reread && lost == 0 {
		l.opts.Logger.Info("read what the disk did not give before the restart: nothing of it is lost", "segment", s.String(), "pieces", len(pieces))
		l.exchange(s, pieces, nil, 0)
		return true, nil
	}
	l.found(FoundDamage, slog.LevelError, "a sealed segment was damaged: what still checks out is kept, the rest is in the quarantine",
		"segment", s.String(), "lost_records", lost, "pieces", len(pieces), "reason", w.reason)
	l.exchange(s, pieces, nil, lost)
	return true, nil
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
	file, err := os.Open(s.path())
	if err != nil {
		return err
	}
	defer file.Close()
	in := &pages{file: file, read: l.opts.readAt.orDefault(), size: w.size}
	for _, d := range w.damaged {
		name := fmt.Sprintf("%s-at-%d", s, d.from)
		if err := l.quarantineBytes(name, s.String(), in, d, w.reason); err != nil {
			return err
		}
	}
	return nil
}

// replace makes the pieces durable and has done remove the original.
func (l *Log) replace(s *Segment, w *wreck, done func() error) (pieces []*Segment, err error) {
	inPlace := w.whole(s.first, s.last) && !s.reread
	work := filepath.Join(l.dir, salvageName)
	if err := os.RemoveAll(work); err != nil {
		return nil, err
	}
	if err := makeDirDurably(work); err != nil {
		return nil, err
	}
	for _, p := range w.pieces {
		name := sealedName(p.first, p.last)
		size, err := w.write(l.opts.readAt, s.path(), filepath.Join(work, name), p)
		if err != nil {
			return nil, err
		}
		dir := filepath.Join(l.dir, name)
		if inPlace { // same name: exchange the file instead
			if err := os.Rename(filepath.Join(work, name, fileName), filepath.Join(dir, fileName)); err != nil {
				return nil, err
			}
			if err := syncDir(dir); err != nil {
				return nil, err
			}
		} else {
			// One of an attempt that failed is in the way.
			if err := os.RemoveAll(dir); err != nil {
				return nil, err
			}
			if err := renameDurably(filepath.Join(work, name), dir); err != nil {
				return nil, err
			}
		}
		pieces = append(pieces, &Segment{log: l, dir: dir, first: p.first, last: p.last, bytes: size, sealedAt: s.sealedAt})
	}
	if !inPlace {
		if err := done(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return pieces, os.RemoveAll(work)
}

// write makes a segment directory that holds one piece.
func (w *wreck) write(read readAt, from, dir string, p piece) (size int64, err error) {
	file, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	in := &pages{file: file, read: read.orDefault(), size: w.size}
	if err := os.Mkdir(dir, 0o750); err != nil {
		return 0, err
	}
	out, err := os.OpenFile(filepath.Join(dir, fileName), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return 0, err
	}
	defer out.Close()
	put := func(entry io.Reader, length int64) error {
		if _, err := out.Write(binary.AppendUvarint(nil, uint64(length))); err != nil {
			return err
		}
		n, err := io.Copy(out, entry)
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
	if err := out.Sync(); err != nil {
		return 0, err
	}
	return size, syncDir(dir)
}

// exchange puts the pieces of a segment, and what the disk did not give of it, in
// its place on the books.
func (l *Log) exchange(s *Segment, pieces, unread []*Segment, lost uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var sealed []*Segment
	for _, other := range l.sealed {
		if other == s {
			sealed = append(sealed, pieces...)
			continue
		}
		sealed = append(sealed, other)
	}
	l.sealed = sealed
	l.sealedBytes -= s.bytes
	for _, p := range pieces {
		l.sealedBytes += p.bytes
		if s.uncertain { // it was not known that they exist
			l.ledger.Recovered += p.counted()
			l.ledger.Pending += p.counted()
		}
	}
	for _, u := range unread {
		u.since = s.since
		l.sealedBytes += u.bytes
		l.unread = append(l.unread, u)
	}
	if s.uncertain {
		l.ledger.Recovered += lost
		l.ledger.Pending += lost
	}
	l.ledger.Pending -= lost
	l.ledger.Quarantined += lost
	l.checkBoundsLocked()
	close(l.sealedMore)
	l.sealedMore = make(chan struct{})
}
