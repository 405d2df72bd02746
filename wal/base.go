package wal

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"collectord/wal/vfs"
)

// base is what all parts of a log share. But for the limits and the findings it does
// not change once the log is open.
type base struct {
	opts    Options // as the log was opened
	disk    vfs.Disk
	dataDir string
	dir     string // dataDir/wal
	logID   uint64
	unnamed bool // LOG could not be written: only headers tell the log id
	runID   uint64
	closing chan struct{} // closed by Close

	tolerance tolerance // of the start
	aside     aside

	heartbeat      *heartbeat
	copiesReported sync.Once
	limits         atomic.Pointer[Limits]

	findingsMu sync.Mutex
	findings   map[Finding]uint64
}

// found logs a finding and counts it.
func (b *base) found(f Finding, level slog.Level, message string, args ...any) {
	b.findingsMu.Lock()
	b.findings[f]++
	b.findingsMu.Unlock()
	b.opts.Logger.Log(context.Background(), level, message, append([]any{"finding", string(f)}, args...)...)
}

func (b *base) findingCounts() map[Finding]uint64 {
	b.findingsMu.Lock()
	defer b.findingsMu.Unlock()
	return maps.Clone(b.findings)
}

// probeDelay is how long to wait before the disk is tried again, given the last
// such delay, or 0.
func (b *base) probeDelay(last time.Duration) time.Duration {
	l := b.limits.Load()
	return min(max(2*last, l.ProbeMin), l.ProbeMax)
}
