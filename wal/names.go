package wal

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
)

// movingSuffix ends the name of a segment that is given the name its records
// tell, so that two can exchange theirs.
const movingSuffix = ".moving"

// named is a segment directory as its name tells it. The name is not believed
// where its first frame or its neighbours contradict: a wrong digit would hide
// records, or make them look like those of another segment.
type named struct {
	name        string
	first, last uint64 // last is 0 if it is not sealed
	begins      uint64 // seq of the first frame if that can be read, else first
	sealed      bool
	sound       bool   // the name tells a range
	fits        bool   // it does, and the first frame is where it says
	link        bool   // a symbolic link, which is not followed
	run         uint64 // of the header, if that can be read
	wreck       *wreck // what its file holds, once it was read
	failed      error  // why its file could not be read
}

func (l *Log) fileOf(name string) string { return filepath.Join(l.dir, name, fileName) }

// lookAt is more than a segment's header and that of its first frame take.
const lookAt = 512

// look reads the beginning of a segment.
func (l *Log) look(s *named) {
	s.begins = s.first
	if s.link {
		return
	}
	file, err := openRegular(l.fileOf(s.name))
	if err != nil {
		return
	}
	defer file.Close()
	r := &frameReader{file: file, in: bufio.NewReaderSize(io.LimitReader(file, lookAt), lookAt)}
	if r.readHeader() != nil {
		return
	}
	s.run = r.header.Run
	var head [frameHeaderSize]byte
	if _, _, err := r.entryLength(); err != nil {
		return
	}
	if _, err := io.ReadFull(r.in, head[:]); err != nil {
		return
	}
	if h, err := decodeFrameHeader(head[:]); err == nil && h.logID == r.header.LogID && h.run == r.header.Run && h.firstSeq > 0 && h.firstSeq < maxSeq {
		s.begins = h.firstSeq
		s.fits = s.sound && s.sealed && s.begins == s.first
	}
}

// read surveys the whole file, once.
func (l *Log) read(s *named) *wreck {
	if s.wreck == nil && s.failed == nil {
		if s.link {
			s.failed = errNotRegular
		} else if s.wreck, s.failed = survey(l.fileOf(s.name), 1, maxSeq-1); s.failed == nil && s.wreck.missing {
			s.wreck, s.failed = nil, os.ErrNotExist
		}
	}
	return s.wreck
}

// count is how many records check out.
func (w *wreck) count() (n uint64) {
	for _, p := range w.pieces {
		n += p.last - p.first + 1
	}
	return n
}

// end is the seq of the last record, or 0. exact means that the file ends there,
// as that of every segment does that was sealed without trouble.
func (w *wreck) end() (last uint64, exact bool) {
	if len(w.pieces) == 0 {
		return 0, false
	}
	p := w.pieces[len(w.pieces)-1]
	return p.last, p.frames[len(p.frames)-1].to == w.size
}

// frames maps the first seq of each frame to its header, which ends with the
// checksums of frame and header.
func (w *wreck) frames(path string) (map[uint64][frameHeaderSize]byte, error) {
	in, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	all := map[uint64][frameHeaderSize]byte{}
	for _, p := range w.pieces {
		for _, f := range p.frames {
			var head [frameHeaderSize]byte
			if _, err := in.ReadAt(head[:], f.from); err != nil {
				return nil, err
			}
			h, err := decodeFrameHeader(head[:])
			if err != nil {
				return nil, err
			}
			all[h.firstSeq] = head
		}
	}
	return all, nil
}

// holds reports whether a file has every frame that checks out in another.
func holds(path string, w *wreck, other string, of *wreck) (bool, error) {
	if len(of.pieces) == 0 {
		return true, nil
	}
	have, err := w.frames(path)
	if err != nil {
		return false, err
	}
	want, err := of.frames(other)
	if err != nil {
		return false, err
	}
	for seq, head := range want {
		if have[seq] != head {
			return false, nil
		}
	}
	return true, nil
}

