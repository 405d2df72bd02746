package wal

import (
	"cmp"
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

// Open opens the log in dataDir, which it creates if necessary, and locks that
// directory. It seals segments that a crash left open. It reads a segment as a whole
// only if it is unsealed or if its name and content disagree, so the time of a start
// depends on the number of segments and not on their bytes.
//
// Open returns an error if Options.Node is too long, if it can't create or lock the
// data directory, or if another process has locked it (InUseError). An error that wraps
// ErrVersion means that a later version wrote the data; Open has then changed nothing.
// If the disk fails otherwise, or does not answer for CommitTimeout, Open returns a log
// that starts as soon as the disk works. Until then Started returns false, appends are
// refused with ErrUnavailable, and nothing is listed.
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

// newLog makes a log and its parts without using the disk.
func newLog(o Options, dataDir string) *Log {
	calls := vfs.NewCalls(o.files)
	o.newWriter = trackedWriters(calls, o.newWriter)
	b := &base{
		opts: o, disk: vfs.Disk{FS: calls}, calls: calls, dataDir: dataDir, dir: filepath.Join(dataDir, "wal"),
		runID: randomUint64(), closing: make(chan struct{}), rounds: newRounds(), findings: map[Finding]uint64{},
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
	k := &committer{
		base: b, queue: q, shelf: s, rolls: rolls, metrics: newMetrics(),
		toWake: make(chan *commit, 8), fillJobs: make(chan fillJob, 1), stopped: make(chan struct{}), turn: make(chan struct{}, 1),
	}
	k.takeTurn() // the start has the turn until it starts the loops
	return &Log{base: b, queue: q, shelf: s, losses: s.losses, committer: k, roller: &roller{base: b, shelf: s, rolls: rolls}}
}

// InUseError means that another process has locked the data directory.
type InUseError struct {
	Dir     string
	Process string // content of the lock file, usually the process id; empty if the file can't be read
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("%s is in use by another collectord (process %s)", e.Dir, cmp.Or(e.Process, "unknown"))
}

// lockName is the name of the lock file in the data directory.
const lockName = "LOCK"

// lockDir locks a data directory. The kernel releases the lock whenever the process
// ends.
func lockDir(d vfs.Disk, dir string) (io.Closer, error) {
	held, err := d.Lock(filepath.Join(dir, lockName))
	if errors.Is(err, syscall.EWOULDBLOCK) {
		holder, _ := d.ReadFile(filepath.Join(dir, lockName)) // only for the message, so an error does not matter
		return nil, &InUseError{dir, strings.TrimSpace(string(holder))}
	}
	return held, err
}

// HolderOf reports whether a process has locked a data directory, and returns the
// content of the lock file, usually that process's id. It takes no lock. It returns an
// error if this user may not read the directory.
func HolderOf(dir string) (process string, held bool, err error) {
	if _, err := os.ReadDir(dir); err != nil {
		return "", false, err
	}
	if !vfs.IsLocked(dir) {
		return "", false, nil
	}
	holder, err := vfs.OSDisk().ReadFile(filepath.Join(dir, lockName))
	if err != nil {
		return "", true, nil //nolint:nilerr // the lock is held, even if its file can't be read
	}
	return strings.TrimSpace(string(holder)), true, nil
}
