package admin

import "time"

// Status is what the daemon does, for people and programs: GET /status, the status page,
// collectord status and the status line of the service manager are made of it. Names in
// JSON stay what they are; others may be added. Texts are printable and of bounded length.
type Status struct {
	Version string    `json:"version"`
	Node    string    `json:"node"`
	LogID   string    `json:"log_id"` // as in the names of objects; empty while starting
	At      time.Time `json:"at"`
	Since   time.Time `json:"since"` // when the daemon started

	Verdict Verdict  `json:"verdict"`
	Summary string   `json:"summary"`   // the verdict in a sentence
	Reasons []Reason `json:"reasons"`   // for the verdict, the worst first
	Unready []string `json:"not_ready"` // why /readyz answers 503

	WindowSeconds float64          `json:"window_seconds"` // what rates and recent counts are of
	Sources       []SourceStatus   `json:"sources"`
	Commits       CommitStatus     `json:"commits"`
	Backlog       BacklogStatus    `json:"backlog"`
	Fill          FillStatus       `json:"fill"`
	Uploads       UploadStatus     `json:"uploads"`
	Kept          KeptStatus       `json:"kept"`
	Destination   Destination      `json:"destination"`
	Troubles      []Trouble        `json:"troubles"` // those that began last at the end
	PutAsideKnown int              `json:"put_aside_known"`
	PutAside      []PutAside       `json:"put_aside"` // the first hundred
	Ledger        LedgerStatus     `json:"ledger"`
	Connections   ConnectionStatus `json:"connections"`
	Reload        ReloadStatus     `json:"reload"`
	ClientsKnown  int              `json:"clients_known"`
	Clients       []ClientSeen     `json:"clients"` // of them, at most 1,000: see ClientSeen
}

// Verdict answers whether the daemon is fine.
type Verdict string

// Verdicts, the best first.
const (
	Fine     Verdict = "fine"
	Starting Verdict = "starting" // nothing is known yet
	Warning  Verdict = "warning"  // somebody should see to it
	Failing  Verdict = "failing"  // usages are lost or rejected, or will be
)

// Reason is one reason for a verdict.
type Reason struct {
	Verdict Verdict `json:"verdict"` // Warning or Failing
	Name    string  `json:"name"`    // stable, such as "destination" or "full"
	Text    string  `json:"text"`
	Advice  string  `json:"advice"` // what to do; may be empty
}

// SourceStatus is what comes in from one source.
type SourceStatus struct {
	Source    string  `json:"source"`                // "http" or "udp"
	PerSecond float64 `json:"usages_per_second"`     // received, in the window
	Now       float64 `json:"usages_per_second_now"` // received, in the last 10 to 20 s
	// Rejected and Dropped count usages of the window by reason; reasons with none are left out.
	Rejected map[string]uint64 `json:"rejected_recently"`
	Dropped  map[string]uint64 `json:"dropped_recently"`
	// KernelDrops are datagrams that the kernel dropped in the window.
	KernelDrops uint64 `json:"kernel_drops_recently"`
	// AllKernelDrops are those since the sockets were made.
	AllKernelDrops uint64 `json:"kernel_drops"`
}

// CommitStatus is what the log writes. Quantiles are of the window, or of the whole run
// if there was nothing in it; nil: there was nothing at all.
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

// BacklogStatus is what the storage has not confirmed.
type BacklogStatus struct {
	Usages           uint64   `json:"usages"`
	Bytes            int64    `json:"bytes"` // in the log
	OldestSeconds    float64  `json:"oldest_seconds"`
	SecondsUntilFull *float64 `json:"seconds_until_full"` // nil: the log does not fill
}

// FillStatus is how much of wal.max_bytes is used.
type FillStatus struct {
	UsedBytes       int64  `json:"used_bytes"` // log, spool and quarantine
	MaxBytes        int64  `json:"max_bytes"`
	LogBytes        int64  `json:"log_bytes"`
	KeptBytes       int64  `json:"kept_bytes"` // part of the log's; makes way for new segments
	SpoolBytes      int64  `json:"spool_bytes"`
	QuarantineBytes int64  `json:"quarantine_bytes"`
	FreeBytes       *int64 `json:"disk_free_bytes"` // nil: not measured yet
}

