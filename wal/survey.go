package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"slices"
)

// stretch is a row of bytes in a segment's file.
type stretch struct{ from, to int64 }

// extent is a row of frames that check out, with rising seqs, each behind the
// right length. It stands for any number of frames, so that what a survey keeps
// grows with the damage, not with the segment.
type extent struct {
	start       int64 // of the length before the first frame, or from if that is wrong
	from, to    int64
	first, last uint64
	owner       owner
	passed      bool // holds other seqs than those that are looked for
}

// owner is the log and run that a frame says it belongs to.
type owner struct{ logID, run uint64 }

// piece is an unbroken range of records that still check out.
type piece struct {
	first, last uint64
	extents     []extent // by seq
}

// wreck is what a scan finds in a damaged segment.
type wreck struct {
	header    SegmentHeader
	size      int64 // of the file
	begin     int64 // where its header ends; 0 if that can't be read
	end       int64 // of the last good frame in the file, or begin
	pieces    []piece
	damaged   []stretch        // bytes that are part of no good entry
	unread    *UnreadableError // the disk did not give all of the file; or nil
	pages     []stretch        // that it did not give
	misplaced bool             // good frames are not in the order of their seqs, or there twice
	reason    error            // what is wrong with the first of them
	missing   bool             // there is no file
}

// whole reports whether every record of the segment is there.
func (w *wreck) whole(first, last uint64) bool {
	return len(w.pieces) == 1 && w.pieces[0].first == first && w.pieces[0].last == last
}

