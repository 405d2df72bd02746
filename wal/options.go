package wal

import (
	"log/slog"
	"time"

	"collectord/wal/segment"
	"collectord/wal/vfs"
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