// UploadStatus is what goes to the storage. Quantiles are as in CommitStatus.
type UploadStatus struct {
	Objects        uint64            `json:"objects"` // confirmed since the start
	Bytes          uint64            `json:"bytes"`   // of them, as stored
	BytesPerSecond float64           `json:"bytes_per_second"`
	InFlight       int               `json:"in_flight"`
	SegmentsToShip int               `json:"segments_to_ship"` // sealed
	P50            *float64          `json:"upload_p50_seconds"`
	P99            *float64          `json:"upload_p99_seconds"`
	Failures       map[string]uint64 `json:"failures"` // since the start, by kind; kinds with none are left out
	Reshipped      uint64            `json:"reshipped"`
	Vanished       uint64            `json:"vanished"`
}

// KeptStatus is what is kept until the storage was looked at once more.
type KeptStatus struct {
	Segments int    `json:"segments"`
	Bytes    int64  `json:"bytes"`
	CutShort uint64 `json:"cut_short"` // removed early to make room, since the start
}

// Destination is where objects go, and how that works. Times are nil where there is none.
type Destination struct {
	Where        string        `json:"where"`
	LastSuccess  *time.Time    `json:"last_success"` // the storage last took something
	FailingSince *time.Time    `json:"failing_since"`
	Attempts     int           `json:"failed_attempts"` // since then
	Error        *ErrorStatus  `json:"error"`           // of the last attempt; nil: nothing fails
	NextAttempt  *time.Time    `json:"next_attempt"`
	Storage      StorageStatus `json:"storage"`
}

// ErrorStatus is a failure of the storage.
type ErrorStatus struct {
	Kind   string `json:"kind"` // as in collectord_shipper_failures_total
	Text   string `json:"text"`
	Advice string `json:"advice"`
	// Permanent means that it will not go away without somebody doing something.
	Permanent bool `json:"permanent"`
}

// StorageStatus is what the storage was found to do; empty until it answered.
type StorageStatus struct {
	ConditionalPut string `json:"conditional_put"`
	Checksum       string `json:"checksum"`
	Encryption     string `json:"encryption"`
}

// Trouble is something that fails and may be over by itself, as the log of the daemon
// reports it.
type Trouble struct {
	Name    string    `json:"name"`    // the attribute "trouble" of its log lines
	Verdict Verdict   `json:"verdict"` // Warning or Failing, by the level of the line
	Message string    `json:"message"`
	Error   string    `json:"error"`
	Advice  string    `json:"advice"`
	Since   time.Time `json:"since"`
	Last    time.Time `json:"last"`
	Times   int       `json:"times"`
	// Momentary means that no line will say that it is over: it is listed for a while.
	Momentary bool `json:"momentary"`
}

// PutAside is a file or directory that the log put aside, for people to see to.
type PutAside struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

// LedgerStatus is the ledger since the start, by source. It balances:
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

// SourceLedger is the part of the ledger that is kept by source.
type SourceLedger struct {
	Received uint64            `json:"received"`
	Accepted uint64            `json:"accepted"`
	Rejected map[string]uint64 `json:"rejected"` // by reason
	Appended uint64            `json:"appended"`
	Repeated uint64            `json:"repeated"`
	Dropped  map[string]uint64 `json:"dropped"` // by reason
	Waiting  uint64            `json:"waiting"`
}

// ConnectionStatus is the HTTP connections.
type ConnectionStatus struct {
	Open       int    `json:"open"`
	Max        int    `json:"max"`
	TLS        int    `json:"tls"` // of those open
	MaxTLS     int    `json:"max_tls"`
	MadeRoom   uint64 `json:"made_room"`   // closed for others, since the start
	TurnedAway uint64 `json:"turned_away"` // since the start
	// CertificateExpires is nil without TLS.
	CertificateExpires *time.Time `json:"certificate_expires"`
}

// ReloadStatus is how the configuration came into effect.
type ReloadStatus struct {
	OK bool      `json:"ok"` // the last attempt
	At time.Time `json:"at"` // the last that succeeded
}

// ClientSeen is when something of a client that has a name was accepted last. Those that
// have been silent longest come first, those that were never seen, by name, last.
type ClientSeen struct {
	Name     string     `json:"name"`
	LastSeen *time.Time `json:"last_seen"` // nil: never since the start
	Usages   uint64     `json:"usages"`    // stored since the start
}
