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

	"collectord/wal/segment"
)

// resumeRemoval continues a removal that was interrupted between its decision and its loss
// note. Its records that no segment contains are lost. It returns the last seq.
//
// A file that ends with a whole frame can correct the name upwards, if another name
// continues at the next seq. A file that ends below the last seq of the name does not
// correct it, because its end may be missing. The name then counts as far as the next
// segment.
func (l *Log) resumeRemoval(s *foundDir, found *foundDirs) (last uint64) {
	_, _, ending, _ := parseName(s.name)
	partial := s.isPartial()
	reason, evicting := LossDamaged, strings.HasSuffix(ending, evictedSuffix)
	if evicting {
		reason = LossEvicted
	}
	note := l.newLossNote(SeqRange{}, reason)
	end := s.first
	w := l.read(s)
	if w != nil {
		l.completeHeader(&w.Header)
		note.Node, note.LogID, note.Run = w.Header.Node, w.Header.LogID, w.Header.Run
		note.Hours = hoursOf(w)
		end = max(w.Last(), s.first)
		if !partial && w.EndsExactly() && end > s.last && l.continuesAt(end+1, found) {
			s.last = end
		}
	}
	if info, err := l.disk.Stat(l.fileOf(s.name)); err == nil && len(note.Hours) == 0 { // Salvage does so, too
		note.Hours = []int64{hourOf(info.ModTime().UnixMicro())}
	}
	holders := slices.Concat(found.segments, found.unread)
	slices.SortFunc(holders, func(a, b *foundDir) int { return cmp.Compare(a.first, b.first) })
	endKnown := !partial && (w != nil && w.Unread == nil || errors.Is(s.fileError, fs.ErrNotExist)) // the file shows where the segment ends, or is missing
	for _, other := range holders {
		if endKnown && other.first > max(end, s.first) { // the records of other are not part of s
			s.last = min(s.last, max(other.first-1, s.first))
			break
		}
	}
	place, _, _ := strings.Cut(s.name, ".")
	d := &removal{
		dir: filepath.Join(l.dir, s.name), basePath: filepath.Join(l.dir, place), last: s.last, evicting: evicting, lowestOpenSeq: s.first,
	}
	if ending == lostSuffix {
		d.report = fmt.Sprintf("segment: %s\nreason: the disk could not read a part of it after a restart either\n", place)
	}
	endSkipped := strings.HasPrefix(ending, tailSuffix) && !evicting && w != nil && w.Unread == nil
	from := s.first
	addLoss := func(to uint64) {
		if from > to {
			return
		}
		n := note
		n.FirstSeq, n.LastSeq = from, to
		switch {
		case evicting:
		case endSkipped && to == s.last:
			n.Reason = LossSkipped
		case w != nil && !partial:
			n.Reason = lossReason(w, from)
		}
		d.notes = append(d.notes, n)
		// The ledger did not count the records of a .tail, because their number is unknown.
		if n.Reason != LossSkipped && (!evicting || !strings.HasPrefix(ending, tailSuffix)) {
			d.lostRecords += to - from + 1
		}
	}
	for _, other := range holders {
		if other.sealed && other.last >= from && other.first <= s.last {
			addLoss(other.first - 1)
			from = max(from, other.last+1)
		}
	}
	addLoss(s.last)
	d.pieces = l.unlistWithin(s.first, s.last)
	l.reportFinding(FoundRemoval, slog.LevelWarn, "continued an interrupted removal: its records are noted as lost",
		"segment", s.name, "lost_records", d.lostRecords)
	l.queue.countRecovered(d.lostRecords, pending)
	_ = l.shelf.beginRemoval(d, func() {}) // beginRemoval logs errors
	return s.last
}

// continuesAt reports whether a segment begins at seq, or began there before its removal.
func (l *Log) continuesAt(seq uint64, found *foundDirs) bool {
	begins := func(s *foundDir) bool { return s.first == seq }
	return slices.ContainsFunc(found.segments, begins) || slices.ContainsFunc(found.unread, begins) ||
		slices.ContainsFunc(l.goneNames, func(name string) bool {
			first, _, _, ok := parseName(name)
			return ok && first == seq
		})
}

// unlistWithin takes the segments within a range off the list. The removal lists them
// again.
func (l *Log) unlistWithin(first, last uint64) (taken []*Segment) {
	l.shelf.lock()
	defer l.shelf.unlock()
	l.shelf.sealed = slices.DeleteFunc(l.shelf.sealed, func(s *Segment) bool {
		within := s.first >= first && s.last <= last
		if within {
			taken = append(taken, s)
		}
		return within
	})
	return taken
}

// noteMissing notes records that are in no file as lost, and counts them as quarantined.
func (l *Log) noteMissing(r SeqRange, reason string) error {
	if err := l.losses.note(l.newLossNote(r, reason)); err != nil {
		return err
	}
	l.queue.countRecovered(r.Last-r.First+1, quarantined)
	return nil
}

// deleteNext deletes a prepared segment without whole frames. It puts it aside instead if
// bytes were written behind its header.
func (l *Log) deleteNext(dir string, w *segment.Scan) error {
	if w.DataEnd > cmp.Or(w.HeaderEnd, segment.MaxHeader) {
		l.reportFinding(FoundTornTail, slog.LevelWarn, "put aside a prepared segment: it has more than a header, but no whole frame, for example after a crash during its first commit", "segment", nextName)
		return l.putAside(dir, errors.New("bytes of no whole frame"))
	}
	return l.deleteDir(dir)
}
