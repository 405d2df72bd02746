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
//
// An error is about the data directory itself: it can't be made, or another process
// holds its lock. If the disk fails otherwise, the log starts as soon as that is
// possible: until then appends are refused with ErrUnavailable, and nothing is
// listed. Started tells.
func Open(dataDir string, o Options) (*Log, error) {
	o = o.withDefaults()
	if len(o.Node) > math.MaxUint8 {
		return nil, fmt.Errorf("node name of %d bytes, at most %d fit a segment header", len(o.Node), math.MaxUint8)
	}
	l := newLog(o, dataDir)
	if err := l.start(); err != nil {
		return nil, err
	}
	return l, nil
}

// newLog puts the parts of a log together.
func newLog(o Options, dataDir string) *Log {
	b := &base{
		opts: o, disk: vfs.Disk{FS: o.files}, dataDir: dataDir, dir: filepath.Join(dataDir, "wal"),
		runID: randomUint64(), closing: make(chan struct{}), heartbeat: newHeartbeat(), findings: map[Finding]uint64{},
	}
	b.limits.Store(o.limits())
	for _, f := range []Finding{
		FoundOpenSegment, FoundTornTail, FoundUnnamedNext, FoundRemoval, FoundSalvage, FoundDamage, FoundNoRecords,
		FoundNoFile, FoundUnreadable, FoundMisnamed, FoundMissing, FoundLaterVersion, FoundIdentity, FoundCopy, FoundUnreadableNote, FoundStray,
	} {
		b.findings[f] = 0
	}
	q, rolls := newQueue(b), newRolls()
	s := newShelf(b, q)
	return &Log{
		base: b, queue: q, shelf: s, losses: s.losses,
		committer: &committer{
			base: b, queue: q, shelf: s, rolls: rolls, metrics: newMetrics(),
			durable: make(chan *commit, 8), stopped: make(chan struct{}),
		},
		roller: &roller{base: b, shelf: s, rolls: rolls},
	}
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
	if err := l.clearWay(); err != nil {
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
		known := slices.Clone(l.gone)
		for _, s := range slices.Concat(found.leaving, found.unread, found.segments) {
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
	for _, s := range found.leaving {
		found.above(l.departAgain(s, &found))
	}
	for _, u := range found.unread {
		found.above(u.last)
		if err := l.addUnread(u, &found); err != nil {
			return 0, fmt.Errorf("segment %s: %w", u.name, err)
		}
	}
	for _, s := range l.shelf.unread {
		found.above(s.last)
	}
	if err := l.losses.count(); err != nil {
		l.opts.Logger.Error("can't list the loss notes: they are listed again (check the disk)", "path", filepath.Join(l.dir, lostName), "error", err)
		l.losses.waiting.Add(1) // at least, so that somebody looks again
	}
	return found.nextSeq, nil
}

// clearWay makes the directories of the log, and moves to the quarantine what an
// earlier start could only give another name.
func (l *Log) clearWay() error {
	lost := filepath.Join(l.dir, lostName)
	err := errors.Join(l.clearPlace(filepath.Join(l.dir, quarantineName)), l.clearPlace(lost), l.disk.MkdirDurably(lost))
	if err != nil && !l.tolerates(err) {
		return err
	}
	reserve := filepath.Join(lost, reserveName)
	if info, err := l.disk.Stat(reserve); err == nil && !info.Mode().IsRegular() {
		if err := l.putAside(reserve, errInTheWay); err != nil {
			return err
		}
	}
	stockReserve(l.disk, reserve)
	spool := filepath.Join(l.dataDir, spoolName)
	if info, err := l.disk.Stat(spool); err == nil && !info.IsDir() && !vfs.IsLink(info) {
		l.found(FoundStray, slog.LevelWarn, "moved to the quarantine what was in the place of the spool", "path", spool)
		if err := l.putAside(spool, errInTheWay); err != nil {
			return err
		}
	}
	entries, err := l.disk.List(l.dataDir)
	if err != nil && !l.tolerates(err) {
		return err
	}
	for _, e := range entries {
		if strings.Contains(e.Name(), asideMark) {
			if err := l.putAside(filepath.Join(l.dataDir, e.Name()), errInTheWay); err != nil {
				return err
			}
		}
	}
	return nil
}

// recoverSegment seals a segment if need be, and lists it.
func (l *Log) recoverSegment(s *named, found *names) error {
	last, dir := s.last, filepath.Join(l.dir, s.name)
	if !s.sealed {
		above, err := l.aboveForeign(s)
		if err != nil {
			return err
		}
		if above > 0 {
			found.above(above - 1)
			return nil
		}
		if last, dir, err = l.sealLeftover(s, found.behind(s)); err != nil {
			return err
		}
	}
	found.above(max(s.first-1, last))
	if last == 0 {
		l.leftovers = append(l.leftovers, s.name) // it holds nothing
		return nil
	}
	return l.addRecovered(dir, s.first, last)
}

// leaveSegment leaves a segment that can't be read or renamed, if the start
// tolerates that. Its records are neither shipped nor lost: the next start tries
// again. One that is not sealed gets a name that tells how many records it may hold.
func (l *Log) leaveSegment(s *named, found *names, why error) error {
	if !l.tolerates(why) {
		return why
	}
	l.found(FoundUnreadable, slog.LevelError, "left a segment that can't be read or renamed: the next start tries again (see to its owner, its mode, or the disk)",
		"segment", s.name, "error", why)
	dir := filepath.Join(l.dir, s.name)
	u := &Segment{
		shelf: l.shelf, dir: dir, first: s.first, last: s.last, sealedAt: time.Now(),
		uncertain: !s.sealed || strings.HasSuffix(s.name, tailSuffix),
		held:      true, // to evict it would make no room
	}
	if !s.sealed {
		u.last = min(s.first+segment.MostRecords(l.disk, l.fileOf(s.name)), found.behind(s).first) - 1
		if tail := filepath.Join(l.dir, tailName(u.first, u.last)); !s.link && l.disk.RenameDurably(dir, tail) == nil {
			u.dir = tail
		}
	}
	if u.last == 0 { // neither its name nor its content tells
		u.last = u.first
	}
	found.above(u.last)
	l.leave(u.dir, why)
	l.queue.recovered(u.counted(), pending)
	l.shelf.enterUnread(u)
	return nil
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
		return 0, l.putAside(dir, err)
	}
	if err != nil {
		if !l.tolerates(err) {
			return 0, err
		}
		l.found(FoundStray, slog.LevelError, "set aside a prepared segment that can't be read", "segment", nextName, "error", err)
		return 0, l.putAside(dir, err)
	}
	if len(w.Pieces) == 0 && w.Unread != nil {
		l.found(FoundUnreadable, slog.LevelError, "set aside a prepared segment that the disk does not give (check the disk)",
			"segment", nextName, "error", w.Unread)
		return 0, l.putAside(dir, w.Unread)
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
// It returns 0 if the segment holds no record, and the path that it has by now: it
// can be shipped from there, too, if it can't be renamed.
//
// All records below the next segment of the same run were acknowledged. If they
// are not there, the name counts them all the same, and Salvage notes the loss.
func (l *Log) sealLeftover(s, next *named) (last uint64, dir string, err error) {
	dir = filepath.Join(l.dir, s.name)
	path := filepath.Join(dir, segment.FileName)
	w, err := l.scanFor(s.name, s.first, next.first-1)
	if err == nil && w.Unread != nil && w.Unread.Pages == 0 { // it could not be opened
		w, err = l.scanFor(s.name, s.first, next.first-1)
	}
	if errors.Is(err, vfs.ErrNotRegular) { // kept as it is
		w, err = &segment.Scan{Reason: err, Missing: true}, nil
	}
	if err != nil {
		return 0, dir, err
	}
	last = w.Last()
	hidden, err := w.HiddenRecords()
	if err != nil {
		return 0, dir, err
	}
	if hidden > 0 && next.first == maxSeq {
		if moved, err := l.keepTail(s, last, hidden, w); err != nil || moved {
			return 0, dir, err
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
				return 0, dir, err
			}
		}
		l.found(FoundNoRecords, slog.LevelError, "set aside a segment without a readable header or record", "segment", s.name, "reason", w.Reason)
		return 0, dir, l.putAside(dir, errors.New("no readable header or record"))
	}
	if w.Size > w.End && hidden == 0 && !l.disk.HasOtherNames(path) {
		if err := l.cutTail(s.name, path, segment.ByteRange{From: w.End, To: w.Written}); err != nil {
			return 0, dir, err
		}
	}
	if proven {
		last = next.first - 1
	}
	if last == 0 {
		return 0, dir, nil
	}
	// What the crash left in memory only must be durable before it ships. A file that
	// the disk does not give has nothing there.
	if err := l.disk.SyncFile(path); err != nil && (w.Unread == nil || !vfs.IsUnreadable(err)) && !l.tolerates(err) {
		return 0, dir, err
	}
	l.found(FoundOpenSegment, slog.LevelInfo, "sealed what the last run left open", "segment", s.name, "records", last-s.first+1)
	sealed := filepath.Join(l.dir, segment.SealedName(s.first, last))
	if err := l.disk.RenameDurably(dir, sealed); err == nil {
		dir = sealed
	} else if !l.tolerates(err) {
		return 0, dir, err
	} else if _, errStat := l.disk.Stat(sealed); errStat == nil {
		dir = sealed // which the next start may not find
	}
	return last, dir, nil
}

// cutTail cuts off the end of a file. Bytes that are not just zeros are kept in
// the quarantine.
func (l *Log) cutTail(name, path string, tail segment.ByteRange) error {
	kept, err := l.quarantineTail(name, path, tail)
	if vfs.IsTrouble(err) || err != nil && l.tolerates(err) { // the sealed name will say where the records end
		l.found(FoundTornTail, slog.LevelWarn, "left in place what follows the last whole frame: it can't be kept elsewhere",
			"segment", name, "offset", tail.From, "error", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("quarantine torn tail: %w", err)
	}
	if kept > 0 { // otherwise it was never written to
		l.tornBytes.Add(uint64(kept))
		l.found(FoundTornTail, slog.LevelWarn, "cut off what follows the last whole frame: what was acknowledged ends before it",
			"segment", name, "offset", tail.From, "bytes", kept)
	}
	if err = l.disk.Truncate(path, tail.From); err == nil {
		err = l.disk.SyncFile(path)
	}
	if err != nil && l.tolerates(err) {
		return nil
	}
	return err
}

// addRecovered lists a sealed segment. One without a file is put aside.
func (l *Log) addRecovered(dir string, first, last uint64) error {
	count := last - first + 1
	path := filepath.Join(dir, segment.FileName)
	size, sealedAt, err := l.statSegment(path)
	if errors.Is(err, fs.ErrNotExist) {
		l.found(FoundNoFile, slog.LevelError, "set aside a sealed segment without its file", "segment", filepath.Base(dir), "records", count)
		if err := l.enterMissing(SeqRange{First: first, Last: last}, LossDamaged); err != nil {
			return err
		}
		return l.putAside(dir, errors.New("it has no file"))
	}
	if err != nil {
		return err
	}
	l.queue.recovered(count, pending)
	l.shelf.enter(&Segment{shelf: l.shelf, dir: dir, first: first, last: last, bytes: size, sealedAt: sealedAt})
	return nil
}

// begin makes the active segment of this run. An empty one of an earlier run
// gives way to it.
func (l *Log) begin() error {
	dir := filepath.Join(l.dir, nextName)
	a, err := l.createActive(dir)
	if err != nil {
		return err
	}
	a.first = l.queue.newSegment()
	a.dir = filepath.Join(l.dir, segment.ActiveName(a.first))
	// From here to the rename, the name .gone tells the next seq.
	if err := l.discardInFavour(a.dir, dir); err != nil {
		a.Abandon()
		return err
	}
	l.shelf.activated(a, nil)
	l.queue.setBroken(nil)
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
func (l *Log) beginLater(cause error) {
	l.opts.Logger.Error("the log can't be written: usages are refused until the disk works again", "trouble", "commit", "error", cause)
	l.queue.setBroken(cause)
	l.committer.lastSync = time.Now()
	// Another segment is to take the place of an empty one, and the names of
	// removed ones tell the next seq until then.
	emptied := slices.Clone(l.gone)
	if name := segment.ActiveName(l.queue.nextSeq); slices.Contains(l.leftovers, name) {
		if err := l.nameGone(filepath.Join(l.dir, name)); err == nil {
			emptied = append(emptied, name+goneSuffix)
		}
	}
	l.shelf.lock()
	defer l.shelf.unlock()
	for _, name := range emptied {
		if path := filepath.Join(l.dir, name); !slices.Contains(l.shelf.tombstones, path) {
			l.shelf.tombstones = append(l.shelf.tombstones, path)
		}
	}
}

// discardInFavour puts the directory at from in the place of an empty segment.
// Anything else there goes to the quarantine.
func (l *Log) discardInFavour(place, from string) error {
	if name := filepath.Base(place); slices.Contains(l.leftovers, name) {
		if err := l.nameGone(place); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	} else if _, err := l.disk.Stat(place); err == nil {
		l.found(FoundStray, slog.LevelWarn, "moved to the quarantine what is not part of a log: it was in the place of the active segment", "path", place)
		if err := l.putAside(place, errInTheWay); err != nil {
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
	stale := slices.DeleteFunc(slices.Clone(l.leftovers), func(name string) bool { return name == segment.ActiveName(l.queue.nextSeq) })
	var tombstones []string
	for _, dir := range l.shelf.tombstones {
		tombstones = append(tombstones, filepath.Base(dir))
	}
	for _, name := range slices.Concat(l.gone, tombstones, stale, []string{segment.ActiveName(l.queue.nextSeq) + goneSuffix}) {
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
		_ = l.shelf.depart(d, func() { l.shelf.sealedBytes += d.bytes }) // logged
	}
	l.gone, l.shelf.tombstones, l.leftovers = nil, nil, nil
	return l.disk.SyncDir(l.dir)
}
