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

// base is the state that all parts of a log share. After the start, only the fields
// with a mutex and the atomic ones change. The fields opts and disk and the paths never
// change.
type base struct {
	opts            Options // passed to Open; limits has the fields of Limits, with defaults
	disk            vfs.Disk
	calls           *vfs.Calls // the calls of disk that are under way, to name one that hangs
	dataDir         string
	dir             string // dataDir/wal
	logID           uint64
	identityUnsaved bool // LOG could not be written, so only segment headers contain the log id
	runID           uint64
	closing         chan struct{} // closed by Close

	leftNext  string    // the .tail that next is to be named, because it has records and the start could not rename it; empty if none
	tolerance tolerance // of the present attempt to start; skipAny afterwards
	aside     aside

	rounds         *rounds
	copiesReported sync.Once
	limits         atomic.Pointer[Limits]

	findingsMu sync.Mutex
	findings   map[Finding]uint64
}

// reportFinding counts a finding and logs it.
func (b *base) reportFinding(f Finding, level slog.Level, message string, args ...any) {
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

// probeDelay returns how long to wait before the next attempt to use the disk: twice
// the last delay (0 for the first attempt), within ProbeMin and ProbeMax.
func (b *base) probeDelay(last time.Duration) time.Duration {
	l := b.limits.Load()
	return min(max(2*last, l.ProbeMin), l.ProbeMax)
}
