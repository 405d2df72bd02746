package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"collectord/wal/segment"
)

// recoverDir brings the directory into the state of a clean shutdown, and returns the first
// seq that no name uses. FORMAT.md numbers its steps.
func (l *Log) recoverDir() (nextSeq uint64, err error) {
	if err := l.clearPlaces(); err != nil {
		return 0, err
	}
	found, err := l.readNames()
	if err != nil {
		return 0, err
	}
	if err := l.readUnread(&found); err != nil {
		return 0, err
	}
	err = l.loadIdentity(func() (uint64, bool) {
		known := slices.Clone(l.goneNames)
		for _, s := range slices.Concat(found.removals, found.unread, found.segments) {
			known = append(known, s.name)
		}
		for _, name := range slices.Backward(known) {
			if h, err := segment.ReadHeader(l.disk, l.fileOf(name)); err == nil {
				return h.LogID, true
			}
		}
		return 0, false
	})
	if err != nil {
		return 0, err
	}
	for _, s := range found.segments {
		if err := l.recoverSegment(s, &found); err != nil {
			if err := l.leaveSegment(s, &found, err); err != nil {
				return 0, fmt.Errorf("segment %s: %w", s.name, err)
			}
		}
	}
	for _, s := range found.removals {
		found.raiseNextSeq(l.resumeRemoval(s, &found))
	}
	for _, u := range found.unread {
		found.raiseNextSeq(u.last)
		if err := l.addUnread(u, &found); err != nil {
			return 0, fmt.Errorf("segment %s: %w", u.name, err)
		}
	}
	for _, s := range l.shelf.unread {
		found.raiseNextSeq(s.last)
	}
	// If a segment has lost its file, only its loss note has its seqs.
	if err := l.losses.count(func(n LossNote) { found.raiseNextSeq(n.LastSeq) }); err != nil {
		l.opts.Logger.Error("can't list the loss notes: this is tried again (check the disk)", "path", filepath.Join(l.dir, lostName), "error", err)
		l.losses.waiting.Add(1) // a nonzero count makes the shipper list them again
	}
	return found.nextSeq, nil
}

// clearPlaces makes the log's directories. It puts aside entries that have the name of one
// of them and are of another kind, and entries that an earlier start could only rename.
func (l *Log) clearPlaces() error {
	lost := filepath.Join(l.dir, lostName)
	err := errors.Join(l.clearPlace(filepath.Join(l.dir, quarantineName)), l.clearPlace(lost), l.disk.MkdirDurably(lost))
	if err != nil && !l.tolerates(err) {
		return err
	}
	for _, dir := range []string{l.dataDir, l.dir, lost} {
		if err := l.disk.UndoMoves(dir); err != nil && !l.tolerates(err) {
			return err
		}
	}
	reserve := filepath.Join(lost, reserveName)
	if info, err := l.disk.Stat(reserve); err == nil && !info.Mode().IsRegular() {
		if err := l.putAside(reserve, errInTheWay); err != nil {
			return err
		}
	}
	ensureReserve(l.disk, reserve)
	if err := l.clearSpool(); err != nil {
		return err
	}
	return errors.Join(l.putAsideAgain(l.dataDir), l.putAsideAgain(lost))
}

// clearSpool puts aside an entry in the place of the spool that can't be listed, or in which no
// file can be made. It keeps a link to a missing directory, because a disk may be mounted there
// later.
func (l *Log) clearSpool() error {
	spool := filepath.Join(l.dataDir, spoolName)
	if _, err := l.disk.Stat(spool); err != nil {
		return nil //nolint:nilerr // the shipper makes the spool, or reports the error
	}
	err := l.disk.TryCreate(filepath.Join(spool, "probe.tmp"))
	if err == nil {
		_, err = l.disk.List(spool)
	}
	if !errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.ELOOP) && !errors.Is(err, syscall.ENOTDIR) {
		return nil // the disk failed, or the spool can be used
	}
	l.reportFinding(FoundStray, slog.LevelWarn, "put aside an entry that was in the place of the spool: it can't be used", "path", spool, "error", err)
	return l.putAside(spool, err)
}

// putAsideAgain puts aside entries that an earlier start could only rename.
func (l *Log) putAsideAgain(dir string) error {
	entries, err := l.disk.List(dir)
	if err != nil && !l.tolerates(err) {
		return err
	}
	for _, e := range entries {
		if isAside(e.Name()) {
			if err := l.putAside(filepath.Join(dir, e.Name()), errInTheWay); err != nil {
				return err
			}
		}
	}
	return nil
}

