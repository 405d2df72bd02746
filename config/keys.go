package config

import (
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Key is one setting of the table of keys.
type Key struct {
	Name    string // with its sections, separated by dots
	Default string // as the file would contain it
	Doc     string // for the example file and the manual page
	Flag    string // name of the flag, or empty
	Live    bool   // a reload changes the value; other keys need a restart
	value   value  // which texts are valid, and which field of Config they set
}

// Env returns the name of the variable that sets the key.
func (k Key) Env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(k.Name, ".", "_"))
}

// Kind describes the valid values, such as "a size from 1MiB to 256MiB".
func (k Key) Kind() string { return k.value.kind }

const envPrefix = "COLLECTORD_"

// These are the values of Key.Live.
const (
	live    = true
	restart = false
)

// Keys returns the table of all settings, in the order of the example file.
func Keys() []Key { return slices.Clone(keys) }

func findKey(name string) (Key, bool) {
	i := slices.IndexFunc(keys, func(k Key) bool { return k.Name == name })
	if i < 0 {
		return Key{}, false
	}
	return keys[i], true
}

// keys is the table of all settings. Limits that are part of the format of a segment or
// an object, such as the depth of a usage or the size of a frame, are constants instead,
// because readers rely on them.
var keys = []Key{ //nolint:gochecknoglobals // a constant table
	{
		"node", "", "This host's name in object keys: [A-Za-z0-9._-], at most 63 characters, not beginning with . or _.\nEmpty: the host's own name.",
		"node", restart, node(func(c *Config) *string { return &c.Node }),
	},
	{
		"data_dir", "./var", "Directory of the log, on a local disk. Each daemon needs a directory of its own.",
		"data-dir", restart, path(func(c *Config) *string { return &c.DataDir }),
	},

	{
		"http.listen", "localhost:3000", "Where usages are accepted over HTTP: host:port, unix:/path, a list of them, or off.\nlocalhost means those of 127.0.0.1 and ::1 that the host has, 0.0.0.0 is IPv4 only,\n[::] is IPv6 only, and :3000 or *:3000 is both.",
		"http-listen", restart, addresses("tcp", func(c *Config) *[]Address { return &c.HTTP.Listen }),
	},
	{
		"http.anonymous", "false", "Whether clients may send without a token or certificate. By default they may, as long\nas neither http.tokens_file nor http.tls.client_ca is set, and http.listen can be\nreached from this host only.",
		"http-anonymous", live, yesNo(func(c *Config) *bool { return &c.HTTP.Anonymous }),
	},
	{
		"http.tokens_file", "", "File with the bearer tokens of clients, a line each: NAME sha256:HEX [rate=N], as\ncollectord token new prints it; N is in usages a second. A name without a slash is\nlooked up in $CREDENTIALS_DIRECTORY, if systemd has set it (LoadCredential=).",
		"http-tokens-file", live, file(func(c *Config) *string { return &c.HTTP.TokensFile }),
	},
	{
		"http.tls.cert", "", "PEM file with the certificate of http.listen, and the intermediate certificates. If it\nis set, TCP connections need TLS 1.2 or later; unix sockets have no TLS.",
		"", live, file(func(c *Config) *string { return &c.HTTP.TLS.Cert }),
	},
	{
		"http.tls.key", "", "PEM file with the private key of http.tls.cert. The file may be a\nsystemd credential, like http.tokens_file.",
		"", live, file(func(c *Config) *string { return &c.HTTP.TLS.Key }),
	},
	{
		"http.tls.client_ca", "", "PEM file with certificate authorities: one of them must have signed the certificate\nthat a client presents over TLS. Its first DNS name, or without one its common name,\nbecomes the name of the client, if it is [A-Za-z0-9._-] of at most 63 characters.",
		"", live, file(func(c *Config) *string { return &c.HTTP.TLS.ClientCA }),
	},
	{
		"http.origins", "", "Origins whose web pages may send usages without a token, in addition to origins of the\nhost in the Host header: https://app.example:8443, or \"null\" (in quotes) or file:// for pages\nin files. Every site can make a page whose origin is null.",
		"", live, origins(func(c *Config) *[]string { return &c.HTTP.Origins }),
	},
	{
		"http.hosts", "", "Names or addresses that the Host header may contain, in addition to localhost and loopback\naddresses. They matter on a loopback address of http.listen that needs no token: list the\nname that a proxy on this host passes on.",
		"", live, hosts(func(c *Config) *[]string { return &c.HTTP.Hosts }),
	},
	{
		"http.problem_base", "docs/problems.md", "Where your clients find docs/problems.md: a URL, or a path. The type of each problem\n(RFC 9457) links to a paragraph there.",
		"", restart, reference(func(c *Config) *string { return &c.HTTP.ProblemBase }),
	},
	{
		"http.socket_mode", "0660", "Permissions of unix sockets in http.listen, in octal. Users with write permission can send.",
		"", restart, mode(func(c *Config) *fs.FileMode { return &c.HTTP.SocketMode }),
	},
	{
		"http.socket_group", "", "Group of unix sockets in http.listen: a name or number. Empty: that of the process.",
		"", restart, group(func(c *Config) *int { return &c.HTTP.SocketGroup }),
	},
	{
		"http.max_body", "4MiB", "Size of the largest body as sent, perhaps compressed.",
		"", restart, size(1<<10, 64<<20, func(c *Config) *int64 { return &c.HTTP.MaxBody }),
	},
	{
		"http.max_decoded", "16MiB", "Size of the largest body once decoded.",
		"", restart, size(1<<10, 64<<20, func(c *Config) *int64 { return &c.HTTP.MaxDecoded }),
	},
	{
		"http.max_record", "1MiB", "Size of the largest usage accepted, over HTTP and UDP.",
		"", live, size(1<<10, 16<<20, func(c *Config) *int64 { return &c.HTTP.MaxRecord }),
	},
	{
		"http.max_records", "100000", "Usages that a request may contain.",
		"", restart, count(1, 1_000_000, func(c *Config) *int { return &c.HTTP.MaxRecords }),
	},
	{
		"http.max_in_flight", "16MiB", "Memory for all request bodies together. The first 4 KiB of each body do not count.\nThe first 64 KiB are taken from a shared 2 MiB while it lasts. Bodies beyond the limit are\nanswered 503.",
		"", restart, size(1<<20, 1<<30, func(c *Config) *int64 { return &c.HTTP.MaxInFlight }),
	},
	{
		"http.idempotency_window", "10m", "How long a request with an Idempotency-Key is remembered, so that a repeat stores nothing.",
		"", restart, duration(time.Second, 24*time.Hour, func(c *Config) *time.Duration { return &c.HTTP.IdempotencyWindow }),
	},
	{
		"http.idempotency_keys", "65536", "How many requests with an Idempotency-Key are remembered; about 100 bytes each.",
		"", restart, count(1, 10_000_000, func(c *Config) *int { return &c.HTTP.IdempotencyKeys }),
	},
	{
		"http.max_header", "8KiB", "Size of the largest request header accepted. Each TLS connection has memory for one; the\nother connections share 16 MiB.",
		"", restart, size(1<<10, 64<<10, func(c *Config) *int64 { return &c.HTTP.MaxHeader }),
	},
	{
		"http.rate", "0", "Usages a second of all clients together; those beyond are answered 429. 0: no limit.",
		"", live, count(0, 1<<30, func(c *Config) *int { return &c.HTTP.Rate }),
	},
	{
		"http.burst", "0", "Usages accepted at once after a pause, before http.rate applies. 0: what the rate gives\nin a second. A larger batch is accepted too; after it nothing is accepted for the time that\nit takes at this rate.",
		"", live, count(0, 1<<30, func(c *Config) *int { return &c.HTTP.Burst }),
	},
	{
		"http.max_connections", "10000", "Connections open at a time. If one more comes, another is closed: first the oldest that\nhas not sent an authenticated request yet (or, if no tokens are configured, has not stored a\nusage yet). If there is none, the one that has been idle longest is closed. If none can be\nclosed, the new one is answered 503. If the limit of open files is low, fewer may be open; the\nlog reports it.",
		"", live, count(1, 1<<20, func(c *Config) *int { return &c.HTTP.MaxConnections }),
	},
	{
		"http.max_tls_connections", "1024", "TLS connections open at a time; each takes about 40 KiB. If one more comes, another TLS\nconnection is closed.",
		"", live, count(1, 1<<20, func(c *Config) *int { return &c.HTTP.MaxTLSConnections }),
	},
	{
		"http.header_timeout", "5s", "Time for a request's header to arrive.",
		"", live, duration(100*time.Millisecond, time.Hour, func(c *Config) *time.Duration { return &c.HTTP.HeaderTimeout }),
	},
	{
		"http.body_rate", "1KiB/s", "How fast a request's body must arrive on average once http.body_grace has passed.",
		"", live, rate(1, 1<<30, func(c *Config) *int64 { return &c.HTTP.BodyRate }),
	},
	{
		"http.body_grace", "5s", "How long a request's body may be slower than http.body_rate.",
		"", live, duration(100*time.Millisecond, time.Hour, func(c *Config) *time.Duration { return &c.HTTP.BodyGrace }),
	},
	{
		"http.answer_timeout", "10s", "Time for a client to read an answer.",
		"", live, duration(100*time.Millisecond, time.Hour, func(c *Config) *time.Duration { return &c.HTTP.AnswerTimeout }),
	},
	{
		"http.idle_timeout", "75s", "Time a connection may stay open between requests.",
		"", live, duration(time.Second, time.Hour, func(c *Config) *time.Duration { return &c.HTTP.IdleTimeout }),
	},

	{
		"udp.listen", "localhost:3000", "Where datagrams are read: host:port as in http.listen, a list of them, or off.",
		"udp-listen", restart, addresses("udp", func(c *Config) *[]Address { return &c.UDP.Listen }),
	},
	{
		"udp.allow", "", "Networks that may send, such as 10.0.0.0/8. Needed if other hosts can reach udp.listen.\nThis is a filter, not a proof of identity: sender addresses can be forged.",
		"udp-allow", live, networks(func(c *Config) *[]netip.Prefix { return &c.UDP.Allow }),
	},
	{
		"udp.max_datagram", "64KiB", "Size of the largest datagram read; longer ones are rejected as truncated.\nThe default accepts whatever UDP can carry.",
		"", restart, size(512, 64<<10, func(c *Config) *int64 { return &c.UDP.MaxDatagram }),
	},
	{
		"udp.sockets", "0", "Sockets for each address; 0 means one a core, at most 4.",
		"", restart, count(0, 64, func(c *Config) *int { return &c.UDP.Sockets }),
	},
	{
		"udp.receive_buffer", "16MiB", "Size of the kernel's receive buffers, of all sockets together. The kernel gives no more\nthan net.core.rmem_max; if that is less, the log reports it.",
		"", restart, size(64<<10, 1<<30, func(c *Config) *int64 { return &c.UDP.ReceiveBuffer }),
	},
	{
		"udp.queue", "8MiB", "Memory for usages while the disk is busy. Usages beyond it are rejected and counted.",
		"", live, size(64<<10, 1<<30, func(c *Config) *int64 { return &c.UDP.Queue }),
	},

	{
		"admin.listen", "localhost:3001", "Where /metrics, /livez, /readyz and the status page are served: addresses as in http.listen.\nOnly its owner can use a unix socket.",
		"admin-listen", restart, addresses("tcp", func(c *Config) *[]Address { return &c.Admin.Listen }),
	},

	{
		"wal.sync", "always", "When a usage counts as stored: always (after fsync) or interval (a power loss\ncan lose the usages of the last wal.sync_interval).",
		"", restart, choice(func(c *Config) *string { return &c.WAL.Sync }, "always", "interval"),
	},
	{
		"wal.sync_interval", "100ms", "How often to fsync with wal.sync: interval.",
		"", restart, duration(time.Millisecond, time.Minute, func(c *Config) *time.Duration { return &c.WAL.SyncInterval }),
	},
	{
		"wal.segment_size", "64MiB", "Size at which a segment is sealed and shipped. A size above a 32nd of\nwal.max_bytes is lowered to that, but not below 4MiB. In addition to wal.max_bytes, up\nto twice this size is reserved on the disk. The part of it that recent segments filled is\nwritten in advance. Memory does not depend on the size.",
		"", restart, size(1<<20, 256<<20, func(c *Config) *int64 { return &c.WAL.SegmentSize }),
	},
	{
		"wal.seal_after", "60s", "Age at which a segment is sealed and shipped once it contains 8 MiB.",
		"seal-after", live, duration(100*time.Millisecond, time.Hour, func(c *Config) *time.Duration { return &c.WAL.SealAfter }),
	},
	{
		"wal.seal_small_after", "", "Age at which a segment of any size is sealed and shipped: how old usages become on a quiet\nhost before they are shipped. Empty: 5m, or wal.seal_after if that is not 60s.",
		"seal-small-after", live, durationOr(100*time.Millisecond, time.Hour, func(c *Config) *time.Duration { return &c.WAL.SealSmallAfter }),
	},
	{
		"wal.max_bytes", "4GiB", "Limit of log, spool and quarantine together. wal.when_full sets what happens at the limit.",
		"max-bytes", live, size(4<<20, 1<<50, func(c *Config) *int64 { return &c.WAL.MaxBytes }),
	},
	{
		"wal.min_free", "256MiB", "Space to leave free on the disk. wal.when_full sets what happens when there is less.",
		"", live, size(0, 1<<50, func(c *Config) *int64 { return &c.WAL.MinFree }),
	},
	{
		"wal.when_full", "reject", "What happens at these limits: reject (usages are rejected) or drop_oldest (the oldest\nsegments are deleted, and a note in the bucket names them).",
		"", live, choice(func(c *Config) *string { return &c.WAL.WhenFull }, "reject", "drop_oldest"),
	},
	{
		"wal.commit_timeout", "30s", "How long a write and fsync may take before its clients get an error.",
		"", live, duration(100*time.Millisecond, time.Hour, func(c *Config) *time.Duration { return &c.WAL.CommitTimeout }),
	},
	{
		"wal.probe_min", "1s", "Time between a failure of the disk and the next attempt. It doubles with each failure.",
		"", live, duration(10*time.Millisecond, time.Hour, func(c *Config) *time.Duration { return &c.WAL.ProbeMin }),
	},
	{
		"wal.probe_max", "30s", "Longest time between two attempts. The time starts at wal.probe_min and doubles up to this.",
		"", live, duration(10*time.Millisecond, time.Hour, func(c *Config) *time.Duration { return &c.WAL.ProbeMax }),
	},

	{
		"shipper.destination", "", "Where objects go: s3://bucket/prefix or file:///path.\nEmpty: the folder archive in data_dir, which is never pruned.",
		"destination", restart, destination(func(c *Config) *string { return &c.Shipper.Destination }),
	},
	{
		"shipper.level", "default", "How hard to compress: fastest, default, better or best.",
		"", restart, choice(func(c *Config) *string { return &c.Shipper.Level }, "fastest", "default", "better", "best"),
	},
	{
		"shipper.concurrency", "2", "Uploads at a time.",
		"", live, count(1, 16, func(c *Config) *int { return &c.Shipper.Concurrency }),
	},
	{
		"shipper.bandwidth", "0", "What all uploads together may send, such as 2MiB/s. 0: no limit. Reads that\ncheck stored objects have the same limit.",
		"", live, rateOrNone(1<<10, 1<<40, func(c *Config) *int64 { return &c.Shipper.Bandwidth }),
	},
	{
		"shipper.keep", "5m", "How long a segment stays on this host after the storage has confirmed it. Then the\ndaemon checks that the storage still has the object, and if not, ships the segment again.\nKept segments make room for new ones. 0: a segment is removed at once. For a folder this is\nalways 0, because a folder is synced.",
		"", live, duration(0, 12*time.Hour, func(c *Config) *time.Duration { return &c.Shipper.Keep }),
	},
	{
		"shipper.stall_timeout", "1m", "How long the storage may neither acknowledge nor answer anything before an upload is\ngiven up and tried again. The time of the whole upload is not limited.",
		"", live, duration(100*time.Millisecond, time.Hour, func(c *Config) *time.Duration { return &c.Shipper.StallTimeout }),
	},
	{
		"shipper.retry_min", "1s", "Limit of the random delay between a failed upload and the next attempt. It doubles with\neach failure.",
		"", live, duration(10*time.Millisecond, time.Hour, func(c *Config) *time.Duration { return &c.Shipper.RetryMin }),
	},
	{
		"shipper.retry_max", "1m", "What that limit doubles up to, beginning with shipper.retry_min.",
		"", live, duration(10*time.Millisecond, time.Hour, func(c *Config) *time.Duration { return &c.Shipper.RetryMax }),
	},
	{
		"shipper.retry_max_permanent", "5m", "Greatest value of that limit while uploads fail for a reason that an operator has to\ncorrect, such as missing permissions.",
		"", live, duration(10*time.Millisecond, 24*time.Hour, func(c *Config) *time.Duration { return &c.Shipper.RetryMaxPermanent }),
	},
	{
		"shipper.heartbeat", "5m", "How often this host's heartbeat is replaced if something has changed; else once an hour.\nThe heartbeat is a small object under _collectord/nodes/. collectord audit needs it to name\nrecords that never arrived. 0: no heartbeat.",
		"", live, duration(0, 24*time.Hour, func(c *Config) *time.Duration { return &c.Shipper.Heartbeat }),
	},
	{
		"shipper.s3.endpoint", "", "Storage other than AWS, such as https://minio.example:9000.",
		"s3-endpoint", restart, endpoint(func(c *Config) *string { return &c.Shipper.S3.Endpoint }),
	},
	{
		"shipper.s3.region", "", "Region of the bucket. Empty: the storage is asked.",
		"s3-region", restart, word(func(c *Config) *string { return &c.Shipper.S3.Region }),
	},
	{
		"shipper.s3.path_style", "auto", "Whether the path of requests contains the bucket: auto, on or off.",
		"", restart, choice(func(c *Config) *string { return &c.Shipper.S3.PathStyle }, "auto", "on", "off"),
	},
	{
		"shipper.s3.credentials_file", "", "File with aws_access_key_id and aws_secret_access_key under [default], read again when\nit changes. Empty: the systemd credential s3-credentials, then the AWS_* variables,\nthen the role of the instance.",
		"", restart, file(func(c *Config) *string { return &c.Shipper.S3.CredentialsFile }),
	},
	{
		"shipper.s3.ca_file", "", "PEM file with certificates to trust beside the system's.",
		"", restart, file(func(c *Config) *string { return &c.Shipper.S3.CAFile }),
	},
	{
		"shipper.s3.checksum", "auto", "Checksum that the storage verifies on arrival: auto (the first of crc32c, md5 and sha256\nthat it is found to verify), off, or one of crc32c, md5 and sha256 (nothing is shipped\nunless the storage verifies it).",
		"", restart, choice(func(c *Config) *string { return &c.Shipper.S3.Checksum }, "auto", "crc32c", "md5", "sha256", "off"),
	},
	{
		"shipper.s3.proof", "auto", "When an object counts as stored: auto (the answer contains its checksum or MD5, or a\nlook at the object confirms it) or off: an answer of 200 is enough. With\noff, the daemon checks only once after its start that the storage returns a small object. If\nsomething else answers 200 later, data is lost.",
		"", restart, choice(func(c *Config) *string { return &c.Shipper.S3.Proof }, "auto", "off"),
	},
	{
		"shipper.s3.sse", "", "Encryption at rest by the storage: s3, kms, or kms:KEY with the id of a key.\nEmpty: as the bucket is set up.",
		"", restart, sse(func(c *Config) *string { return &c.Shipper.S3.SSE }),
	},
	{
		"shipper.s3.sse_unconfirmed", "reject", "What to do if the storage does not confirm that it encrypts as shipper.s3.sse requires:\nreject (nothing is sent) or accept (for a gateway that encrypts without confirming it).",
		"", restart, choice(func(c *Config) *string { return &c.Shipper.S3.SSEUnconfirmed }, "reject", "accept"),
	},
	{
		"shipper.s3.storage_class", "", "Storage class of the objects, such as STANDARD_IA. Empty: the bucket's default.",
		"", restart, word(func(c *Config) *string { return &c.Shipper.S3.StorageClass }),
	},

	{
		"shutdown.drain", "300ms", "How long open connections are still served after a stop, so that clients can close them.",
		"", live, duration(0, time.Minute, func(c *Config) *time.Duration { return &c.Shutdown.Drain }),
	},
	{
		"shutdown.requests", "5s", "How long to wait after shutdown.drain for requests in progress.",
		"", live, duration(0, time.Hour, func(c *Config) *time.Duration { return &c.Shutdown.Requests }),
	},
	{
		"shutdown.datagrams", "2s", "How long to read the datagrams that are still in the kernel.",
		"", live, duration(0, time.Minute, func(c *Config) *time.Duration { return &c.Shutdown.Datagrams }),
	},
	{
		"shutdown.seal", "5s", "How long to wait for the last commit and the last segment.",
		"", live, duration(100*time.Millisecond, time.Hour, func(c *Config) *time.Duration { return &c.Shutdown.Seal }),
	},
	{
		"shutdown.grace", "8s", "How long to ship what is left before stopping. What is not shipped stays in the log.",
		"shutdown-grace", live, duration(0, time.Hour, func(c *Config) *time.Duration { return &c.Shutdown.Grace }),
	},

	{
		"log.level", "info", "Least severe lines to print: debug, info, warn or error.",
		"log-level", live, choice(func(c *Config) *string { return &c.Log.Level }, "debug", "info", "warn", "error"),
	},
	{
		"log.format", "auto", "text, json, or auto: text on a terminal and JSON elsewhere.",
		"log-format", restart, choice(func(c *Config) *string { return &c.Log.Format }, "auto", "text", "json"),
	},
}
