package config

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Key is one setting, as the table describes it.
type Key struct {
	Name    string // dotted, as in the file
	Default string // as it would be written
	Doc     string // for the example file
	Flag    string // name of its flag, or empty
	set     func(*Config, string) error
}

// Env is the variable that sets the key.
func (k Key) Env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(k.Name, ".", "_"))
}

const envPrefix = "COLLECTORD_"

// Keys returns the table of all settings, in the order of the example file.
func Keys() []Key { return slices.Clone(keys) }

var keys = []Key{ //nolint:gochecknoglobals // a constant table
	{
		"node", "", "This host's name in object keys: [A-Za-z0-9._-], at most 63 characters.\nEmpty: the host's own name.", "node",
		func(c *Config, s string) error { return setNode(&c.Node, s) },
	},
	{
		"data_dir", "./var", "Where the log lives. One daemon per directory; it must be a local disk.", "data-dir",
		func(c *Config, s string) error { return setText(&c.DataDir, s, true) },
	},

	{
		"http.listen", "localhost:3000", "Where usages are posted: host:port, unix:/path, a list of them, or off.\nlocalhost means 127.0.0.1 and ::1.", "http-listen",
		func(c *Config, s string) error { return setListen(&c.HTTP.Listen, s, "tcp") },
	},
	{
		"http.anonymous", "false", "Whether anyone may post when http.listen can be reached from other hosts.", "",
		func(c *Config, s string) error { return setBool(&c.HTTP.Anonymous, s) },
	},
	{
		"http.max_body", "4MiB", "Size of the largest body as sent, perhaps compressed.", "",
		func(c *Config, s string) error { return setSize(&c.HTTP.MaxBody, s, 1<<10, 64<<20) },
	},
	{
		"http.max_decoded", "16MiB", "Size of the largest body once decoded.", "",
		func(c *Config, s string) error { return setSize(&c.HTTP.MaxDecoded, s, 1<<10, 64<<20) },
	},
	{
		"http.max_record", "1MiB", "Size of the largest usage taken.", "",
		func(c *Config, s string) error { return setSize(&c.HTTP.MaxRecord, s, 1<<10, 16<<20) },
	},
	{
		"http.max_records", "100000", "Usages a request may hold.", "",
		func(c *Config, s string) error { return setInt(&c.HTTP.MaxRecords, s, 1, 1_000_000) },
	},
	{
		"http.max_in_flight", "16MiB", "Size of all bodies held at a time, beyond the first 64 KiB of each; those beyond\nare answered 503.", "",
		func(c *Config, s string) error { return setSize(&c.HTTP.MaxInFlight, s, 1<<20, 1<<30) },
	},
	{
		"http.idempotency_window", "10m", "How long a request with an Idempotency-Key is remembered, so that a repeat stores nothing.", "",
		func(c *Config, s string) error {
			return setDuration(&c.HTTP.IdempotencyWindow, s, time.Second, 24*time.Hour)
		},
	},
	{
		"http.idempotency_keys", "65536", "How many such requests are remembered; about 100 bytes each.", "",
		func(c *Config, s string) error { return setInt(&c.HTTP.IdempotencyKeys, s, 1, 10_000_000) },
	},
	{
		"http.max_connections", "1024", "Connections open at a time; those beyond are answered 503.", "",
		func(c *Config, s string) error { return setInt(&c.HTTP.MaxConnections, s, 1, 1<<20) },
	},
	{
		"http.header_timeout", "5s", "Time for a request's header to arrive.", "",
		func(c *Config, s string) error {
			return setDuration(&c.HTTP.HeaderTimeout, s, 100*time.Millisecond, time.Hour)
		},
	},
	{
		"http.idle_timeout", "75s", "Time a connection may stay open between requests.", "",
		func(c *Config, s string) error { return setDuration(&c.HTTP.IdleTimeout, s, time.Second, time.Hour) },
	},

	{
		"udp.listen", "localhost:3000", "Where datagrams are read: host:port, a list of them, or off.", "udp-listen",
		func(c *Config, s string) error { return setListen(&c.UDP.Listen, s, "udp") },
	},
	{
		"udp.allow", "", "Networks that may send, such as 10.0.0.0/8. Needed beyond loopback. A filter,\nnot a proof of identity: sender addresses can be forged.", "",
		func(c *Config, s string) error { return setPrefixes(&c.UDP.Allow, s) },
	},
	{
		"udp.sockets", "0", "Sockets for each address; 0 means one a core, at most 4.", "",
		func(c *Config, s string) error { return setInt(&c.UDP.Sockets, s, 0, 64) },
	},
	{
		"udp.receive_buffer", "16MiB", "What the kernel keeps for us, of all sockets together. It gives no more than\nnet.core.rmem_max; the log tells when that is less.", "",
		func(c *Config, s string) error { return setSize(&c.UDP.ReceiveBuffer, s, 64<<10, 1<<30) },
	},
	{
		"udp.queue", "8MiB", "Usages held in memory while the disk is busy; those beyond are dropped and counted.", "",
		func(c *Config, s string) error { return setSize(&c.UDP.Queue, s, 64<<10, 1<<30) },
	},

	{
		"admin.listen", "localhost:3001", "Where /metrics, /livez, /readyz and the status page are served: as http.listen.", "admin-listen",
		func(c *Config, s string) error { return setListen(&c.Admin.Listen, s, "tcp") },
	},

	{
		"wal.sync", "always", "When a usage counts as stored: always (after fsync) or interval (a power loss\ncan take the last wal.sync_interval with it).", "",
		func(c *Config, s string) error { return setChoice(&c.WAL.Sync, s, "always", "interval") },
	},
	{
		"wal.sync_interval", "100ms", "How often to fsync with wal.sync: interval.", "",
		func(c *Config, s string) error {
			return setDuration(&c.WAL.SyncInterval, s, time.Millisecond, time.Minute)
		},
	},
	{
		"wal.segment_size", "8MiB", "Size at which a segment is sealed and shipped. Memory is about 1.5 times this,\non top of a constant.", "",
		func(c *Config, s string) error { return setSize(&c.WAL.SegmentSize, s, 1<<20, 256<<20) },
	},
	{
		"wal.seal_after", "60s", "Age at which a segment is sealed and shipped even if it is small.", "seal-after",
		func(c *Config, s string) error {
			return setDuration(&c.WAL.SealAfter, s, 100*time.Millisecond, time.Hour)
		},
	},
	{
		"wal.max_bytes", "4GiB", "Bound on log, spool and quarantine together. When it is reached, usages are refused.", "",
		func(c *Config, s string) error { return setSize(&c.WAL.MaxBytes, s, 4<<20, 1<<50) },
	},
	{
		"wal.min_free", "256MiB", "Space to leave free on the disk. When there is less, usages are refused.", "",
		func(c *Config, s string) error { return setSize(&c.WAL.MinFree, s, 0, 1<<50) },
	},
	{
		"wal.when_full", "reject", "What happens at these bounds: reject (usages are refused) or drop_oldest (the oldest\nsegments are deleted; the bucket is told which).", "",
		func(c *Config, s string) error { return setChoice(&c.WAL.WhenFull, s, "reject", "drop_oldest") },
	},
	{
		"wal.commit_timeout", "30s", "How long a write and fsync may take before its clients are told that it failed.", "",
		func(c *Config, s string) error {
			return setDuration(&c.WAL.CommitTimeout, s, 100*time.Millisecond, time.Hour)
		},
	},

	{
		"shipper.destination", "", "Where objects go: s3://bucket/prefix or file:///path.\nEmpty: the folder archive in data_dir, which is never pruned.", "destination",
		func(c *Config, s string) error { return setDestination(&c.Shipper.Destination, s) },
	},
	{
		"shipper.level", "default", "How hard to compress: fastest, default, better or best.", "",
		func(c *Config, s string) error {
			return setChoice(&c.Shipper.Level, s, "fastest", "default", "better", "best")
		},
	},
	{
		"shipper.concurrency", "2", "Uploads at a time.", "",
		func(c *Config, s string) error { return setInt(&c.Shipper.Concurrency, s, 1, 16) },
	},
	{
		"shipper.s3.endpoint", "", "Storage other than AWS, such as http://minio.example:9000.", "",
		func(c *Config, s string) error { return setText(&c.Shipper.S3.Endpoint, s, false) },
	},
	{
		"shipper.s3.region", "", "Region of the bucket. Empty: the storage is asked.", "",
		func(c *Config, s string) error { return setText(&c.Shipper.S3.Region, s, false) },
	},
	{
		"shipper.s3.path_style", "auto", "Whether the bucket goes into the path of requests: auto, on or off.", "",
		func(c *Config, s string) error { return setChoice(&c.Shipper.S3.PathStyle, s, "auto", "on", "off") },
	},
	{
		"shipper.s3.credentials_file", "", "File with aws_access_key_id and aws_secret_access_key under [default].\nEmpty: the AWS_* variables, then the role of the instance.", "",
		func(c *Config, s string) error { return setText(&c.Shipper.S3.CredentialsFile, s, false) },
	},
	{
		"shipper.s3.ca_file", "", "PEM file with certificates to trust beside the system's.", "",
		func(c *Config, s string) error { return setText(&c.Shipper.S3.CAFile, s, false) },
	},
	{
		"shipper.s3.checksum", "auto", "What the storage verifies on arrival: auto (crc32c, or what it can do), crc32c, md5 or off.", "",
		func(c *Config, s string) error {
			return setChoice(&c.Shipper.S3.Checksum, s, "auto", "crc32c", "md5", "off")
		},
	},

	{
		"shutdown.drain", "300ms", "How long open connections are served on after a stop, so that clients move on.", "",
		func(c *Config, s string) error { return setDuration(&c.Shutdown.Drain, s, 0, time.Minute) },
	},
	{
		"shutdown.grace", "8s", "How long to ship what is left before stopping. What is not shipped stays in the log.", "",
		func(c *Config, s string) error { return setDuration(&c.Shutdown.Grace, s, 0, time.Hour) },
	},

	{
		"log.level", "info", "Least severe lines to print: debug, info, warn or error.", "log-level",
		func(c *Config, s string) error {
			return setChoice(&c.Log.Level, s, "debug", "info", "warn", "error")
		},
	},
	{
		"log.format", "auto", "text, json, or auto: text on a terminal and JSON elsewhere.", "log-format",
		func(c *Config, s string) error { return setChoice(&c.Log.Format, s, "auto", "text", "json") },
	},
}

