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
	"time"
)

// Open opens the log in dataDir, making it if need be, and takes the lock of
// the directory. What a crash left behind is sealed: only segments that were
// not sealed are read, so that it takes the same time whatever the backlog.
func Open(dataDir string, o Options) (l *Log, err error) {
	o = o.withDefaults()
	if len(o.Node) > math.MaxUint8 {
		return nil, fmt.Errorf("node name of %d bytes, at most %d fit a segment header", len(o.Node), math.MaxUint8)
	}
	if err := o.disk.makeDirDurably(dataDir); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	lock, err := lockDir(dataDir)
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
		disk:       o.disk,
		dataDir:    dataDir,
		dir:        filepath.Join(dataDir, "wal"),
		lock:       lock,
		run:        randomUint64(),
		wake:       make(chan struct{}, 1),
		next:       make(chan prepared, 1),
		nextErr:    make(chan error, 1),
		retired:    make(chan retired, 4),
		durable:    make(chan *commit, 8),
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
		FoundNoFile, FoundLaterVersion, FoundIdentity, FoundCopy, FoundUnreadableNote, FoundStray,
	} {
		l.stats.Findings[f] = 0
	}
	l.histogram.commit, l.histogram.sync = NewLatencyHistogram(), NewLatencyHistogram()
	l.histogram.records, l.histogram.bytes = NewHistogram(1, 2, 9), NewHistogram(256, 2, 8)
	if err := l.disk.makeDirDurably(l.dir); err != nil {
		return nil, fmt.Errorf("log directory: %w", err)
	}
	nextSeq, err := l.recoverDir()
	if err != nil {
		return nil, fmt.Errorf("recover log: %w", err)
	}
	l.acked = nextSeq - 1
	if err := l.begin(); err != nil {
		if !isTrouble(err) {
			return nil, fmt.Errorf("begin a segment: %w", err)
		}
		if err := l.beginLater(err); err != nil {
			return nil, fmt.Errorf("begin without a segment: %w", err)
		}
	}
	l.lookAtDisk()
	l.done.Add(4)
	go l.runCommitter()
	go l.runRoller()
	go l.wakeAppenders()
	go l.watchBounds()
	return l, nil
}

// named is a segment directory as its name tells it.
type named struct {
	name        string
	first, last uint64 // last is 0 if it is not sealed
}

// within reports whether s holds nothing but records that o holds too.
func (s named) within(o named) bool {
	return o.last > 0 && s.last > 0 && s.first >= o.first && s.last <= o.last
}

