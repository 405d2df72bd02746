package wal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// Open opens the log in dataDir, making it if need be, and takes the lock of
// the directory. What a crash left behind is sealed: only segments that were
// not sealed are read, so that it takes the same time whatever the backlog.
func Open(dataDir string, o Options) (l *Log, err error) {
	o = o.withDefaults()
	if len(o.Node) > math.MaxUint8 {
		return nil, fmt.Errorf("node name of %d bytes, at most %d fit a segment header", len(o.Node), math.MaxUint8)
	}
	disk := vfs.Disk{FS: o.files}
	if err := disk.MkdirDurably(dataDir); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	lock, err := lockDir(disk, dataDir)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	defer func() {
		if err != nil {
			lock.Close()
		}
	}()
	l = &Log{
		opts:       o,
		disk:       disk,
		dataDir:    dataDir,
		dir:        filepath.Join(dataDir, "wal"),
		lock:       lock,
		run:        randomUint64(),
		wake:       make(chan struct{}, 1),
		next:       make(chan prepared, 1),
		nextErr:    make(chan error, 1),
		retired:    make(chan retired, 4),
		durable:    make(chan *commit, 8),
		fills:      make(chan fillJob, 1),
		closing:    make(chan struct{}),
		crowded:    make(chan struct{}, 1),
		ledger:     newLedger(),
		sealedMore: make(chan struct{}),
		pulse:      newPulse(),
		stats:      Stats{Seals: map[string]uint64{}, Findings: map[Finding]uint64{}, FreeBytes: math.MaxInt64},
	}
	for _, reason := range []string{sealSize, sealAge, sealHour, sealRequest, sealShutdown, sealFailure} {
		l.stats.Seals[reason] = 0
	}
	for _, f := range []Finding{
		FoundOpenSegment, FoundTornTail, FoundUnnamedNext, FoundRemoval, FoundSalvage, FoundDamage, FoundNoRecords,
		FoundNoFile, FoundUnreadable, FoundMisnamed, FoundMissing, FoundLaterVersion, FoundIdentity, FoundCopy, FoundUnreadableNote, FoundStray,
	} {
		l.stats.Findings[f] = 0
	}
	l.histogram.commit, l.histogram.sync = NewLatencyHistogram(), NewLatencyHistogram()
	l.histogram.records, l.histogram.bytes = NewHistogram(1, 2, 9), NewHistogram(256, 2, 8)
	if err := l.disk.MkdirDurably(l.dir); err != nil {
		return nil, fmt.Errorf("log directory: %w", err)
	}
	nextSeq, err := l.recoverDir()
	if err != nil {
		return nil, fmt.Errorf("recover log: %w", err)
	}
	l.acked = nextSeq - 1
	if err := l.begin(); err != nil {
		if !vfs.IsTrouble(err) {
			return nil, fmt.Errorf("begin a segment: %w", err)
		}
		if err := l.beginLater(err); err != nil {
			return nil, fmt.Errorf("begin without a segment: %w", err)
		}
	}
	l.logSegmentSize()
	l.lookAtDisk()
	l.done.Add(5)
	go l.runFiller()
	go l.runCommitter()
	go l.runRoller()
	go l.wakeAppenders()
	go l.watchBounds()
	return l, nil
}

// lockDir takes the lock of a data directory. It is held until it is closed or the
// process ends, however it ends.
func lockDir(d vfs.Disk, dir string) (io.Closer, error) {
	held, err := d.Lock(filepath.Join(dir, "LOCK"))
	if errors.Is(err, syscall.EWOULDBLOCK) {
		holder, _ := d.ReadFile(filepath.Join(dir, "LOCK")) // a courtesy
		return nil, fmt.Errorf("%s is in use by another collectord (process %s): stop it, or give this one a data_dir of its own",
			dir, strings.TrimSpace(string(holder)))
	}
	return held, err
}

