package wal

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"collectord/wal/vfs"
)

// Open opens the log in dataDir, making the directory if need be, and takes the lock of
// the directory. It seals what a crash left open. Only unsealed segments, and those
// whose names and contents disagree, are read as a whole, so that a start takes time
// for the number of segments and not for their bytes.
//
// An error means that Options.Node is too long, that the data directory can't be made,
// that another process holds its lock, or, if it wraps ErrVersion, that a later version
// wrote what is there, and nothing was changed. If the disk fails otherwise, or does not answer
// for CommitTimeout, Open returns a log that starts as soon as the disk lets it: until then
// Started returns false, appends are refused with ErrUnavailable, and nothing is listed.
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

// newLog makes a log and its parts, without touching the disk.
func newLog(o Options, dataDir string) *Log {
	calls := vfs.NewCalls(o.files)
	o.newWriter = watchedWriters(calls, o.newWriter)
	b := &base{
		opts: o, disk: vfs.Disk{FS: calls}, calls: calls, dataDir: dataDir, dir: filepath.Join(dataDir, "wal"),
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

// InUseError is the error of a data directory that another process has locked.
type InUseError struct {
	Dir     string
	Process string // its id, or what else the lock says
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("%s is in use by another collectord (process %s)", e.Dir, e.Process)
}

// lockName is the file in the data directory that is locked.
const lockName = "LOCK"

// lockDir takes the lock of a data directory. The kernel releases it when the process
// ends, however it ends.
func lockDir(d vfs.Disk, dir string) (io.Closer, error) {
	held, err := d.Lock(filepath.Join(dir, lockName))
	if errors.Is(err, syscall.EWOULDBLOCK) {
		holder, _ := d.ReadFile(filepath.Join(dir, lockName)) // for the message only
		return nil, &InUseError{dir, strings.TrimSpace(string(holder))}
	}
	return held, err
}

// HolderOf reports whether a process has locked a data directory, and its id, or what else
// the lock says. It takes no lock, and returns an error if this user may not look.
func HolderOf(dir string) (process string, held bool, err error) {
	if _, err := os.ReadDir(dir); err != nil {
		return "", false, err
	}
	path := filepath.Join(dir, lockName)
	if !vfs.IsLocked(path) {
		return "", false, nil
	}
	holder, err := vfs.OSDisk().ReadFile(path)
	if err != nil {
		return "", true, nil //nolint:nilerr // it is held, whoever has it
	}
	return strings.TrimSpace(string(holder)), true, nil
}
