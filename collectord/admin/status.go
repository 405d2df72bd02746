package admin

import "time"

// Status is the state of the daemon, for people and programs. GET /status, the status
// page, the command collectord status and the status line of the service manager use
// it. Names in JSON are stable; new ones may be added. Texts are printable and of
// limited length.
type Status struct {
	Version string    `json:"version"`
	Node    string    `json:"node"`
	LogID   string    `json:"log_id"` // as in the names of objects; empty while the daemon starts
	At      time.Time `json:"at"`
	Since   time.Time `json:"since"` // when the daemon started

	Verdict Verdict  `json:"verdict"`
	Summary string   `json:"summary"`   // the verdict as a sentence
	Reasons []Reason `json:"reasons"`   // reasons for the verdict, the worst first
	Unready []string `json:"not_ready"` // why /readyz responds with 503

	WindowSeconds float64          `json:"window_seconds"` // period of the rates and recent counts
	Sources       []SourceStatus   `json:"sources"`
	Commits       CommitStatus     `json:"commits"`
	Backlog       BacklogStatus    `json:"backlog"`
	Fill          FillStatus       `json:"fill"`
	Uploads       UploadStatus     `json:"uploads"`
	Kept          KeptStatus       `json:"kept"`
	Destination   Destination      `json:"destination"`
	Troubles      []Trouble        `json:"troubles"` // sorted by start, the latest last
	PutAsideKnown int              `json:"put_aside_known"`
	PutAside      []PutAside       `json:"put_aside"` // limited to 100
	Ledger        LedgerStatus     `json:"ledger"`
	Connections   ConnectionStatus `json:"connections"`
	Reload        ReloadStatus     `json:"reload"`
	ClientsKnown  int              `json:"clients_known"`
	Clients       []ClientSeen     `json:"clients"` // limited to 1,000, in the order of ClientSeen
}

// Verdict is the health of the daemon.
type Verdict string

// Verdicts, the best first.
const (
	Fine     Verdict = "fine"
	Starting Verdict = "starting" // no figures yet
	Warning  Verdict = "warning"  // needs attention
	Failing  Verdict = "failing"  // usages are lost or rejected, or will be
)

// Reason is one reason for a Verdict.
type Reason struct {
	Verdict Verdict `json:"verdict"` // Warning or Failing
	Name    string  `json:"name"`    // a stable name, such as "destination" or "full"
	Text    string  `json:"text"`
	Advice  string  `json:"advice"` // what to do; may be empty
}

// SourceStatus is the rate of incoming usages and the losses of one source.
type SourceStatus struct {
	Source    string  `json:"source"`                // "http" or "udp"
	PerSecond float64 `json:"usages_per_second"`     // received, in the window
	Now       float64 `json:"usages_per_second_now"` // received, in the last 10 to 20 seconds
	// Rejected and Dropped count usages in the window by reason, without reasons that
	// did not occur.
	Rejected map[string]uint64 `json:"rejected_recently"`
	Dropped  map[string]uint64 `json:"dropped_recently"`
	// KernelDrops counts datagrams that the kernel dropped in the window.
	KernelDrops uint64 `json:"kernel_drops_recently"`
	// AllKernelDrops counts datagrams that the kernel dropped since the sockets were
	// created.
	AllKernelDrops uint64 `json:"kernel_drops"`
}

// CommitStatus contains the figures of commits to the log. Quantiles cover the window,
// or the whole run if there was no commit in the window. They are nil if there was no
// commit at all.
type CommitStatus struct {
	PerSecond float64  `json:"commits_per_second"`
	Usages    float64  `json:"usages_per_commit"`
	Bytes     float64  `json:"bytes_per_commit"`
	P50       *float64 `json:"commit_p50_seconds"`
	P99       *float64 `json:"commit_p99_seconds"`
	FsyncP50  *float64 `json:"fsync_p50_seconds"`
	FsyncP99  *float64 `json:"fsync_p99_seconds"`
	Errors    uint64   `json:"errors"` // since the start
}

// BacklogStatus describes the usages that the storage has not confirmed.
type BacklogStatus struct {
	Usages           uint64   `json:"usages"`
	Bytes            int64    `json:"bytes"` // in the log
	OldestSeconds    float64  `json:"oldest_seconds"`
	SecondsUntilFull *float64 `json:"seconds_until_full"` // nil: the log does not fill
}

// FillStatus is the use of wal.max_bytes.
type FillStatus struct {
	UsedBytes       int64  `json:"used_bytes"` // log, spool and quarantine
	MaxBytes        int64  `json:"max_bytes"`
	LogBytes        int64  `json:"log_bytes"`
	KeptBytes       int64  `json:"kept_bytes"` // included in LogBytes; removed when new segments need the space
	SpoolBytes      int64  `json:"spool_bytes"`
	QuarantineBytes int64  `json:"quarantine_bytes"`
	FreeBytes       *int64 `json:"disk_free_bytes"` // nil: not measured yet
}

