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
	"slices"
	"time"
)

// salvageName is the directory in which the pieces of a damaged segment are
// made. It never holds the only copy of anything.
const salvageName = "salvage"

// stretch is a row of bytes in a segment's file.
type stretch struct{ from, to int64 }

// piece is an unbroken range of records that still check out.
type piece struct {
	first, last uint64
	frames      []stretch // each without the length before it
}

// wreck is what a scan finds in a damaged segment.
type wreck struct {
	header  SegmentHeader
	size    int64 // of the file
	begin   int64 // where its header ends; 0 if that can't be read
	pieces  []piece
	damaged []stretch // bytes that are part of no good entry
	reason  error     // what is wrong with the first of them
	missing bool      // there is no file
}

// whole reports whether every record of the segment is there.
func (w *wreck) whole(first, last uint64) bool {
	return len(w.pieces) == 1 && w.pieces[0].first == first && w.pieces[0].last == last
}

// lost lists the ranges of seqs that no piece holds.
func (w *wreck) lost(first, last uint64) (gaps [][2]uint64) {
	for _, p := range w.pieces {
		if p.first > first {
			gaps = append(gaps, [2]uint64{first, p.first - 1})
		}
		first = p.last + 1
	}
	if first <= last {
		gaps = append(gaps, [2]uint64{first, last})
	}
	return gaps
}