// settle finds out which records each segment really holds, gives it the name
// that says so, and returns the segments in order. No two have a record in
// common: one that holds nothing but records of another is deleted, and one whose
// name is taken by others goes to the quarantine. gone are the first seqs of
// names that are being removed.
//
// A segment is read only if its name does not fit its first frame, or is not
// continued by the next name.
func (l *Log) settle(all []*named, gone []uint64) (kept []*named, err error) {
	for _, s := range all {
		l.look(s)
		if s.begins == 0 { // neither the name nor the first frame tells
			if w := l.read(s); w != nil && len(w.pieces) > 0 {
				s.begins = w.pieces[0].first
			}
		}
	}
	all = slices.DeleteFunc(all, func(s *named) bool {
		if s.begins == 0 {
			l.stray(s.name)
		}
		return s.begins == 0
	})
	slices.SortStableFunc(all, func(a, b *named) int {
		fits := func(s *named) int {
			if s.fits {
				return 0
			}
			return 1
		}
		// The larger of two that begin alike comes first.
		return cmp.Or(cmp.Compare(a.begins, b.begins), cmp.Compare(fits(a), fits(b)), cmp.Compare(b.last, a.last), cmp.Compare(a.name, b.name))
	})
	for len(all) > 0 {
		s := all[0]
		if all, err = l.settleFirst(all, gone); err != nil {
			return nil, err
		}
		if len(all) > 0 && all[0] == s {
			kept = append(kept, s)
			all = all[1:]
		}
	}
	return kept, l.rename(kept)
}

// settleFirst settles the first of some segments in order. It is the first of
// those returned, unless it made way for another.
func (l *Log) settleFirst(all []*named, gone []uint64) ([]*named, error) {
	s := all[0]
	for {
		next := uint64(maxSeq)
		if len(all) > 1 {
			next = all[1].begins
		}
		s.first = s.begins
		tells := s.sound && s.last >= s.begins
		switch {
		case !s.sealed && next > s.begins: // frames from next on were not acknowledged
			return all, nil
		case s.fits && (next == s.last+1 || next > s.last && slices.Contains(gone, s.last+1)):
			return all, nil
		}
		w := l.read(s)
		end, exact := uint64(0), false
		if w != nil {
			end, exact = w.end()
		}
		if next == s.begins || exact && next <= end {
			rest, err := l.part(all)
			if err != nil || len(rest) == 0 || rest[0] != s {
				return rest, err
			}
			all = rest
			continue
		}
		switch {
		case w == nil && !tells:
			l.stray(s.name)
			return all[1:], nil
		case w == nil:
		case exact && end > s.last, !tells:
			s.last = end
		case end > s.last && s.last < next-1: // unacknowledged, or hidden by a wrong name: nobody can tell
			if err := l.keepBeyond(s, w); err != nil {
				return nil, err
			}
		}
		s.last = min(s.last, next-1)
		return all, nil
	}
}

// part ends that the first two of some segments claim the same records.
func (l *Log) part(all []*named) ([]*named, error) {
	a, b := all[0], all[1]
	wa, wb := l.read(a), l.read(b)
	if wa == nil || wb == nil {
		// What can't be read now may be readable after the next start.
		l.found(FoundMisnamed, slog.LevelError, "left alone a segment that claims the records of another: one of them can't be read",
			"segment", b.name, "other", a.name, "error", errors.Join(a.failed, b.failed))
		return slices.Delete(all, 1, 2), nil
	}
	pathA, pathB := l.fileOf(a.name), l.fileOf(b.name)
	for _, side := range []struct {
		has, lacks   *named
		path, within string
	}{{a, b, pathB, pathA}, {b, a, pathA, pathB}} {
		if len(side.lacks.wreck.pieces) == 0 {
			continue // what is damaged was not found elsewhere
		}
		in, err := holds(side.within, side.has.wreck, side.path, side.lacks.wreck)
		if err != nil {
			return nil, err
		}
		if in {
			l.found(FoundSalvage, slog.LevelWarn, "deleted a segment that holds nothing but records of another, as an interrupted salvage leaves it",
				"segment", side.lacks.name, "of", side.has.name, "records", side.lacks.wreck.count())
			return without(all, side.lacks), l.deleteExamined(side.lacks.name)
		}
	}
	aside := b
	if wb.count() > wa.count() {
		aside = a
	}
	l.found(FoundMisnamed, slog.LevelError, "moved a segment to the quarantine: another claims some of its records, and holds more",
		"segment", aside.name, "records", aside.wreck.count())
	return without(all, aside), l.quarantineDir(aside.name)
}