func setText(to *string, s string, required bool) error {
	if required && s == "" {
		return errors.New("must not be empty")
	}
	*to = s
	return nil
}

var nodeName = regexp.MustCompile(`^[A-Za-z0-9._-]{0,63}$`)

func setNode(to *string, s string) error {
	if !nodeName.MatchString(s) {
		return errors.New("may hold letters, digits, dots, underscores and hyphens, at most 63")
	}
	*to = s
	return nil
}

func setChoice(to *string, s string, choices ...string) error {
	if !slices.Contains(choices, s) {
		return fmt.Errorf("is not one of %s", strings.Join(choices, ", "))
	}
	*to = s
	return nil
}

func setBool(to *bool, s string) error {
	if s != "true" && s != "false" {
		return errors.New("is neither true nor false")
	}
	*to = s == "true"
	return nil
}

func setInt(to *int, s string, least, most int) error {
	n, err := strconv.Atoi(s)
	if err != nil {
		return errors.New("is not a whole number")
	}
	if n < least || n > most {
		return fmt.Errorf("is not between %d and %d", least, most)
	}
	*to = n
	return nil
}

func setDuration(to *time.Duration, s string, least, most time.Duration) error {
	d, err := time.ParseDuration(s)
	if err != nil {
		return errors.New("is not a duration such as 500ms, 5s, 2m or 1h")
	}
	if d < least || d > most {
		return fmt.Errorf("is not between %s and %s", least, most)
	}
	*to = d
	return nil
}