// recoverDir brings the directory into the state of a clean shutdown and returns
// the first sequence number that was never used.
func (l *Log) recoverDir() (nextSeq uint64, err error) {
	segments, nextSeq, err := l.readNames()
	if err != nil {
		return 0, err
	}
	err = l.loadIdentity(func() (uint64, bool) {
		for _, s := range slices.Backward(segments) {
			if r, err := openFrames(filepath.Join(l.dir, s.name, fileName)); err == nil {
				r.close()
				return r.header.LogID, true
			}
		}
		return 0, false
	})
	if err != nil {
		return 0, err
	}
	var foreign []string
	for i, s := range segments {
		if s.last == 0 {
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
		limit := uint64(math.MaxUint64)
		if i+1 < len(segments) {
			limit = segments[i+1].first - 1
		}
		last := s.last
		if last == 0 {
			if last, err = l.sealLeftover(s, limit); err != nil {
				return 0, fmt.Errorf("segment %s: %w", s.name, err)
			}
		}
		nextSeq = max(nextSeq, s.first, last+1)
		if last == 0 {
			continue // it holds nothing
		}
		if err := l.addRecovered(s.first, last); err != nil {
			return 0, fmt.Errorf("segment %s: %w", s.name, err)
		}
	}
	l.foreign = foreign
	lost := filepath.Join(l.dir, lostName)
	if err := l.disk.makeDirDurably(lost); err != nil {
		return 0, err
	}
	l.disk.stockReserve(filepath.Join(lost, reserveName))
	if _, err := l.Losses(); err != nil { // counts them
		return 0, err
	}
	return nextSeq, nil
}

// aboveForeign returns a seq above all those that an unsealed segment of a
// later version can hold, or 0 if it is not one.
func (l *Log) aboveForeign(s named) (uint64, error) {
	path := filepath.Join(l.dir, s.name, fileName)
	r, err := openFrames(path)
	if err == nil {
		r.close()
		return 0, nil
	}
	if !errors.Is(err, ErrVersion) {
		return 0, nil // met again when it is sealed
	}
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	l.found(FoundLaterVersion, slog.LevelError, "left alone a segment of a later version: install that version to ship it", "segment", s.name)
	return s.first + uint64(info.Size()), nil // a record takes more than a byte
}

// withoutPieces drops the pieces that an interrupted salvage left beside the
// segment that they were made of.
func (l *Log) withoutPieces(segments []named) (kept []named, err error) {
	for _, s := range segments {
		if n := len(kept); n > 0 && s.within(kept[n-1]) {
			l.found(FoundSalvage, slog.LevelWarn, "deleted what an interrupted salvage left: it will be done again",
				"piece", s.name, "of", kept[n-1].name)
			if err := l.disk.discard(filepath.Join(l.dir, s.name)); err != nil {
				return nil, err
			}
			continue
		}
		kept = append(kept, s)
	}
	return kept, nil
}

// readNames lists the segments by first seq, and clears away the leftovers of
// interrupted removals. nextSeq is above those.
func (l *Log) readNames() (segments []named, nextSeq uint64, err error) {
	entries, err := l.disk.readDir(l.dir)
	if err != nil {
		return nil, 0, err
	}
	nextSeq = 1
	for _, e := range entries {
		name := e.Name()
		switch first, last, gone, ok := parseName(name); {
		case ok && gone:
			nextSeq = max(nextSeq, first, last+1)
		case ok && e.IsDir():
			segments = append(segments, named{name, first, last})
		case name == nextName:
			first, err := l.nameNext()
			if err != nil {
				return nil, 0, err
			}
			if first > 0 {
				segments = append(segments, named{activeName(first), first, 0})
			}
		case name == salvageName:
			l.found(FoundSalvage, slog.LevelWarn, "deleted what an interrupted salvage left: it will be done again", "path", name)
			if err := l.disk.removeAll(filepath.Join(l.dir, name)); err != nil {
				return nil, 0, err
			}
		case name == identityName, name == identityName+".tmp", name == quarantineName, name == lostName:
		default:
			l.found(FoundStray, slog.LevelWarn, "left alone what is not part of a log", "path", filepath.Join(l.dir, name))
		}
	}
	slices.SortFunc(segments, func(a, b named) int {
		// The larger of two that begin alike comes first.
		return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(b.last, a.last))
	})
	segments, err = l.withoutPieces(segments)
	return segments, nextSeq, err
}

// nameNext gives next the name of its first seq if it holds frames, which it
// does only if a power loss undid the rename of a roll. Otherwise it is deleted:
// its run is over.
func (l *Log) nameNext() (first uint64, err error) {
	dir := filepath.Join(l.dir, nextName)
	w, err := survey(filepath.Join(dir, fileName), 1, math.MaxUint64)
	if errors.Is(err, ErrVersion) {
		l.found(FoundLaterVersion, slog.LevelError, "set aside a prepared segment of a later version", "segment", nextName)
		return 0, l.quarantineDir(nextName)
	}
	if err != nil {
		return 0, err
	}
	if len(w.pieces) == 0 {
		return 0, l.disk.removeAll(dir)
	}
	first = w.pieces[0].first
	l.found(FoundUnnamedNext, slog.LevelWarn, "found records in the segment that was to follow: named it", "first_seq", first)
	return first, l.disk.renameDurably(dir, filepath.Join(l.dir, activeName(first)))
}

