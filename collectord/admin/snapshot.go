package admin

import (
	"time"

	"collectord/collectord/auth"
	"collectord/collectord/histogram"
	"collectord/shipper"
	"collectord/shipper/bucket"
	"collectord/wal"
)

// Snapshot is everything the daemon tells of itself, as of one moment.
type Snapshot struct {
	Ledger  wal.Ledger
	Log     wal.Stats
	UDP     UDPSnapshot
	HTTP    HTTPSnapshot
	Shipper ShipperSnapshot
	Clients auth.ClientCounts
	Reload  ReloadSnapshot
	Logger  LoggerSnapshot
	LogID   string // as in the names of objects

	Troubles map[string]bool // that there can be, by name: whether each is open

	ClockWrong bool // known to be
}

// LoggerSnapshot is how many lines are missing in the log of the daemon.
type LoggerSnapshot struct {
	Full   uint64 // the queue was: they came faster than they were read
	Failed uint64 // could not be written
}

// ReloadSnapshot is how the configuration came into effect. The start counts as
// a reload.
type ReloadSnapshot struct {
	OK bool      // the last attempt
	At time.Time // the last that succeeded
}

// HTTPSnapshot is what the HTTP server counts beside the ledger.
type HTTPSnapshot struct {
	Requests    map[int]uint64                 // by status
	Seconds     map[int]histogram.Distribution // by class of status: 2, 4, 5
	Connections int

	MaxConnections    int // as configured, or fewer where descriptors are scarce
	TLSConnections    int
	MaxTLSConnections int // no more than MaxConnections

	MadeRoom     map[string]uint64 // connections closed for others, by what they were doing
	TurnedAway   uint64            // connections
	ReadsDelayed uint64
	LoopTurns    histogram.Distribution // in seconds

	HandshakeFailures  map[string]uint64 // by why
	CertificateExpires float64           // in seconds since 1970; +Inf without one
}

// UDPSnapshot is what the UDP server counts beside the ledger.
type UDPSnapshot struct {
	Datagrams     uint64
	Bytes         uint64
	KernelDrops   uint64 // datagrams the kernel had no room for
	ReceiveBuffer int    // bytes of all receive buffers
	Batches       histogram.Distribution
}

// ShipperSnapshot is what the shipper counts beside the ledger.
type ShipperSnapshot struct {
	Objects         uint64 // confirmed by the storage
	RawBytes        uint64 // their lines
	CompressedBytes uint64
	UploadSeconds   histogram.Distribution
	Failures        map[string]uint64 // by kind
	Conflicts       uint64
	Reshipped       uint64 // segments that the storage had lost, and has confirmed again
	Vanished        uint64 // segments that it has lost for good
	Salvaged        uint64
	Foreign         int // segments of a later version
	InFlight        int

	Heartbeats, HeartbeatFailures uint64 // written, and not
	Storage                       bucket.Capabilities
	Destination                   shipper.Destination

	ClockAhead    time.Duration // of this host's clock, of the storage's, if ClockCompared
	ClockCompared bool
}