var sizeUnits = map[string]int64{ //nolint:gochecknoglobals // a constant table
	"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
	"kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
}

func setSize(to *int64, s string, least, most int64) error {
	digits := strings.TrimRight(s, "BKMGTik")
	unit, known := sizeUnits[strings.TrimSpace(s[len(digits):])]
	n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
	if err != nil || !known || n < 0 || n > most/unit+1 {
		return errors.New("is not a size such as 65536, 512KiB, 8MiB or 4GiB")
	}
	if n *= unit; n < least || n > most {
		return fmt.Errorf("is not between %d and %d bytes", least, most)
	}
	*to = n
	return nil
}

func setPrefixes(to *[]netip.Prefix, s string) error {
	*to = nil
	for _, part := range splitList(s) {
		p, err := netip.ParsePrefix(part)
		if err != nil {
			return errors.New("is not a list of networks such as 10.0.0.0/8, fd00::/8")
		}
		*to = append(*to, p.Masked())
	}
	return nil
}

func splitList(s string) (parts []string) {
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, part)
		}
	}
	return parts
}

var errListen = errors.New("is not an address such as localhost:3000, 0.0.0.0:3000, [::]:3000, or off")

func setListen(to *[]Address, s, network string) error {
	*to = nil
	parts := splitList(s)
	if len(parts) == 1 && parts[0] == "off" {
		return nil
	}
	if len(parts) == 0 {
		return errListen
	}
	for _, part := range parts {
		if path, ok := strings.CutPrefix(part, "unix:"); ok && network == "tcp" {
			if !filepath.IsAbs(path) || len(path) > 107 { // sun_path in unix(7)
				return errors.New("names a unix socket by other than an absolute path of at most 107 bytes")
			}
			*to = append(*to, Address{Network: "unix", Path: path})
			continue
		}
		host, port, ok := cutPort(part)
		if !ok {
			return errListen
		}
		if host == "localhost" {
			for _, loopback := range []string{"127.0.0.1", "::1"} {
				*to = append(*to, Address{Network: network, IP: netip.AddrPortFrom(netip.MustParseAddr(loopback), port)})
			}
			continue
		}
		ip, err := netip.ParseAddr(host)
		if err != nil {
			return errListen
		}
		*to = append(*to, Address{Network: network, IP: netip.AddrPortFrom(ip, port)})
	}
	return nil
}

func cutPort(s string) (host string, port uint16, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", 0, false
	}
	n, err := strconv.ParseUint(s[i+1:], 10, 16)
	host = s[:i]
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	} else if strings.Contains(host, ":") {
		return "", 0, false
	}
	return host, uint16(n), err == nil
}

var destination = regexp.MustCompile(`^(file:///.*|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9!_.*'()/=-]*)?)$`)

func setDestination(to *string, s string) error {
	if s != "" && !destination.MatchString(s) {
		return errors.New("is neither file:///path nor s3://bucket/prefix")
	}
	*to = s
	return nil
}
