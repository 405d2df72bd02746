package wal

import (
	"fmt"
	"path/filepath"
	"slices"
	"time"
)

// spoolName is where the shipper keeps compressed objects; they count towards
// MaxBytes.
const spoolName = "spool"

// boundsInterval is how often the disk is looked at. In between, the log's own
// bytes are counted exactly.
const boundsInterval = time.Second

// watchBounds looks at the disk until the log is closed.
func (l *Log) watchBounds() {
	defer l.done.Done()
	ticker := time.NewTicker(boundsInterval)
	defer ticker.Stop()
	defer l.pulse.stop(watching)
	failing := false
	retry := time.NewTimer(time.Hour)
	defer retry.Stop()
	for {
		l.pulse.beat(watching)
		select {
		case <-l.closing:
			return
		case <-ticker.C:
			l.lookAtDisk()
			l.giveUpHangingCommit()
		case <-l.crowded:
		case <-retry.C:
		}
		retry.Reset(l.retryDepartures())
		if err := l.makeRoom(); err != nil {
			failing = true
			l.opts.Logger.Error("can't make room", "trouble", "make_room", "error", err)
		} else if failing {
			failing = false
			l.opts.Logger.Info("room can be made again", "trouble", "make_room")
		}
	}
}

// makeRoom evicts the oldest segments, if that is wanted, until the log is out
// of reach of its bounds or no segment is left that may go.
func (l *Log) makeRoom() (err error) {
	var segments, records int
	for {
		s := l.holdOldest()
		if s == nil {
			break
		}
		err = s.evict()
		s.Release()
		if err != nil {
			err = fmt.Errorf("evict %s: %w", s, err)
			break
		}
		segments++
		records += int(s.counted())
		l.pulse.beat(watching)
		l.lookAtDisk()
	}
	if segments > 0 {
		l.opts.Logger.Error("evicted the oldest segments to make room (wal.when_full: drop_oldest)",
			"trouble", "evicted", "segments", segments, "records", records)
	}
	return err
}

// holdOldest returns the segment to evict next, held, or nil.
func (l *Log) holdOldest() *Segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.opts.WhenFull != DropOldest || !l.crowdedLocked() || l.evictionFailsLocked() {
		return nil
	}
	for _, s := range slices.Concat(l.unread, l.sealed) { // what can't be read goes first
		if !s.held {
			s.held = true
			return s
		}
	}
	return nil
}

// crowdedLocked reports whether room has to be made, ahead of the bounds, so
// that no append need be refused for it.
func (l *Log) crowdedLocked() bool {
	ahead := l.roomAhead()
	return l.usedLocked() > l.opts.MaxBytes-ahead || l.stats.FreeBytes < l.opts.MinFree+ahead
}

// roomAhead is how far from the bounds the oldest are dropped.
func (l *Log) roomAhead() int64 { return min(2*l.opts.sealing().size, l.opts.MaxBytes/4) }

// usedLocked is what counts towards MaxBytes.
func (l *Log) usedLocked() int64 {
	return l.sealedBytes + l.active.bytes + l.stats.SpoolBytes + l.stats.QuarantineBytes
}

// giveUpHangingCommit tells the appenders of a write or sync that does not come
// back that it failed, and refuses others. Should it come back after all, its
// segment ends before it, whatever it returns.
func (l *Log) giveUpHangingCommit() {
	l.mu.Lock()
	c, took := l.writing.commit, time.Since(l.writing.since)
	if c == nil || c.given || took < l.opts.CommitTimeout {
		l.mu.Unlock()
		return
	}
	c.given = true
	l.broken = fmt.Errorf("the disk has not answered for %v", took.Round(time.Second))
	l.refuseLocked()
	waiting := append([]*commit{c}, l.pending...)
	l.pending = nil
	l.mu.Unlock()
	l.opts.Logger.Error("a commit hangs: usages are refused until the disk answers", "trouble", "commit", "records", c.count, "error", l.broken)
	for _, c := range waiting {
		l.abort(c)
	}
}

// wakeWatcher has the watcher of the bounds look now.
func (l *Log) wakeWatcher() {
	select {
	case l.crowded <- struct{}{}:
	default:
	}
}

func (l *Log) lookAtDisk() {
	spool := l.disk.SizeBelow(filepath.Join(l.dataDir, spoolName))
	quarantine := l.disk.SizeBelow(filepath.Join(l.dir, quarantineName))
	free, err := l.disk.Free(l.dir)
	l.dateOldest()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.SpoolBytes, l.stats.QuarantineBytes = spool, quarantine
	if err == nil { // a disk that can't be asked will fail a commit soon enough
		l.stats.FreeBytes = free
	}
	l.outlook.look(time.Now(), l.usedLocked(), l.stats.FreeBytes)
	l.checkBoundsLocked()
}

// dateOldest finds out how old the oldest sealed segment is, if it is one of
// those found at start. From then on its age is told by the monotonic clock.
func (l *Log) dateOldest() {
	l.mu.Lock()
	var oldest *Segment
	if len(l.sealed) > 0 && l.sealed[0].since.IsZero() {
		oldest = l.sealed[0]
	}
	l.mu.Unlock()
	if oldest == nil {
		return
	}
	from := oldest.sealedAt // the best there is for one that can't be read
	if at := oldest.FirstReceivedAt(); at != 0 {
		from = time.UnixMicro(at)
	}
	since := time.Now().Add(-max(0, l.opts.clock().Sub(from)))
	l.mu.Lock()
	oldest.since = since
	l.mu.Unlock()
}

// checkBoundsLocked decides whether the log is full.
func (l *Log) checkBoundsLocked() {
	was := l.full
	used, limit, floor := l.usedLocked(), l.opts.MaxBytes, l.opts.MinFree
	if was != nil { // some distance, so that it does not come and go
		limit -= min(l.opts.sealing().size, l.opts.MaxBytes/16)
		floor += floor / 16
	}
	switch {
	case used >= limit:
		l.full = fmt.Errorf("it holds %d bytes, wal.max_bytes is %d", used, l.opts.MaxBytes)
	case l.stats.FreeBytes < floor:
		l.full = fmt.Errorf("the disk has %d bytes free, wal.min_free is %d", l.stats.FreeBytes, l.opts.MinFree)
	default:
		l.full = nil
	}
	l.refuseLocked()
	if l.opts.WhenFull == DropOldest && l.crowdedLocked() {
		l.wakeWatcher()
	}
	switch {
	case was == nil && l.full != nil:
		l.opts.Logger.Error("log is full: usages are refused until segments were shipped", "trouble", "full", "reason", l.full)
	case was != nil && l.full == nil:
		l.opts.Logger.Info("log has room again", "trouble", "full")
	}
}
