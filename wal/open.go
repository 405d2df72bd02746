package wal

import (
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strings"
	"syscall"

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
			durable: make(chan *commit, 8), fills: make(chan fillJob, 1), stopped: make(chan struct{}),
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