// recoverDir brings the directory into the state of a clean shutdown and returns
// the first sequence number that was never used.
func (l *Log) recoverDir() (nextSeq uint64, err error) {
	lost := filepath.Join(l.dir, lostName)
	if err := l.disk.MkdirDurably(lost); err != nil {
		return 0, err
	}
	stockReserve(l.disk, filepath.Join(lost, reserveName))
	found, err := l.readNames()
	if err != nil {
		return 0, err
	}
	nextSeq = found.nextSeq
	segments := found.segments
	if err := l.readUnread(&found); err != nil {
		return 0, err
	}
	err = l.loadIdentity(func() (uint64, bool) {
		known := slices.Clone(l.gone)
		for _, s := range slices.Concat(found.leaving, found.unread, segments) {
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
	var foreign []string
	for _, s := range segments {
		if !s.sealed {
			above, err := l.aboveForeign(s)
			if err != nil {
				return 0, err
			}
			if above > 0 {
				nextSeq = max(nextSeq, above)
				foreign = append(foreign, s.name)
				continue
			}
		}
		last := s.last
		if !s.sealed {
			if last, err = l.sealLeftover(s, found.behind(s)); err != nil {
				return 0, fmt.Errorf("segment %s: %w", s.name, err)
			}
		}
		nextSeq = max(nextSeq, s.first, last+1)
		if last == 0 {
			l.leftovers = append(l.leftovers, s.name) // it holds nothing
			continue
		}
		if err := l.addRecovered(s.first, last); err != nil {
			return 0, fmt.Errorf("segment %s: %w", s.name, err)
		}
	}
	l.foreign = foreign
	for _, s := range found.leaving {
		last, err := l.departAgain(s, &found)
		if err != nil {
			return 0, fmt.Errorf("segment %s: %w", s.name, err)
		}
		nextSeq = max(nextSeq, last+1)
	}
	for _, u := range found.unread {
		nextSeq = max(nextSeq, u.last+1)
		l.addUnread(u)
	}
	for _, s := range l.unread {
		nextSeq = max(nextSeq, s.last+1)
	}
	if _, err := l.Losses(); vfs.IsUnreadable(err) { // counts them
		l.opts.Logger.Error("can't list the loss notes: they are listed again (check the disk)", "path", lost, "error", err)
		l.countLosses(1) // at least, so that somebody looks again
	} else if err != nil {
		return 0, err
	}
	return nextSeq, nil
}

// behind is the segment, or what is left of one, that follows s.
func (found *names) behind(s *named) *named {
	next := &named{first: maxSeq}
	for _, o := range slices.Concat(found.segments, found.unread, found.leaving) {
		if o.first > s.first && o.first < next.first {
			next = o
		}
	}
	return next
}

// aboveForeign returns a seq above all those that an unsealed segment of a
// later version can hold, or 0 if it is not one.
func (l *Log) aboveForeign(s *named) (uint64, error) {
	path := filepath.Join(l.dir, s.name, segment.FileName)
	if _, err := segment.ReadHeader(l.disk, path); !errors.Is(err, ErrVersion) {
		return 0, nil // met again when it is sealed
	}
	info, err := l.disk.Stat(path)
	if err != nil {
		return 0, err
	}
	l.found(FoundLaterVersion, slog.LevelError, "left alone a segment of a later version: install that version to ship it", "segment", s.name)
	return s.first + uint64(info.Size()), nil // a record takes more than a byte
}

// nameNext returns the first seq of next if it holds frames, which it does only if a power loss undid the rename of a roll. Otherwise it is deleted:
// its run is over.
func (l *Log) nameNext() (first uint64, err error) {
	dir := filepath.Join(l.dir, nextName)
	w, err := l.scanAll(nextName)
	if errors.Is(err, ErrVersion) {
		l.found(FoundLaterVersion, slog.LevelError, "set aside a prepared segment of a later version", "segment", nextName)
		return 0, l.quarantineDir(nextName)
	}
	if err != nil {
		return 0, err
	}
	if len(w.Pieces) == 0 && w.Unread != nil {
		l.found(FoundUnreadable, slog.LevelError, "set aside a prepared segment that the disk does not give (check the disk)",
			"segment", nextName, "error", w.Unread)
		return 0, l.quarantineDir(nextName)
	}
	if len(w.Pieces) == 0 {
		return 0, l.dropNext(dir, w)
	}
	first = w.Pieces[0].First
	l.found(FoundUnnamedNext, slog.LevelWarn, "found records in the segment that was to follow: named it", "first_seq", first)
	return first, nil
}

// sealLeftover seals a segment that a crash left open, at its last good frame.
// Frames above limit were never acknowledged: their seqs belong to the segment
// that follows. What is damaged before the last good frame is left to Salvage.
// It returns 0 if the segment holds no record.
//
// All records below the next segment of the same run were acknowledged. If they
// are not there, the name counts them all the same, and Salvage notes the loss.
func (l *Log) sealLeftover(s, next *named) (last uint64, err error) {
	dir := filepath.Join(l.dir, s.name)
	path := filepath.Join(dir, segment.FileName)
	w, err := l.scanFor(s.name, s.first, next.first-1)
	if errors.Is(err, vfs.ErrNotRegular) { // kept as it is
		w, err = &segment.Scan{Reason: err, Missing: true}, nil
	}
	if err != nil {
		return 0, err
	}
	last = w.Last()
	hidden, err := w.HiddenRecords()
	if err != nil {
		return 0, err
	}
	if hidden > 0 && next.first == maxSeq {
		if moved, err := l.keepTail(s, last, hidden, w); err != nil || moved {
			return 0, err
		}
	}
	proven := next.run != 0 && (w.Header.Run == 0 || w.Header.Run == next.run) && next.first > s.first
	if missing := next.first - 1 - max(last, s.first-1); proven && hidden == 0 && missing > 0 {
		l.found(FoundMissing, slog.LevelError, "the end of a segment is missing: records were acknowledged that are not there",
			"segment", s.name, "records", missing, "from_seq", next.first-missing)
	}
	if hidden > 0 && next.first < maxSeq { // all records below were acknowledged, and may be there
		last, proven = next.first-1, false
	}
	if last == 0 && (w.Missing || w.Begin == 0) {
		if proven {
			if err := l.enterMissing(SeqRange{First: s.first, Last: next.first - 1}, LossMissing); err != nil {
				return 0, err
			}
		}
		l.found(FoundNoRecords, slog.LevelError, "set aside a segment without a readable header or record", "segment", s.name, "reason", w.Reason)
		return 0, l.quarantineDir(s.name)
	}
	if w.Size > w.End && hidden == 0 && !l.disk.HasOtherNames(path) {
		if err := l.cutTail(s.name, path, segment.ByteRange{From: w.End, To: w.Size}); err != nil {
			return 0, err
		}
	}
	if proven {
		last = next.first - 1
	}
	if last == 0 {
		return 0, nil
	}
	// What the crash left in memory only must be durable before it ships. A file that
	// the disk does not give has nothing there.
	if err := l.disk.SyncFile(path); err != nil && (w.Unread == nil || !vfs.IsUnreadable(err)) {
		return 0, err
	}
	l.found(FoundOpenSegment, slog.LevelInfo, "sealed what the last run left open", "segment", s.name, "records", last-s.first+1)
	return last, l.disk.RenameDurably(dir, filepath.Join(l.dir, segment.SealedName(s.first, last)))
}

// cutTail cuts off the end of a file. Bytes that are not just zeros are kept in
// the quarantine.
func (l *Log) cutTail(name, path string, tail segment.ByteRange) error {
	kept, err := l.quarantineTail(name, path, tail)
	if vfs.IsTrouble(err) { // the sealed name will say where the records end
		l.found(FoundTornTail, slog.LevelWarn, "left in place what follows the last whole frame: it can't be kept elsewhere",
			"segment", name, "offset", tail.From, "error", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("quarantine torn tail: %w", err)
	}
	if kept > 0 { // otherwise it was never written to
		l.stats.TornBytes += uint64(kept)
		l.found(FoundTornTail, slog.LevelWarn, "cut off what follows the last whole frame: what was acknowledged ends before it",
			"segment", name, "offset", tail.From, "bytes", kept)
	}
	if err := l.disk.Truncate(path, tail.From); err != nil {
		return err
	}
	return l.disk.SyncFile(path)
}

// addRecovered lists a sealed segment. One whose file is gone is set aside.
func (l *Log) addRecovered(first, last uint64) error {
	name := segment.SealedName(first, last)
	count := last - first + 1
	size, sealedAt, err := l.statSegment(filepath.Join(l.dir, name, segment.FileName))
	if link, linkErr := l.disk.Stat(filepath.Join(l.dir, name)); linkErr == nil && !link.IsDir() {
		size, sealedAt, err = link.Size(), link.ModTime(), nil // can't be read, but may be put in order by somebody
	}
	if errors.Is(err, fs.ErrNotExist) {
		l.found(FoundNoFile, slog.LevelError, "set aside a sealed segment without its file", "segment", name, "records", count)
		if err := l.enterMissing(SeqRange{First: first, Last: last}, LossDamaged); err != nil {
			return err
		}
		return l.quarantineDir(name)
	}
	if err != nil {
		return err
	}
	l.ledger.Recovered += count
	l.ledger.Pending += count
	l.sealedBytes += size
	l.addSealedLocked(&Segment{
		log: l, dir: filepath.Join(l.dir, name), first: first, last: last,
		bytes: size, sealedAt: sealedAt,
	})
	return nil
}

// begin makes the active segment of this run. An empty one of an earlier run
// gives way to it.
func (l *Log) begin() error {
	dir := filepath.Join(l.dir, nextName)
	a, err := l.createActive(dir, leastAhead(l.segmentSize())) // a start waits for no more
	if err != nil {
		return err
	}
	a.first = l.acked + 1
	a.dir = filepath.Join(l.dir, segment.ActiveName(a.first))
	// From here to the rename, the name .gone tells the next seq.
	if err := l.discardInFavour(a.dir, dir); err != nil {
		a.Abandon()
		return err
	}
	l.active.open = true
	l.active.bytes = a.Bytes()
	l.ids.reseed()
	l.committer.segment = a
	l.committer.lastSync = time.Now()
	if err := l.clearGone(); err != nil {
		l.opts.Logger.Warn("can't sync the log directory after deleting what removals left: after a loss of power the next start will delete it again",
			"trouble", "names", "error", err)
	}
	return nil
}

// beginLater makes do without an active segment where the disk can't take one:
// appends are refused until it can, but what is there is shipped, which may be
// what makes room.
func (l *Log) beginLater(cause error) error {
	l.opts.Logger.Error("the log can't be written: usages are refused until the disk works again", "trouble", "commit", "error", cause)
	l.broken = cause
	l.refuseLocked() // nobody else is there yet
	l.committer.lastSync = time.Now()
	// Another segment is to take the place of an empty one, and the names of
	// removed ones tell the next seq until then.
	if name := segment.ActiveName(l.acked + 1); slices.Contains(l.leftovers, name) {
		empty := filepath.Join(l.dir, name)
		if err := l.putAside(empty); err != nil {
			if err := l.removeDir(empty); err != nil {
				return err
			}
		}
	}
	entries, err := l.disk.List(l.dir)
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), goneSuffix) {
			l.emptied = append(l.emptied, filepath.Join(l.dir, e.Name()))
		}
	}
	return err
}

// discardInFavour puts the directory at from in the place of an empty segment.
// Anything else there goes to the quarantine.
func (l *Log) discardInFavour(place, from string) error {
	if name := filepath.Base(place); slices.Contains(l.leftovers, name) {
		if err := l.putAside(place); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	} else if _, err := l.disk.Stat(place); err == nil {
		l.found(FoundStray, slog.LevelWarn, "moved to the quarantine what is not part of a log: it was in the place of the active segment", "path", place)
		if err := l.quarantinePath(place); err != nil {
			return err
		}
	}
	l.leftovers = append(l.leftovers, filepath.Base(place)) // should it be there and not durable
	return l.disk.RenameDurably(from, place)
}

// clearGone deletes what interrupted removals left, now that another name tells
// the next seq, and empty segments of earlier runs. What can't be deleted is tried
// again from time to time.
func (l *Log) clearGone() error {
	stale := slices.DeleteFunc(slices.Clone(l.leftovers), func(name string) bool { return name == segment.ActiveName(l.acked+1) })
	var emptied []string
	for _, dir := range l.emptied {
		emptied = append(emptied, filepath.Base(dir))
	}
	for _, name := range slices.Concat(l.gone, emptied, stale, []string{segment.ActiveName(l.acked+1) + goneSuffix}) {
		dir := filepath.Join(l.dir, name)
		if info, err := l.disk.Stat(dir); err != nil || !info.IsDir() {
			continue
		}
		if _, last, _, _ := parseName(name); last > 0 && slices.Contains(l.gone, name) {
			l.found(FoundRemoval, slog.LevelInfo, "completed an interrupted removal", "segment", name)
		}
		d := &departure{dir: dir, place: strings.TrimSuffix(dir, goneSuffix), synced: true}
		if info, err := l.disk.Stat(filepath.Join(dir, segment.FileName)); err == nil {
			d.bytes = vfs.SizeOf(info)
		}
		_ = l.depart(d, func() { l.sealedBytes += d.bytes }) // logged
	}
	l.gone, l.emptied, l.leftovers = nil, nil, nil
	return l.disk.SyncDir(l.dir)
}
