package wal

import (
	"fmt"
	"path/filepath"
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
	for {
		select {
		case <-l.closing:
			return
		case <-ticker.C:
			l.lookAtDisk()
		}
	}
}

func (l *Log) lookAtDisk() {
	other := sizeOfFiles(filepath.Join(l.dataDir, spoolName)) + sizeOfFiles(filepath.Join(l.dir, quarantineName))
	free, err := freeBytes(l.dir)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.otherBytes = other
	if err == nil { // a disk that can't be asked will fail a commit soon enough
		l.stats.FreeBytes = free
	}
	l.checkBoundsLocked()
}

// checkBoundsLocked decides whether the log is full.
func (l *Log) checkBoundsLocked() {
	was := l.full
	used := l.sealedBytes + l.active.bytes + l.otherBytes
	switch {
	case used >= l.opts.MaxBytes:
		l.full = fmt.Errorf("it holds %d bytes, wal.max_bytes is %d", used, l.opts.MaxBytes)
	case l.stats.FreeBytes < l.opts.MinFree:
		l.full = fmt.Errorf("the disk has %d bytes free, wal.min_free is %d", l.stats.FreeBytes, l.opts.MinFree)
	default:
		l.full = nil
	}
	l.refuseLocked()
	switch {
	case was == nil && l.full != nil:
		l.opts.Logger.Error("log is full: usages are refused until segments were shipped", "reason", l.full)
	case was != nil && l.full == nil:
		l.opts.Logger.Info("log has room again")
	}
}
