package wal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// Errors by which Append tells why records were not stored.
var (
	// ErrFull means that a bound of the log, or of its disk, is reached. Nothing
	// was stored; it ends by itself once segments were shipped.
	ErrFull = errors.New("log is full")
	// ErrUnavailable means that an earlier commit failed and the disk has not
	// been seen to work since. Nothing was stored; it ends by itself.
	ErrUnavailable = errors.New("log is not writable")
	// ErrCommitFailed means that the disk failed during this commit. The records
	// may be stored or not.
	ErrCommitFailed = errors.New("commit failed")
	// ErrClosed means that the log is shutting down. Nothing was stored.
	ErrClosed = errors.New("log is closed")
)

// Sync says when a record counts as stored.
type Sync int

const (
	// SyncAlways acknowledges after fsync.
	SyncAlways Sync = iota
	// SyncInterval acknowledges after the write and syncs every SyncInterval:
	// a power loss can take that much with it, a killed process nothing.
	SyncInterval
)

// WhenFull says what happens when a bound is reached.
type WhenFull int

const (
	// Reject refuses what comes in until segments were shipped.
	Reject WhenFull = iota
	// DropOldest evicts the oldest segment that is not being uploaded.
	DropOldest
)

// Options of a log. The zero value of each field stands for its default.
type Options struct {
	Node         string        // the host's name for itself, at most 255 bytes; default "localhost"
	Sync         Sync          // default SyncAlways
	SyncInterval time.Duration // for SyncInterval; default 100 ms
	// SegmentSize is after how many bytes a segment is sealed; default 64 MiB. In
	// effect it is at most a 32nd of MaxBytes, or 4 MiB if that is more, and at most
	// a quarter of MaxBytes.
	SegmentSize int64
	// SealSmallAfter is the age of its first record at which a segment is sealed, and
	// SealAfter if it holds 8 MiB; default 5 min and 1 min. SealAfter alone sets both.
	SealAfter, SealSmallAfter time.Duration
	MaxBytes                  int64    // for log, spool and quarantine together; default 4 GiB
	MinFree                   int64    // bytes to leave free on the disk; default 0
	WhenFull                  WhenFull // default Reject
	QueueBytes                int64    // what Enqueue may hold in memory; default 8 MiB
	// CommitTimeout is how long a write and sync may take before their appenders
	// are told that it failed; default 30 s.
	CommitTimeout time.Duration
	// ProbeMin is the delay before a failed disk is tried again, which doubles up
	// to ProbeMax; default 1 s and 30 s.
	ProbeMin, ProbeMax time.Duration
	MachineID          string // file with the machine's identity; default /etc/machine-id
	// Logger is told of everything that goes wrong and right again; default: none.
	// What can repeat carries the attribute "trouble" with a name of its own, and
	// so does the Info line that says it is over, so that a handler can sum up.
	Logger *slog.Logger

	// What only tests set.
	clock     func() time.Time // the wall clock
	files     vfs.FS
	newWriter segment.NewEntryWriter // where the underlying log can't write to files
}

