package wal

import (
	"log/slog"
	"time"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// Sync is the moment at which a record counts as stored.
type Sync int

const (
	// SyncAlways acknowledges after fdatasync(2).
	SyncAlways Sync = iota
	// SyncInterval acknowledges after write(2) and syncs every Options.SyncInterval. A
	// killed process loses nothing; a power loss can take the last interval.
	SyncInterval
)

// WhenFull is what the log does when it reaches a bound.
type WhenFull int

const (
	// Reject refuses records until segments were shipped.
	Reject WhenFull = iota
	// DropOldest evicts the oldest segment that is not held, which leaves a loss note.
	DropOldest
)

// Options configure a log. The zero value of each field stands for its default.
type Options struct {
	Node         string        // the host's name for itself, UTF-8, at most 255 bytes; default "localhost"
	Sync         Sync          // default SyncAlways
	SyncInterval time.Duration // used with Sync SyncInterval; default 100 ms
	// SegmentSize is the size in bytes at which a segment is sealed; default 64 MiB.
	// The size in effect is at most a quarter of MaxBytes, and at most a 32nd of it or
	// 4 MiB, whichever is more.
	SegmentSize int64
	// A segment is sealed when its first record has been committed for SealAfter
	// (default 1 min) if it holds at least 8 MiB, otherwise for SealSmallAfter (default
	// 5 min). SealAfter alone sets both.
	SealAfter, SealSmallAfter time.Duration
	MaxBytes                  int64    // bound on log, spool and quarantine together, in bytes; default 4 GiB
	MinFree                   int64    // bytes to leave free on the disk; default 0
	WhenFull                  WhenFull // default Reject
	QueueBytes                int64    // most bytes of enqueued records in memory; default 8 MiB
	// CommitTimeout bounds the committer's wait for the disk (write, sync, rename, or
	// the roller). Appenders get an error at most a second after it has passed; default
	// 30 s.
	CommitTimeout time.Duration
	// ProbeMin is the delay before a failed disk is tried again. It doubles up to
	// ProbeMax; default 1 s and 30 s.
	ProbeMin, ProbeMax time.Duration
	MachineID          string // path of the file with the machine's identity; default /etc/machine-id
	// Logger receives a line for each failure and each recovery; default: none. What
	// can repeat carries the attribute "trouble" with a name of its own, and so does
	// the Info line that says it is over, so that a handler can sum up repetitions.
	Logger *slog.Logger

	// Only tests set these.
	clock     func() time.Time // the wall clock
	files     vfs.FS
	newWriter segment.NewEntryWriter // replaces the log library, which needs files on a real disk
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
