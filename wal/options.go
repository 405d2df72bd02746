package wal

import (
	"cmp"
	"log/slog"
	"time"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// Sync is the moment from which a record counts as stored.
type Sync int

const (
	// SyncAlways acknowledges a record after fdatasync(2).
	SyncAlways Sync = iota
	// SyncInterval acknowledges a record after write(2) and syncs every
	// Options.SyncInterval. A killed process loses nothing; a power loss can take the
	// records of the last interval.
	SyncInterval
)

// WhenFull is the log's reaction when it reaches a bound.
type WhenFull int

const (
	// Reject refuses records until segments are shipped.
	Reject WhenFull = iota
	// DropOldest evicts the oldest segment that is not held, and leaves a loss note.
	DropOldest
)

// Options configure a log. A zero field means its default.
type Options struct {
	Node         string        // the host's own name, UTF-8, at most 255 bytes; default "localhost"
	Sync         Sync          // default SyncAlways
	SyncInterval time.Duration // used with Sync SyncInterval; default 100 ms
	// SegmentSize is the size in bytes at which a segment is sealed; default 64 MiB.
	// The size in effect is limited to a quarter of MaxBytes, and to a 32nd of MaxBytes
	// or 4 MiB, whichever is more.
	SegmentSize int64
	// A segment is sealed some time after its first record was committed: SealAfter
	// (default 1 min) if it has at least 8 MiB, otherwise SealSmallAfter (default 5
	// min). SealAfter alone sets both.
	SealAfter, SealSmallAfter time.Duration
	MaxBytes                  int64    // limit in bytes for the sum of log, spool and quarantine; default 4 GiB
	MinFree                   int64    // bytes to leave free on the disk; default 0
	WhenFull                  WhenFull // default Reject
	QueueBytes                int64    // max bytes of enqueued records in memory; default 8 MiB
	// CommitTimeout bounds the committer's wait for the disk (write, sync, rename, or
	// the roller); default 30 s. Appenders get an error at most a second after it has
	// passed.
	CommitTimeout time.Duration
	// ProbeMin is the delay before a failed disk is tried again. The delay doubles up
	// to ProbeMax. Defaults: 1 s and 30 s.
	ProbeMin, ProbeMax time.Duration
	// BoundsInterval is how often spool, quarantine and free space are measured; default
	// 1 s. The log's own bytes are counted as they change.
	BoundsInterval time.Duration
	MachineID      string // path of the file with the machine's identity; default /etc/machine-id
	// Logger receives a line for each failure and each recovery; default: none. A line
	// that can repeat has the attribute "trouble" with a name of its own. The Info line
	// that reports the recovery has the same attribute, so that a handler can summarize
	// repetitions.
	Logger *slog.Logger

	// Only tests set these.
	clock     func() time.Time // the wall clock
	files     vfs.FS
	newWriter segment.NewEntryWriter // replaces the log library, which works only with files on a real disk
}

// withDefaults sets all defaults but those of the fields in Limits.
func (o Options) withDefaults() Options {
	o.Node = cmp.Or(o.Node, "localhost")
	o.SyncInterval = cmp.Or(o.SyncInterval, 100*time.Millisecond)
	o.SegmentSize = cmp.Or(o.SegmentSize, 64<<20)
	o.BoundsInterval = cmp.Or(o.BoundsInterval, boundsInterval)
	o.MachineID = cmp.Or(o.MachineID, "/etc/machine-id")
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	if o.clock == nil {
		o.clock = time.Now
	}
	if o.files == nil {
		o.files = vfs.OS{}
	}
	return o
}