// recoverSegment lists a segment. If a crash left it open, it seals it first.
func (l *Log) recoverSegment(s *foundDir, found *foundDirs) error {
	if !s.sealed {
		last, dir, err := l.sealLeftover(s, found)
		if err != nil {
			return err
		}
		found.raiseNextSeq(max(s.first-1, last))
		if last == 0 {
			return nil
		}
		s.name, s.last, s.sealed = filepath.Base(dir), last, true
	}
	found.raiseNextSeq(s.last)
	return l.addRecovered(filepath.Join(l.dir, s.name), s.first, s.last)
}

// leaveSegment leaves a segment for the next start if it can't be read or renamed, and this
// start tolerates the error. The segment's records are neither shipped nor lost. An
// unsealed one is renamed to .tail, with as many seqs as it may contain.
func (l *Log) leaveSegment(s *foundDir, found *foundDirs, why error) error {
	if !l.tolerates(why) {
		return why
	}
	l.reportFinding(FoundUnreadable, slog.LevelError, "left a segment in its place: it can't be read or renamed, and the next start tries again (check its owner, its mode, and the disk)",
		"segment", s.name, "error", why)
	found.leftInPlace = append(found.leftInPlace, s)
	dir := filepath.Join(l.dir, s.name)
	u := &Segment{
		shelf: l.shelf, dir: dir, first: s.first, last: s.last, sealedAt: time.Now(),
		countUncertain: !s.sealed || strings.HasSuffix(s.name, tailSuffix),
		held:           true, // evicting it would make no room
	}
	if !s.sealed {
		u.last = min(s.first+segment.MaxRecords(l.disk, l.fileOf(s.name)), found.nextAfter(s).first) - 1
		if tail := filepath.Join(l.dir, tailName(u.first, u.last)); !s.isLink && l.disk.RenameDurably(dir, tail) == nil {
			u.dir = tail
		} else if s.name == nextName {
			l.leftNext = tail // createNext would delete it
		}
	}
	if u.last == 0 { // neither its name nor its content shows its last seq
		u.last = u.first
	}
	found.raiseNextSeq(u.last)
	l.listLeft(u.dir, why)
	l.queue.countRecovered(u.ledgerCount(), pending)
	l.shelf.addUnread(u)
	return nil
}

// recoverNext returns the first seq of next/ if next/ contains whole frames. Such frames mean
// that a power loss undid the rename that had made the segment active. Without whole frames,
// recoverNext deletes next/ or puts it aside, and returns 0.
func (l *Log) recoverNext() (first uint64, err error) {
	dir := filepath.Join(l.dir, nextName)
	w, err := l.scanRepeatedly(nextName) // the next start does not read an entry that was put aside
	if err != nil {
		if !l.tolerates(err) {
			return 0, err
		}
		l.reportFinding(FoundStray, slog.LevelError, "put aside a prepared segment: it can't be read", "segment", nextName, "error", err)
		return 0, l.putAside(dir, err)
	}
	if len(w.Pieces) == 0 && w.Unread != nil {
		l.reportFinding(FoundUnreadable, slog.LevelError, "put aside a prepared segment: the disk can't read it (check the disk)",
			"segment", nextName, "error", w.Unread)
		return 0, l.putAside(dir, w.Unread)
	}
	if len(w.Pieces) == 0 {
		return 0, l.deleteNext(dir, w)
	}
	first = w.Pieces[0].First
	l.reportFinding(FoundUnnamedNext, slog.LevelWarn, "named the prepared segment: it has records, so a power loss undid its rename", "first_seq", first)
	return first, nil
}

// noteLostSegment notes the records of a segment without a file as lost, and puts its
// directory aside.
func (l *Log) noteLostSegment(dir string, first, last uint64) error {
	l.reportFinding(FoundNoFile, slog.LevelError, "put aside a sealed segment: its file is missing", "segment", filepath.Base(dir), "records", last-first+1)
	if err := l.noteMissing(SeqRange{First: first, Last: last}, LossDamaged); err != nil {
		return err
	}
	return l.putAside(dir, errors.New("its file is missing"))
}

// addRecovered lists a sealed segment. If its file is missing, it notes the records as lost
// and puts the directory aside.
func (l *Log) addRecovered(dir string, first, last uint64) error {
	count := last - first + 1
	path := filepath.Join(dir, segment.FileName)
	size, sealedAt, err := l.statSegment(path)
	if errors.Is(err, fs.ErrNotExist) {
		return l.noteLostSegment(dir, first, last)
	}
	if err != nil {
		return err
	}
	l.queue.countRecovered(count, pending)
	l.shelf.addFound(&Segment{shelf: l.shelf, dir: dir, first: first, last: last, bytes: size, sealedAt: sealedAt})
	return nil
}