// last is the seq of the last record that checks out, or 0.
func (w *wreck) last() uint64 {
	if len(w.pieces) == 0 {
		return 0
	}
	return w.pieces[len(w.pieces)-1].last
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
// last for every frame that checks out, wherever it is. What the disk does not
// give counts as damaged, page by page. Other errors come from the disk, or are
// ErrVersion.
func survey(disk disk, path string, first, last uint64) (*wreck, error) {
	return search{disk: disk, first: first, last: last}.survey(path)
}

// search is what a survey looks for.
type search struct {
	disk        disk
	logID       uint64 // of the log whose frames are taken first; 0 if it is not known
	first, last uint64
	others      bool // frames with other seqs are no damage: their records are elsewhere too
}

func (l *Log) search(first, last uint64) search {
	return search{disk: l.disk, logID: l.logID, first: first, last: last}
}

func (want search) survey(path string) (*wreck, error) {
	file, err := want.disk.openRegular(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &wreck{reason: errors.New("its file is missing"), missing: true}, nil
	}
	if isUnreadable(err) {
		return &wreck{reason: err, unread: &UnreadableError{Path: path, Err: err}}, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	s := &surveyor{
		wreck: &wreck{size: info.Size()}, want: want,
		in: &pages{file: file, read: want.disk.reader(), size: info.Size()},
	}
	if r, err := openFrames(want.disk, path); err == nil {
		s.header, s.begin, s.pos = r.header, r.offset, r.offset
		r.close()
	} else if errors.Is(err, ErrVersion) {
		return nil, err
	} else if err := ignoreDamage(err); err != nil {
		return nil, err
	}
	if err := s.scan(); err != nil {
		return nil, err
	}
	if err := s.conclude(); err != nil {
		return nil, err
	}
	if s.in.err != nil {
		s.pages = s.in.stretches()
		s.unread = &UnreadableError{Path: path, Pages: len(s.in.unread), Err: s.in.err}
	}
	s.explain()
	return s.wreck, nil
}

// surveyor is the state of a survey.
type surveyor struct {
	*wreck
	want   search
	in     *pages
	pos    int64 // everything before is accounted for
	found  []extent
	copies []extent // of frames that are elsewhere in the file too
	buf    []byte
}

// scan collects the frames that check out, in the order of the file.
func (s *surveyor) scan() error {
	for s.pos < s.size {
		var prefix [binary.MaxVarintLen64]byte
		n, err := s.in.ReadAt(prefix[:], s.pos)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		length, took := binary.Uvarint(prefix[:n])
		if took > 0 {
			f, err := s.frameAt(s.pos + int64(took))
			if err != nil {
				return err
			}
			if f.to > 0 {
				if uint64(f.to-f.from) == length && took <= binary.MaxVarintLen32 {
					f.start = s.pos
				}
				s.collect(f)
				continue
			}
		}
		if err := s.resync(); err != nil {
			return err
		}
	}
	return nil
}

// resync goes on at the next good frame behind pos.
func (s *surveyor) resync() error {
	window := make([]byte, 64<<10)
	for at := s.pos + 1; at < s.size; {
		n, err := s.in.ReadAt(window, at)
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
		f, err := s.frameAt(at + int64(i))
		if err != nil {
			return err
		}
		if f.to > 0 {
			s.collect(f)
			return nil
		}
		at += int64(i) + 1
	}
	s.pos = s.size
	return nil
}

// collect takes in a frame behind those that were found.
func (s *surveyor) collect(f extent) {
	s.pos = f.to
	if n := len(s.found); n > 0 {
		before := &s.found[n-1]
		if f.start < f.from && before.to == f.start && before.last+1 == f.first && before.owner == f.owner && before.passed == f.passed {
			before.to, before.last = f.to, f.last
			return
		}
	}
	s.found = append(s.found, f)
}

// frameAt looks at the frame at offset. It returns an empty extent if there is
// none that can belong here.
func (s *surveyor) frameAt(offset int64) (f extent, err error) {
	var head [frameHeaderSize]byte
	if _, err := s.in.ReadAt(head[:], offset); err != nil {
		if errors.Is(err, io.EOF) {
			return f, nil
		}
		return f, err
	}
	h, err := decodeFrameHeader(head[:])
	if err != nil || h.count == 0 || h.payloadLen > maxEntry || h.firstSeq == 0 || h.firstSeq+uint64(h.count) < h.firstSeq {
		return f, nil //nolint:nilerr // no frame of ours
	}
	last := h.firstSeq + uint64(h.count) - 1
	within := h.firstSeq >= s.want.first && last <= s.want.last
	if !within && (!s.want.others || h.firstSeq <= s.want.last && last >= s.want.first) {
		return f, nil
	}
	end := offset + frameHeaderSize + int64(h.payloadLen)
	if end > s.size {
		return f, nil
	}
	if cap(s.buf) < int(h.payloadLen) {
		s.buf = make([]byte, h.payloadLen)
	}
	payload := s.buf[:h.payloadLen]
	if _, err := s.in.ReadAt(payload, offset+frameHeaderSize); err != nil {
		return f, err
	}
	if crc32.Checksum(payload, castagnoli) != h.payloadCRC || !wellFormed(payload, h.count) {
		return f, nil
	}
	return extent{start: offset, from: offset, to: end, first: h.firstSeq, last: last, owner: owner{h.logID, h.run}, passed: !within}, nil
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

// conclude works out from the frames that were found which records there are, and
// which bytes are damaged.
func (s *surveyor) conclude() error {
	s.identify()
	var ours, passed []extent
	for _, e := range s.found {
		switch {
		case e.owner != owner{s.header.LogID, s.header.Run}: // of another log, or of an earlier life of the disk
		case e.passed:
			passed = append(passed, e)
		default:
			ours = append(ours, e)
		}
	}
	s.found = nil
	byOffset := slices.Clone(ours)
	ours, err := s.order(ours)
	if err != nil {
		return err
	}
	s.misplaced = len(s.copies) > 0 || !slices.IsSortedFunc(byOffset, bySeq)
	s.end = s.begin
	for _, e := range ours {
		s.end = max(s.end, e.to)
		if n := len(s.pieces); n == 0 || s.pieces[n-1].last+1 != e.first {
			s.pieces = append(s.pieces, piece{first: e.first})
		}
		p := &s.pieces[len(s.pieces)-1]
		p.last = e.last
		p.extents = append(p.extents, e)
	}
	good := slices.Concat(ours, s.copies, passed)
	slices.SortFunc(good, func(a, b extent) int { return int(a.from - b.from) })
	at := s.begin
	for _, e := range good {
		if e.start > at {
			s.damaged = append(s.damaged, stretch{at, e.start})
		}
		at = e.to
	}
	if at < s.size {
		s.damaged = append(s.damaged, stretch{at, s.size})
	}
	return nil
}

// identify settles which log and run the segment belongs to: those of most of its
// records, preferably of this log, or its header's where it can't be told. A sector
// that was written to the wrong place may hold another segment's header.
func (s *surveyor) identify() {
	records := map[owner]uint64{}
	for _, e := range s.found {
		records[e.owner] += e.last - e.first + 1
	}
	header := owner{s.header.LogID, s.header.Run}
	best := header
	for _, e := range s.found {
		ours, bestOurs := e.owner.logID == s.want.logID, best.logID == s.want.logID && records[best] > 0
		if ours == bestOurs && records[e.owner] > records[best] || ours && !bestOurs {
			best = e.owner
		}
	}
	if best == header {
		return
	}
	if s.begin > 0 {
		s.reason = errors.New("segment header is another segment's")
	}
	s.header, s.begin = SegmentHeader{LogID: best.logID, Run: best.run}, 0
}

// explain says what is wrong, if something is.
func (s *surveyor) explain() {
	switch {
	case s.unread != nil:
		s.reason = s.unread
	case s.reason != nil:
	case s.begin == 0 && s.size > 0:
		s.reason = errors.New("segment header does not check out")
	case len(s.damaged) > 0:
		s.reason = errors.New("bytes do not check out")
	case s.misplaced:
		s.reason = errors.New("frames are not where they belong")
	case s.size == 0:
		s.reason = errors.New("its file is empty")
	}
}

// eachFrame goes through the frames of an extent.
func (e extent) eachFrame(in io.ReaderAt, each func(extent) error) error {
	f := extent{start: e.start, from: e.from, first: e.first, owner: e.owner}
	for f.from < e.to {
		var head [frameHeaderSize]byte
		if _, err := in.ReadAt(head[:], f.from); err != nil {
			return err
		}
		h, err := decodeFrameHeader(head[:])
		if err != nil {
			return err // it was good a moment ago
		}
		f.to, f.last = f.from+frameHeaderSize+int64(h.payloadLen), f.first+uint64(h.count)-1
		if f.to > e.to {
			return io.ErrUnexpectedEOF
		}
		if err := each(f); err != nil {
			return err
		}
		var prefix [binary.MaxVarintLen64]byte
		n, err := in.ReadAt(prefix[:], f.to)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		_, took := binary.Uvarint(prefix[:n])
		f.start, f.from, f.first = f.to, f.to+int64(max(took, 1)), f.last+1
	}
	return nil
}

// records calls each for every record of the pieces.
func (w *wreck) records(disk disk, path string, each func(*Record) error) error {
	file, err := disk.openRegular(path)
	if err != nil {
		return err
	}
	defer file.Close()
	in := &pages{file: file, read: disk.reader(), size: w.size}
	var rec Record
	var payload []byte
	frame := func(f extent) error {
		payload = slices.Grow(payload[:0], int(f.to-f.from))[:f.to-f.from]
		if _, err := in.ReadAt(payload, f.from); err != nil {
			return err
		}
		rec.Seq = f.first - 1
		for rest := payload[frameHeaderSize:]; len(rest) > 0; {
			if rest, err = decodeRecord(rest, &rec); err != nil {
				return fmt.Errorf("frame at byte %d: %w", f.from, err)
			}
			rec.Seq++
			if err := each(&rec); err != nil {
				return err
			}
		}
		return nil
	}
	for _, p := range w.pieces {
		for _, e := range p.extents {
			if err := e.eachFrame(in, frame); err != nil {
				return err
			}
		}
	}
	return nil
}

// hours are those in which the segment may begin, of its first record that checks
// out; none if there is none.
func (w *wreck) hours(disk disk, path string) (hours []int64) {
	enough := errors.New("enough")
	_ = w.records(disk, path, func(r *Record) error { // what can't be read is not known
		hours = []int64{hourOf(r.ReceivedAt)}
		return enough
	})
	return hours
}