func without(all []*named, one *named) []*named {
	return slices.DeleteFunc(slices.Clone(all), func(s *named) bool { return s == one })
}

// deleteExamined deletes a segment whose records were found elsewhere.
func (l *Log) deleteExamined(name string) error {
	dir := filepath.Join(l.dir, name)
	if err := l.putAside(dir); err != nil {
		return err
	}
	return l.removeDir(dir + goneSuffix)
}

// keepBeyond copies frames above the last seq that a segment's name tells to the
// quarantine. Nothing ships them: their seqs may have been given out again.
func (l *Log) keepBeyond(s *named, w *wreck) error {
	from := w.size
	for _, p := range w.pieces {
		for _, f := range p.frames {
			if p.last > s.last && f.from < from {
				if first, err := l.seqAt(s, f); err != nil {
					return err
				} else if first > s.last {
					from = f.from
				}
			}
		}
	}
	if from == w.size {
		return nil
	}
	in, err := openRegular(l.fileOf(s.name))
	if err != nil {
		return err
	}
	defer in.Close()
	l.found(FoundMisnamed, slog.LevelWarn, "copied records to the quarantine that are in a segment's file and not in its name: they were not acknowledged, or the name is wrong",
		"segment", s.name, "offset", from)
	return l.quarantineBytes(fmt.Sprintf("%s-beyond-%d", s.name, from), s.name, in, stretch{from, w.size}, errors.New("records above the last seq of the segment's name"))
}

func (l *Log) seqAt(s *named, f stretch) (uint64, error) {
	in, err := openRegular(l.fileOf(s.name))
	if err != nil {
		return 0, err
	}
	defer in.Close()
	var head [frameHeaderSize]byte
	if _, err := in.ReadAt(head[:], f.from); err != nil {
		return 0, err
	}
	h, err := decodeFrameHeader(head[:])
	return h.firstSeq, err
}

// rename gives each segment the name that its records tell.
func (l *Log) rename(kept []*named) error {
	var wrong []*named
	for _, s := range kept {
		if s.name != s.right() && !s.link {
			wrong = append(wrong, s)
		}
	}
	for _, s := range wrong {
		if s.name != nextName {
			l.found(FoundMisnamed, slog.LevelError, "the name of a segment does not fit its records: renamed it", "segment", s.name, "to", s.right())
		}
		moving := s.right() + movingSuffix
		if s.name == moving {
			continue
		}
		if err := l.disk.renameDurably(filepath.Join(l.dir, s.name), filepath.Join(l.dir, moving)); err != nil {
			return err
		}
		s.name = moving
	}
	for _, s := range wrong {
		to := filepath.Join(l.dir, s.right())
		if _, err := os.Lstat(to); err == nil { // nothing that is part of the log
			if err := l.quarantinePath(to); err != nil {
				return err
			}
		}
		if err := l.disk.renameDurably(filepath.Join(l.dir, s.name), to); err != nil {
			return err
		}
		s.name = s.right()
	}
	return nil
}

// right is the name that a segment should have.
func (s *named) right() string {
	if !s.sealed {
		return activeName(s.first)
	}
	return sealedName(s.first, s.last)
}

func (l *Log) stray(name string) {
	l.found(FoundStray, slog.LevelWarn, "left alone what is not part of a log", "path", filepath.Join(l.dir, name))
}
