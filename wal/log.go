package wal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"path/filepath"
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
	// ErrCommitFailed means that the disk failed during this commit, or records of it
	// changed while they were copied. The records may be stored or not.
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

// Log is an open log directory. Its methods may be called concurrently. doc.go has
// the picture of what works together in it.
type Log struct {
	*base
	lock      io.Closer
	queue     *queue
	committer *committer
	roller    *roller
	shelf     *shelf
	losses    *losses
	done      sync.WaitGroup // of the goroutines

	// What the start finds.
	leftovers []string // segments without records
	gone      []string // names of removed segments
	tornBytes atomic.Uint64

	failedStarts int
	started      atomic.Bool // what is in the directory is known; until then only the start touches it
}

// maxPayload is what the records of one call may take together.
const maxPayload = segment.MaxEntry - segment.FrameStart

// Identity of the log: drawn once for the directory, and once for this start.
// The log id is 0 until the log has started.
func (l *Log) Identity() (logID, run uint64) {
	if !l.Started() {
		return 0, l.runID
	}
	return l.logID, l.runID
}

// Node is the host's name for itself.
func (l *Log) Node() string { return l.opts.Node }

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
// is set just before it is copied. All must have the same source.
func (l *Log) AppendSeq(ctx context.Context, recs iter.Seq[*Record]) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c, err := l.submit(recs, nil)
	if c == nil {
		return err
	}
	<-c.done
	return c.err
}

// submit looks at records and hands them to the next commit. Without records there
// is none.
func (l *Log) submit(recs iter.Seq[*Record], waiter *Waiter) (*commit, error) {
	b := batches.Get().(*batch)
	defer b.release()
	b.look(recs)
	if b.count == 0 {
		return nil, nil
	}
	if b.err != nil {
		l.Reject(min(b.source, segment.Sources-1), ReasonUnstorable, b.count)
		return nil, b.err
	}
	c, err := l.queue.append(recs, b, waiter)
	if err != nil {
		return nil, err
	}
	l.queue.signal()
	return c, nil
}

// Enqueue hands records over without waiting for the disk, and returns how many
// there was room for; the rest is counted as rejected. What a crash takes
// before the next commit is lost. All records must have the same source.
func (l *Log) Enqueue(recs ...Record) int {
	if len(recs) == 0 {
		return 0
	}
	return l.queue.enqueue(recs)
}

// Full returns why appends are refused, or nil.
func (l *Log) Full() error {
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	return l.queue.refusal
}

// Sealed returns the sealed segments, oldest first, and a channel that is
// closed once there are more.
func (l *Log) Sealed() ([]*Segment, <-chan struct{}) {
	segments, more := l.shelf.list()
	if !l.Started() {
		return nil, more
	}
	return segments, more
}

// Seal seals what was appended before the call. It returns once that is durable
// and listed by Sealed.
func (l *Log) Seal(ctx context.Context) error {
	if !l.Started() {
		return fmt.Errorf("%w: it has not started yet", ErrUnavailable)
	}
	done := make(chan error, 1)
	if err := l.queue.requestSeal(done); err != nil {
		return err
	}
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
	if !l.queue.close() {
		return ErrClosed
	}
	close(l.closing)
	l.done.Wait()
	select {
	case spare := <-l.roller.rolls.next:
		spare.segment.Abandon()
	default:
	}
	l.queue.free()
	for _, done := range l.queue.dueSeals(true) { // of a log that did not start
		done <- ErrClosed
	}
	var err error
	if l.Started() {
		err = l.removeDir(filepath.Join(l.dir, nextName))
	}
	if l.lock != nil {
		err = errors.Join(err, l.lock.Close())
	}
	return err
}