func (o Options) withDefaults() Options {
	set := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	set(&o.SegmentSize, 64<<20)
	set(&o.MaxBytes, 4<<30)
	set(&o.QueueBytes, 8<<20)
	set((*int64)(&o.SyncInterval), int64(100*time.Millisecond))
	if o.SealAfter != 0 {
		set((*int64)(&o.SealSmallAfter), int64(o.SealAfter))
	}
	set((*int64)(&o.SealAfter), int64(time.Minute))
	set((*int64)(&o.SealSmallAfter), int64(5*time.Minute))
	set((*int64)(&o.CommitTimeout), int64(30*time.Second))
	set((*int64)(&o.ProbeMin), int64(time.Second))
	set((*int64)(&o.ProbeMax), int64(30*time.Second))
	if o.clock == nil {
		o.clock = time.Now
	}
	if o.files == nil {
		o.files = vfs.OS{}
	}
	if o.Node == "" {
		o.Node = "localhost"
	}
	if o.MachineID == "" {
		o.MachineID = "/etc/machine-id"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Log is an open log directory. Its methods may be called concurrently.
//
// Two goroutines do the work: the committer writes frames to the active
// segment, the roller seals segments and prepares the next one, so that no
// append waits for that. Three more wake appenders, watch the bounds and write
// zeros ahead.
type Log struct {
	opts    Options // what SetLimits sets is guarded by mu
	disk    vfs.Disk
	dataDir string
	dir     string // dataDir/wal
	lock    io.Closer
	logID   uint64
	unnamed bool // LOG could not be written: only headers tell the log id
	run     uint64

	wake    chan struct{} // tells the committer to look again; holds one
	next    chan prepared // from the roller; holds one
	nextErr chan error    // from the roller, when preparing failed; holds one
	retired chan retired  // to the roller
	durable chan *commit  // whose appenders are to be told
	fills   chan fillJob  // to the filler; holds one
	closing chan struct{} // closed by Close
	crowded chan struct{} // tells the watcher of the bounds to look now; holds one
	done    sync.WaitGroup

	committer committer // owned by the committer's goroutine
	pulse     *pulse
	hurried   atomic.Int64 // nanoseconds since the epoch of pulse
	histogram struct{ commit, sync, records, bytes *Histogram }

	salvageMu sync.Mutex // guards the directory in which pieces are made

	lossMu      sync.Mutex // guards the loss notes, and what follows
	lastLoss    LossNote
	unreadNotes map[string]SeqRange // that the disk does not give, by file name
	leftovers   []string            // segments without records, found at start
	gone        []string            // names of removed segments, found at start
	foreign     []string            // segments and notes of a later version, left alone

	mu       sync.Mutex // guards everything below
	ledger   Ledger
	ids      idSource
	pending  []*commit // waiting for the committer, oldest first
	staged   staging   // UDP records waiting to join a commit
	buffers  [][]byte  // of finished commits, for reuse
	sealReqs []chan error
	writing  struct { // what the committer has in hand
		commit *commit // nil while it is idle
		since  time.Time
	}
	refusal error // why appends are refused now, or nil
	broken  error // the failure that made the log unavailable, or nil
	full    error // the bound that is reached, or nil
	closed  bool
	acked   uint64 // seq of the last acknowledged record
	active  struct {
		open  bool
		bytes int64
		count uint64
		since time.Time // of the first record
	}
	unsealed     []*active     // with records, and handed to the roller, oldest first
	sealed       []*Segment    // oldest first
	unread       []*Segment    // of sealed segments, what the disk did not give; left to the next start
	sealedBytes  int64         // of all three, and of leaving
	leaving      []*departure  // whose files are not deleted yet
	leavingDelay time.Duration // before the next attempt at those that failed; 0 if none did
	leavingDue   time.Time
	sealedMore   chan struct{} // closed when sealed grows
	outlook      outlook
	emptied      []string // directories of removed segments, kept for their names
	stats        Stats
}

// maxPayload is what the records of one call may take together.
const maxPayload = segment.MaxEntry - segment.FrameStart

// Identity of the log: drawn once for the directory, and once for this start.
func (l *Log) Identity() (logID, run uint64) { return l.logID, l.run }

// Append stores records and returns nil once they are durable, all of them or
// none. It sets their ID and ReceivedAt. One call is one frame. The context is
// looked at before the records are queued, not after.
func (l *Log) Append(ctx context.Context, recs ...Record) error {
	return l.AppendSeq(ctx, func(yield func(*Record) bool) {
		for i := range recs {
			if !yield(&recs[i]) {
				return
			}
		}
	})
}

// AppendSeq is Append for records that need not be in memory all at once. They are
// gone through twice: to be looked at, and to be copied. A record may be forgotten,
// or the next one take its place, when the next one is asked for; its ReceivedAt
// tells whether it has been copied by then. All must have the same source.
func (l *Log) AppendSeq(ctx context.Context, recs iter.Seq[*Record]) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n, size, source := 0, 0, HTTP
	for r := range recs {
		if err := r.Check(); err != nil {
			return err
		}
		n++
		size += r.Size()
		source = r.Source
	}
	if n == 0 {
		return nil
	}
	if size > maxPayload {
		return fmt.Errorf("records of %d bytes together, at most %d fit a frame", size, maxPayload)
	}
	c, err := l.queue(recs, n, size, source)
	if err != nil {
		return err
	}
	l.signal()
	<-c.done
	return c.err
}

// queue hands n records of size bytes to the next commit.
func (l *Log) queue(recs iter.Seq[*Record], n, size int, source Source) (*commit, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	door := &l.ledger.Door[source]
	if l.refusal != nil {
		door.reject(refusalReason(l.refusal), n)
		return nil, l.refusal
	}
	door.accept(n)
	now := l.opts.clock().UnixMicro()
	c := l.commitForLocked(now, size)
	l.growLocked(c, size)
	for r := range recs {
		r.ReceivedAt = now
		if r.ID == (ID{}) {
			r.ID = l.ids.next(now / 1000)
		}
		c.buf = segment.AppendRecord(c.buf, r)
	}
	c.add(source, n, now)
	return c, nil
}

// Enqueue hands records over without waiting for the disk, and returns how many
// there was room for; the rest is counted as rejected. What a crash takes
// before the next commit is lost. All records must have the same source.
func (l *Log) Enqueue(recs ...Record) int {
	if len(recs) == 0 {
		return 0
	}
	l.mu.Lock()
	door := &l.ledger.Door[recs[0].Source]
	if l.refusal != nil {
		door.reject(refusalReason(l.refusal), len(recs))
		l.mu.Unlock()
		return 0
	}
	n := 0
	for n < len(recs) && recs[n].Check() == nil && l.staged.add(&recs[n], l.opts.QueueBytes) {
		n++
	}
	door.accept(n)
	if n < len(recs) {
		door.reject(ReasonOverloaded, len(recs)-n)
	}
	l.mu.Unlock()
	l.signal()
	return n
}

func refusalReason(refusal error) string {
	if errors.Is(refusal, ErrClosed) {
		return ReasonShuttingDown
	}
	return ReasonLogFull
}

// signal wakes the committer, or leaves a note that it will find.
func (l *Log) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Full returns why appends are refused, or nil.
func (l *Log) Full() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refusal
}