// survey scans the file of a segment that claims to hold the records first to
// last. After damage it finds the next frame by its magic number. Errors come
// from the disk, or are ErrVersion.
func survey(path string, first, last uint64) (*wreck, error) {
	file, err := openRegular(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &wreck{reason: errors.New("its file is missing"), missing: true}, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	w := &wreck{size: info.Size()}
	s := &surveyor{wreck: w, file: file, next: first, last: last}
	if r, err := openFrames(path); err == nil {
		w.header, w.begin, s.pos, s.known = r.header, r.offset, r.offset, true
		r.close()
	} else if errors.Is(err, ErrVersion) {
		return nil, err
	} else if err := ignoreDamage(err); err != nil {
		return nil, err
	} else {
		w.reason = errors.New("segment header does not check out")
	}
	if err := s.scan(); err != nil {
		return nil, err
	}
	return w, nil
}

// records calls each for every record of the pieces.
func (w *wreck) records(path string, each func(*Record) error) error {
	in, err := openRegular(path)
	if err != nil {
		return err
	}
	defer in.Close()
	var rec Record
	var payload []byte
	for _, p := range w.pieces {
		rec.Seq = p.first - 1
		for _, f := range p.frames {
			payload = slices.Grow(payload[:0], int(f.to-f.from))[:f.to-f.from]
			if _, err := in.ReadAt(payload, f.from); err != nil {
				return err
			}
			for rest := payload[frameHeaderSize:]; len(rest) > 0; {
				if rest, err = decodeRecord(rest, &rec); err != nil {
					return err
				}
				rec.Seq++
				if err := each(&rec); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// surveyor is the state of a survey.
type surveyor struct {
	*wreck
	file  *os.File
	pos   int64  // everything before is accounted for
	known bool   // header tells log id and run
	next  uint64 // seq that belongs next
	last  uint64
	buf   []byte
}

func (s *surveyor) scan() error {
	for s.pos < s.size {
		var prefix [binary.MaxVarintLen64]byte
		n, err := s.file.ReadAt(prefix[:], s.pos)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		length, took := binary.Uvarint(prefix[:n])
		if took > 0 {
			end, err := s.frameAt(s.pos + int64(took))
			if err != nil {
				return err
			}
			if end > 0 && uint64(end) == uint64(s.pos)+uint64(took)+length {
				s.pos = end
				continue
			}
			if end > 0 { // a good frame behind a wrong length
				s.damage(stretch{s.pos, s.pos + int64(took)}, errors.New("entry length does not fit its frame"))
				s.pos = end
				continue
			}
		}
		if err := s.resync(); err != nil {
			return err
		}
	}
	return nil
}

// resync finds the next good frame behind pos.
func (s *surveyor) resync() error {
	start := s.pos
	window := make([]byte, 64<<10)
	for at := start + 1; at < s.size; {
		n, err := s.file.ReadAt(window, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		i := bytes.Index(window[:n], []byte(frameMagic))
		if i < 0 {
			if n < len(window) {
				break
			}
			at += int64(n - len(frameMagic) + 1)
			continue
		}
		end, err := s.frameAt(at + int64(i))
		if err != nil {
			return err
		}
		if end > 0 {
			s.damage(stretch{start, at + int64(i)}, errors.New("bytes do not check out"))
			s.pos = end
			return nil
		}
		at += int64(i) + 1
	}
	s.pos = s.size
	s.damage(stretch{start, s.size}, errors.New("bytes do not check out"))
	return nil
}

func (s *surveyor) damage(d stretch, reason error) {
	if s.reason == nil {
		s.reason = reason
	}
	s.damaged = append(s.damaged, d)
}

// frameAt takes in the frame at offset and returns where it ends, or 0 if there
// is none that belongs here.
func (s *surveyor) frameAt(offset int64) (end int64, err error) {
	var head [frameHeaderSize]byte
	if _, err := s.file.ReadAt(head[:], offset); err != nil {
		if errors.Is(err, io.EOF) {
			return 0, nil
		}
		return 0, err
	}
	h, err := decodeFrameHeader(head[:])
	if err != nil || h.count == 0 || h.payloadLen > maxEntry ||
		h.firstSeq < s.next || h.firstSeq > s.last || uint64(h.count) > s.last-h.firstSeq+1 {
		return 0, nil //nolint:nilerr // no frame of ours
	}
	if s.known && (h.logID != s.header.LogID || h.run != s.header.Run) {
		return 0, nil
	}
	end = offset + frameHeaderSize + int64(h.payloadLen)
	if end > s.size {
		return 0, nil
	}
	if cap(s.buf) < int(h.payloadLen) {
		s.buf = make([]byte, h.payloadLen)
	}
	payload := s.buf[:h.payloadLen]
	if _, err := s.file.ReadAt(payload, offset+frameHeaderSize); err != nil {
		return 0, err
	}
	if crc32.Checksum(payload, castagnoli) != h.payloadCRC || !wellFormed(payload, h.count) {
		return 0, nil
	}
	if !s.known { // the frames agree among themselves at least
		s.header.LogID, s.header.Run, s.known = h.logID, h.run, true
	}
	if n := len(s.pieces); n == 0 || s.pieces[n-1].last+1 != h.firstSeq {
		s.pieces = append(s.pieces, piece{first: h.firstSeq})
	}
	p := &s.pieces[len(s.pieces)-1]
	p.last = h.firstSeq + uint64(h.count) - 1
	p.frames = append(p.frames, stretch{offset, end})
	s.next = p.last + 1
	return end, nil
}

func wellFormed(payload []byte, count uint32) bool {
	var rec Record
	for range count {
		var err error
		if payload, err = decodeRecord(payload, &rec); err != nil {
			return false
		}
	}
	return len(payload) == 0
}

// Salvage puts one segment for each unbroken range of records that still check
// out in the place of a damaged one. The bytes that do not are kept in the
// quarantine, and a loss note stands for every range of records that is gone.
// A segment of a later format version is left as it is, with ErrVersion; one
// without damage too, and changed is false: it may be memory that failed.
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
	w, err := survey(s.path(), s.first, s.last)
	if err != nil {
		return false, fmt.Errorf("salvage %s: %w", s, err)
	}
	gaps := w.lost(s.first, s.last)
	if len(gaps) == 0 && w.reason == nil {
		return false, nil
	}
	w.adopt(l)
	if err := l.keepDamaged(s, w); err != nil {
		return false, fmt.Errorf("salvage %s: %w", s, err)
	}
	pieces, err := l.makePieces(s, w)
	if err != nil {
		return false, fmt.Errorf("salvage %s: %w", s, err)
	}
	if w.whole(s.first, s.last) {
		s.removed = true
		l.foundDamage(s, w, pieces, 0)
		l.exchange(s, pieces[0])
		return true, nil
	}
	decided, err := l.disk.decide(s.dir, s.dir+damagedSuffix)
	if !decided {
		return false, fmt.Errorf("salvage %s: %w", s, err)
	}
	s.removed = true
	d := s.departure(damagedSuffix)
	d.synced, d.pieces, d.open = err == nil, pieces, s.first
	for _, g := range gaps {
		d.lost += g[1] - g[0] + 1
		d.notes = append(d.notes, LossNote{
			Node: w.header.Node, LogID: w.header.LogID, Run: w.header.Run,
			FirstSeq: g[0], LastSeq: g[1], Reason: w.lossReason(g[0]), At: time.Now(),
		})
	}
	l.foundDamage(s, w, pieces, d.lost)
	l.mu.Lock()
	l.unlistLocked(s)
	for _, p := range pieces {
		l.sealedBytes += p.bytes
	}
	l.mu.Unlock()
	_ = l.depart(d) // logged
	return true, nil
}

func (l *Log) foundDamage(s *Segment, w *wreck, pieces []*Segment, lost uint64) {
	l.found(FoundDamage, slog.LevelError, "a sealed segment was damaged: what still checks out is kept, the rest is in the quarantine",
		"segment", s.String(), "lost_records", lost, "pieces", len(pieces), "reason", w.reason)
}

// lossReason says what became of the records from seq first on. Nothing is left
// of them where the file ends with the records before.
func (w *wreck) lossReason(first uint64) string {
	end := w.begin
	for _, p := range w.pieces {
		if p.first > first {
			return LossDamaged
		}
		end = p.frames[len(p.frames)-1].to
	}
	if !w.missing && w.begin > 0 && end == w.size {
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
	in, err := openRegular(s.path())
	if err != nil {
		return err
	}
	defer in.Close()
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
		if w.whole(s.first, s.last) { // same name: exchange the file instead
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
			if err := l.disk.renameDurably(filepath.Join(work, name), dir); err != nil {
				return nil, err
			}
		}
		pieces = append(pieces, &Segment{log: l, dir: dir, first: p.first, last: p.last, bytes: size, sealedAt: s.sealedAt})
	}
	return pieces, l.clearSalvage()
}

// write makes a segment directory that holds one piece.
func (w *wreck) write(disk disk, from, dir string, p piece) (size int64, err error) {
	in, err := openRegular(from)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	if err := disk.mkdir(dir); err != nil {
		return 0, err
	}
	out, err := disk.open(filepath.Join(dir, fileName), os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return 0, err
	}
	closed := false
	defer func() {
		if !closed {
			out.Close()
		}
	}()
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
	for _, f := range p.frames {
		if err := put(io.NewSectionReader(in, f.from, f.to-f.from), f.to-f.from); err != nil {
			return 0, err
		}
	}
	closed = true
	if err := disk.finish(out, nil); err != nil {
		return 0, err
	}
	return size, disk.syncDir(dir)
}

// exchange puts the one piece of a segment that lost no record in its place on the
// books.
func (l *Log) exchange(s, piece *Segment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unlistLocked(s)
	l.addSealedLocked(piece)
	l.sealedBytes += piece.bytes - s.bytes
	l.checkBoundsLocked()
	close(l.sealedMore)
	l.sealedMore = make(chan struct{})
}
