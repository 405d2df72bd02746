package admin

import (
	"time"

	"collectord/collectord/auth"
	"collectord/collectord/histogram"
	"collectord/shipper"
	"collectord/shipper/bucket"
	"collectord/wal"
)

// Snapshot contains all figures of the daemon at one moment.
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

	Troubles map[string]bool // all possible troubles by name; true if open

	ClockWrong bool // the host's clock is known to be wrong
}

// LoggerSnapshot counts the lines missing in the daemon's log.
type LoggerSnapshot struct {
	Full   uint64 // dropped because the queue was full: standard error was not read fast enough
	Failed uint64 // could not be written
}

// ReloadSnapshot is the result of loading the configuration. The start counts as a
// reload.
type ReloadSnapshot struct {
	OK bool      // the last attempt succeeded
	At time.Time // time of the last successful attempt
}

// HTTPSnapshot contains the figures of the HTTP server that are not in the ledger.
type HTTPSnapshot struct {
	Requests    map[int]uint64                 // by status code
	Seconds     map[int]histogram.Distribution // by the first digit of the status code: 2, 4, 5
	Connections int

	MaxConnections    int // as configured, or fewer if there are too few file descriptors
	TLSConnections    int
	MaxTLSConnections int // at most MaxConnections

	ClosedForRoom map[string]uint64 // connections closed to make room, by what they were doing
	Refused       uint64            // connections refused with 503
	ReadsDelayed  uint64

	ClosedForMemory uint64 // connections of strangers closed because the control group had little memory left
	AcceptsDelayed  uint64 // times that no connection was accepted for a while

	LoopTurns histogram.Distribution // in seconds

	HandshakeFailures  map[string]uint64 // by reason
	CertificateExpires float64           // Unix time in seconds; +Inf without a certificate
}

// UDPSnapshot contains the figures of the UDP server that are not in the ledger.
type UDPSnapshot struct {
	Datagrams     uint64
	Bytes         uint64
	KernelDrops   uint64 // datagrams dropped because a receive buffer was full
	ReceiveBuffer int    // total size in bytes
	Batches       histogram.Distribution
}

// ShipperSnapshot contains the figures of the shipper that are not in the ledger.
type ShipperSnapshot struct {
	Objects         uint64 // confirmed by the storage
	RawBytes        uint64 // bytes of the lines in those objects
	CompressedBytes uint64
	UploadSeconds   histogram.Distribution
	Failures        map[string]uint64 // by kind
	Conflicts       uint64
	Reshipped       uint64 // segments that the storage lost and confirmed again
	Vanished        uint64 // confirmed segments that the storage lost, and that are not shipped again
	Salvaged        uint64
	Foreign         int // segments written by a later version
	InFlight        int

	Heartbeats, HeartbeatFailures uint64 // heartbeats written, and heartbeats that could not be written
	Storage                       bucket.Capabilities
	Destination                   shipper.Destination

	ClockAhead    time.Duration // offset of the host's clock from the storage's; valid if ClockCompared
	ClockCompared bool
}