// Sealed returns the sealed segments, oldest first, and a channel that is
// closed once there are more.
func (l *Log) Sealed() ([]*Segment, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*Segment(nil), l.sealed...), l.sealedMore
}

// Seal seals what was appended before the call. It returns once that is durable
// and listed by Sealed.
func (l *Log) Seal(ctx context.Context) error {
	done := make(chan error, 1)
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	l.sealReqs = append(l.sealReqs, done)
	l.mu.Unlock()
	l.signal()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close commits what was accepted, seals the active segment and releases the
// directory. Appends and Enqueues from now on are refused with ErrClosed.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	l.closed = true
	l.refuseLocked()
	l.mu.Unlock()
	close(l.closing)
	l.done.Wait()
	select {
	case spare := <-l.next:
		spare.segment.Abandon()
	default:
	}
	l.mu.Lock()
	l.staged.free()
	l.mu.Unlock()
	err := l.removeDir(filepath.Join(l.dir, nextName))
	return errors.Join(err, l.lock.Close())
}

// refuseLocked works out why appends are refused, if they are.
func (l *Log) refuseLocked() {
	switch {
	case l.closed:
		l.refusal = ErrClosed
	case l.broken != nil:
		l.refusal = fmt.Errorf("%w: %w", ErrUnavailable, l.broken)
	case l.full != nil:
		l.refusal = fmt.Errorf("%w: %w", ErrFull, l.full)
	default:
		l.refusal = nil
	}
}

// empty deletes what is in a segment directory and keeps its name until there is
// an active segment again.
func (l *Log) empty(dir string) error {
	l.mu.Lock()
	if name := dir + goneSuffix; !slices.Contains(l.emptied, name) {
		l.emptied = append(l.emptied, name)
	}
	l.mu.Unlock()
	if err := l.putAside(dir); err != nil {
		return err
	}
	return l.emptyGone(dir + goneSuffix)
}

// emptyGone deletes what is in a directory that is kept for its name. Where nothing
// else may tell the log id, the header stays.
func (l *Log) emptyGone(dir string) error {
	path := filepath.Join(dir, segment.FileName)
	if info, err := l.disk.Stat(path); err == nil && l.unnamed && info.Mode().IsRegular() && !l.disk.HasOtherNames(path) {
		return l.disk.Truncate(path, min(info.Size(), segment.MaxHeader))
	}
	if err := l.disk.RemoveIn(dir, segment.FileName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// discardEmptied deletes the names that empty kept.
func (l *Log) discardEmptied() {
	l.mu.Lock()
	var names []string
	if l.active.open {
		names, l.emptied = l.emptied, nil
	}
	l.mu.Unlock()
	if len(names) == 0 {
		return
	}
	err := l.disk.SyncDir(l.dir) // the name of the active segment
	for _, name := range names {
		if err == nil {
			err = l.removeDir(name)
		}
	}
	if err != nil {
		l.opts.Logger.Warn("can't delete the names of removed segments: the next start will", "trouble", "names", "error", err)
	}
}
