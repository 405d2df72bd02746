package wal

import (
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// begin makes the active segment of this run. It replaces an empty one of an earlier run.
func (l *Log) begin() error {
	dir := filepath.Join(l.dir, nextName)
	a, err := l.createActive(dir, minPrealloc(l.sealing().size)) // only the minimum of zeros, for a fast start
	if err != nil {
		return err
	}
	a.first = l.queue.newSegment()
	a.dir = filepath.Join(l.dir, segment.ActiveName(a.first))
	// Until this rename a .gone name preserves the next seq.
	if err := l.clearAndRename(a.dir, dir); err != nil {
		a.Abandon()
		return err
	}
	l.shelf.activated(a, nil)
	l.committer.segment = a
	l.committer.lastSync = time.Now()
	if err := l.deleteLeftovers(); err != nil {
		l.opts.Logger.Warn("can't sync the log directory after deleting removed segments: after a power loss the next start deletes them again",
			"trouble", "names", "error", err)
	}
	return nil
}

// beginLater starts the log without an active segment because the disk can't take one.
// Appends are refused until it can. The segments that exist are shipped meanwhile, which
// may free space.
func (l *Log) beginLater(cause error) {
	l.opts.Logger.Error("the log can't be written: usages are rejected until the disk works again", "trouble", "commit", "error", cause)
	l.queue.setBroken(cause)
	l.committer.lastSync = time.Now()
	if err := l.keepNextSeq(); err != nil {
		l.opts.Logger.Warn("can't make a name that preserves the next seq: it is preserved by the segments and loss notes that are left",
			"trouble", "names", "seq", l.queue.nextSeq, "error", err)
	}
	tombstones := slices.Clone(l.goneNames)
	l.shelf.lock()
	defer l.shelf.unlock()
	for _, name := range tombstones {
		l.shelf.addTombstoneLocked(filepath.Join(l.dir, name))
	}
}

// keepNextSeq makes a name that preserves the next seq until there is an active segment.
// Without one, perhaps only a loss note has it, and the shipper deletes that.
func (l *Log) keepNextSeq() error {
	name := segment.ActiveName(l.queue.nextSeq)
	if slices.Contains(l.leftovers, name) {
		err := l.markDirGone(filepath.Join(l.dir, name))
		if !errors.Is(err, fs.ErrNotExist) { // not there after a failed clearAndRename
			l.goneNames = append(l.goneNames, name+goneSuffix) // also after an error, because the name may have changed
			return err
		}
	}
	if l.queue.nextSeq == 1 {
		return nil
	}
	return l.keepSeqsBelow(l.queue.nextSeq)
}

// clearAndRename renames the directory from to place. It marks an empty segment at place as
// .gone, and puts aside any other entry there.
func (l *Log) clearAndRename(place, from string) error {
	if name := filepath.Base(place); slices.Contains(l.leftovers, name) {
		if err := l.markDirGone(place); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	} else if _, err := l.disk.Stat(place); err == nil {
		l.reportFinding(FoundStray, slog.LevelWarn, "put aside an entry that is not part of a log: it was in the place of the active segment", "path", place)
		if err := l.putAside(place, errInTheWay); err != nil {
			return err
		}
	}
	err := l.disk.RenameDurably(from, place)
	if err != nil {
		if _, errStat := l.disk.Stat(from); errors.Is(errStat, fs.ErrNotExist) { // it took effect
			l.leftovers = append(l.leftovers, filepath.Base(place))
		}
	}
	return err
}

// deleteLeftovers deletes the remains of interrupted removals and the empty segments of
// earlier runs, because the active segment's name now preserves the next seq. The shelf
// retries failed deletions.
func (l *Log) deleteLeftovers() error {
	stale := slices.DeleteFunc(slices.Clone(l.leftovers), func(name string) bool { return name == segment.ActiveName(l.queue.nextSeq) })
	var tombstones []string
	for _, dir := range l.shelf.tombstones {
		tombstones = append(tombstones, filepath.Base(dir))
	}
	for _, name := range slices.Concat(l.goneNames, tombstones, stale, []string{segment.ActiveName(l.queue.nextSeq) + goneSuffix}) {
		dir := filepath.Join(l.dir, name)
		info, err := l.disk.Stat(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && !info.IsDir() {
			l.reportFinding(FoundStray, slog.LevelWarn, "moved to the quarantine an entry that is not part of a log: it has the name of a removed segment", "path", dir)
			if err := l.putAside(dir, errInTheWay); err != nil {
				return err
			}
			continue
		}
		if _, last, _, _ := parseName(name); last > 0 && slices.Contains(l.goneNames, name) {
			l.reportFinding(FoundRemoval, slog.LevelInfo, "completed an interrupted removal", "segment", name)
		}
		d := &removal{dir: dir, basePath: strings.TrimSuffix(dir, goneSuffix), synced: true}
		if info, err := l.disk.Stat(filepath.Join(dir, segment.FileName)); err == nil {
			d.bytes = vfs.SizeOf(info)
		}
		_ = l.shelf.beginRemoval(d, func() { l.shelf.sealedBytes += d.bytes }) // beginRemoval logs errors
	}
	l.goneNames, l.shelf.tombstones, l.leftovers = nil, nil, nil
	return l.disk.SyncDir(l.dir)
}