// ignoreDamage keeps only errors that come from the disk.
func ignoreDamage(err error) error {
	var damage *DamageError
	if errors.As(err, &damage) || errors.Is(err, io.EOF) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// sealLeftover seals a segment that a crash left open, at its last good frame.
// Frames above limit were never acknowledged: their seqs belong to the segment
// that follows. What is damaged before the last good frame is left to Salvage.
// It returns 0 if the segment holds no record.
func (l *Log) sealLeftover(s named, limit uint64) (last uint64, err error) {
	dir := filepath.Join(l.dir, s.name)
	path := filepath.Join(dir, fileName)
	w, err := survey(path, s.first, limit)
	if err != nil {
		return 0, err
	}
	end := w.begin
	for _, p := range w.pieces {
		last = p.last
		end = p.frames[len(p.frames)-1].to
	}
	if last == 0 && (w.missing || w.begin == 0) {
		l.found(FoundNoRecords, slog.LevelError, "set aside a segment without a readable header or record", "segment", s.name, "reason", w.reason)
		return 0, l.quarantineDir(s.name)
	}
	if w.size > end {
		if err := l.cutTail(s.name, path, stretch{end, w.size}); err != nil {
			return 0, err
		}
	}
	if last == 0 {
		return 0, nil
	}
	// What the crash left in memory only must be durable before it ships.
	if err := l.disk.syncFile(path); err != nil {
		return 0, err
	}
	l.found(FoundOpenSegment, slog.LevelInfo, "sealed what the last run left open", "segment", s.name, "records", last-s.first+1)
	return last, l.disk.renameDurably(dir, filepath.Join(l.dir, sealedName(s.first, last)))
}

// cutTail cuts off the end of a file. Bytes that are not just zeros are kept in
// the quarantine.
func (l *Log) cutTail(name, path string, tail stretch) error {
	kept, err := l.quarantineTail(name, path, tail)
	if isFull(err) { // the sealed name will say where the records end
		l.found(FoundTornTail, slog.LevelWarn, "left in place what follows the last whole frame: there is no room to keep it elsewhere",
			"segment", name, "offset", tail.from, "error", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("quarantine torn tail: %w", err)
	}
	if kept > 0 { // otherwise it was never written to
		l.stats.TornBytes += uint64(kept)
		l.found(FoundTornTail, slog.LevelWarn, "cut off what follows the last whole frame: what was acknowledged ends before it",
			"segment", name, "offset", tail.from, "bytes", kept)
	}
	if err := l.disk.truncate(path, tail.from); err != nil {
		return err
	}
	return l.disk.syncFile(path)
}

func (d disk) syncFile(path string) error {
	f, err := d.open(path, os.O_RDWR)
	if err != nil {
		return err
	}
	return d.finish(f, nil)
}

// addRecovered lists a sealed segment. One whose file is gone is set aside.
func (l *Log) addRecovered(first, last uint64) error {
	name := sealedName(first, last)
	count := last - first + 1
	l.ledger.Recovered += count
	info, err := os.Stat(filepath.Join(l.dir, name, fileName))
	if errors.Is(err, fs.ErrNotExist) {
		l.found(FoundNoFile, slog.LevelError, "set aside a sealed segment without its file", "segment", name, "records", count)
		l.ledger.Quarantined += count
		if err := l.noteLoss(LossNote{
			Node: l.opts.Node, LogID: l.logID, FirstSeq: first, LastSeq: last, Reason: LossDamaged, At: time.Now(),
		}); err != nil {
			return err
		}
		return l.quarantineDir(name)
	}
	if err != nil {
		return err
	}
	l.ledger.Pending += count
	l.sealedBytes += info.Size()
	l.addSealedLocked(&Segment{
		log: l, dir: filepath.Join(l.dir, name), first: first, last: last,
		bytes: info.Size(), sealedAt: info.ModTime(),
	})
	return nil
}

// begin makes the active segment of this run. An empty one of an earlier run
// gives way to it.
func (l *Log) begin() error {
	dir := filepath.Join(l.dir, nextName)
	a, err := createActive(dir, l.header(), l.opts.SegmentSize, l.opts.datasync, l.disk)
	if err != nil {
		return err
	}
	a.first = l.acked + 1
	a.dir = filepath.Join(l.dir, activeName(a.first))
	// From here to the rename, the name .gone tells the next seq.
	if err := l.disk.discardInFavour(a.dir, dir); err != nil {
		a.abandon()
		return err
	}
	l.active.open = true
	l.active.bytes = a.bytes
	l.ids.reseed()
	l.committer.segment = a
	l.committer.lastSync = time.Now()
	if err := l.clearGone(); err != nil {
		l.opts.Logger.Warn("can't delete the names of removed segments: the next start will", "trouble", "names", "error", err)
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
	empty := filepath.Join(l.dir, activeName(l.acked+1))
	if err := l.disk.putAside(empty); err != nil {
		if err := l.disk.removeAll(empty); err != nil {
			return err
		}
	}
	gone, err := filepath.Glob(filepath.Join(l.dir, "*"+goneSuffix))
	l.emptied = gone
	return err
}

// discardInFavour puts the directory at from in the place of an empty segment.
func (d disk) discardInFavour(place, from string) error {
	if err := d.putAside(place); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return d.renameDurably(from, place)
}

// clearGone deletes what interrupted removals left, now that another name tells
// the next seq, and empty segments of earlier runs.
func (l *Log) clearGone() error {
	entries, err := l.disk.readDir(l.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		first, last, gone, ok := parseName(e.Name())
		stale := ok && !gone && last == 0 && first != l.acked+1 && !slices.Contains(l.foreign, e.Name())
		if !ok || !gone && !stale {
			continue
		}
		if gone && last > 0 {
			l.found(FoundRemoval, slog.LevelInfo, "completed an interrupted removal", "segment", e.Name())
		}
		if err := l.disk.removeAll(filepath.Join(l.dir, e.Name())); err != nil {
			return err
		}
	}
	return l.disk.syncDir(l.dir)
}