// UploadStatus contains the figures of uploads. Quantiles are as in CommitStatus.
type UploadStatus struct {
	Objects        uint64            `json:"objects"` // confirmed since the start
	Bytes          uint64            `json:"bytes"`   // compressed size of these objects
	BytesPerSecond float64           `json:"bytes_per_second"`
	InFlight       int               `json:"in_flight"`
	SegmentsToShip int               `json:"segments_to_ship"` // sealed segments that wait for upload
	P50            *float64          `json:"upload_p50_seconds"`
	P99            *float64          `json:"upload_p99_seconds"`
	Failures       map[string]uint64 `json:"failures"` // since the start, by kind; without kinds that did not occur
	Reshipped      uint64            `json:"reshipped"`
	Vanished       uint64            `json:"vanished"`
}

// KeptStatus describes the confirmed segments that are kept until the storage was
// checked again (shipper.keep).
type KeptStatus struct {
	Segments int    `json:"segments"`
	Bytes    int64  `json:"bytes"`
	CutShort uint64 `json:"cut_short"` // removed before shipper.keep had passed, to make room; since the start
}

// Destination is the storage that receives the objects, and its state. A time is nil if
// there is none.
type Destination struct {
	Where        string        `json:"where"`
	LastSuccess  *time.Time    `json:"last_success"` // the last time that the storage accepted a request
	FailingSince *time.Time    `json:"failing_since"`
	Attempts     int           `json:"failed_attempts"` // since FailingSince
	Error        *ErrorStatus  `json:"error"`           // of the last attempt; nil: no failure
	NextAttempt  *time.Time    `json:"next_attempt"`
	SilentSince  *time.Time    `json:"silent_since"` // a request has been acknowledged and answered by nothing since then
	Storage      StorageStatus `json:"storage"`
}

// ErrorStatus is an error of the storage.
type ErrorStatus struct {
	Kind   string `json:"kind"` // as in collectord_shipper_failures_total
	Text   string `json:"text"`
	Advice string `json:"advice"`
	// Permanent means that the error persists until an operator acts.
	Permanent bool `json:"permanent"`
}

// StorageStatus is the detected capabilities of the storage. Its fields are empty until
// the storage has responded.
type StorageStatus struct {
	ConditionalPut string `json:"conditional_put"`
	Checksum       string `json:"checksum"`
	Encryption     string `json:"encryption"`
}

// Trouble is a failure that may end without action, as reported in the daemon's log.
type Trouble struct {
	Name    string    `json:"name"`    // the attribute "trouble" of its log lines
	Verdict Verdict   `json:"verdict"` // Warning or Failing, depending on the level of the log line
	Message string    `json:"message"`
	Error   string    `json:"error"`
	Advice  string    `json:"advice"`
	Since   time.Time `json:"since"`
	Last    time.Time `json:"last"`
	Times   int       `json:"times"`
	// Momentary means that no log line reports its end. Such a trouble is listed for a
	// limited time.
	Momentary bool `json:"momentary"`
}

// PutAside is a file or directory that the log moved to the quarantine or left in
// place, for an operator to inspect.
type PutAside struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

// LedgerStatus is the ledger since the start. Its first two equations hold per source:
//
//	received = accepted + rejected
//	accepted = appended + repeated + dropped + waiting
//	appended + recovered = pending + shipped + quarantined + evicted
type LedgerStatus struct {
	HTTP        SourceLedger `json:"http"`
	UDP         SourceLedger `json:"udp"`
	Recovered   uint64       `json:"recovered"`
	Pending     uint64       `json:"pending"`
	Shipped     uint64       `json:"shipped"`
	Quarantined uint64       `json:"quarantined"`
	Evicted     uint64       `json:"evicted"`
}

// SourceLedger is the part of the ledger that is counted per source.
type SourceLedger struct {
	Received uint64            `json:"received"`
	Accepted uint64            `json:"accepted"`
	Rejected map[string]uint64 `json:"rejected"` // by reason
	Appended uint64            `json:"appended"`
	Repeated uint64            `json:"repeated"`
	Dropped  map[string]uint64 `json:"dropped"` // by reason
	Waiting  uint64            `json:"waiting"`
}

// ConnectionStatus contains the figures of HTTP connections.
type ConnectionStatus struct {
	Open          int    `json:"open"`
	Max           int    `json:"max"`
	TLS           int    `json:"tls"` // included in Open
	MaxTLS        int    `json:"max_tls"`
	ClosedForRoom uint64 `json:"made_room"`   // closed to make room for others, since the start
	Refused       uint64 `json:"turned_away"` // refused with 503, since the start
	// CertificateExpires is nil without TLS.
	CertificateExpires *time.Time `json:"certificate_expires"`
}

// ReloadStatus is the result of loading the configuration.
type ReloadStatus struct {
	OK bool      `json:"ok"` // the last attempt succeeded
	At time.Time `json:"at"` // time of the last successful attempt
}

// ClientSeen is the last accepted request of a named client. Clients are sorted by
// LastSeen, the longest ago first. Clients that were never seen come last, sorted by
// name.
type ClientSeen struct {
	Name     string     `json:"name"`
	LastSeen *time.Time `json:"last_seen"` // nil: never since the start
	Usages   uint64     `json:"usages"`    // stored since the start
}
