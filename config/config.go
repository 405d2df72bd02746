package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/pflag"
)

// Config contains every setting, parsed and checked. Sizes are in bytes.
type Config struct {
	Node     string
	DataDir  string // absolute
	HTTP     HTTP
	UDP      UDP
	Admin    Admin
	WAL      WAL
	Shipper  Shipper
	Shutdown Shutdown
	Log      Log

	raw map[string]string // effective values as text, by key
}

// HTTP contains the settings of the HTTP server.
type HTTP struct {
	Listen                     []Address
	Anonymous                  bool
	TokensFile                 string
	TLS                        TLS
	Origins                    []string // as browsers send them
	Hosts                      []string // in lower case, without ports or brackets
	ProblemBase                string   // a URI reference without a fragment
	SocketMode                 fs.FileMode
	SocketGroup                int // a gid, or -1
	MaxBody, MaxDecoded        int64
	MaxRecord, MaxHeader       int64
	MaxRecords                 int
	MaxInFlight                int64
	IdempotencyWindow          time.Duration
	IdempotencyKeys            int
	MaxConnections             int
	MaxTLSConnections          int
	HeaderTimeout, IdleTimeout time.Duration
	BodyRate                   int64 // bytes a second
	BodyGrace, AnswerTimeout   time.Duration
	Rate, Burst                int // usages a second; usages
}

// TLS contains the paths of the HTTP server's TLS files; a path can be empty.
type TLS struct{ Cert, Key, ClientCA string }

// UDP contains the settings of the UDP server.
type UDP struct {
	Listen                            []Address
	Allow                             []netip.Prefix
	Sockets                           int // 0: one for each core, at most 4
	MaxDatagram, ReceiveBuffer, Queue int64
}

// Admin contains the settings of the admin listener.
type Admin struct{ Listen []Address }

// WAL contains the settings of the write-ahead log.
type WAL struct {
	Sync                           string // "always" or "interval"
	SyncInterval                   time.Duration
	SealAfter, SealSmallAfter      time.Duration
	WhenFull                       string // "reject" or "drop_oldest"
	CommitTimeout                  time.Duration
	ProbeMin, ProbeMax             time.Duration
	SegmentSize, MaxBytes, MinFree int64
}

// Shipper contains the settings of the shipper.
type Shipper struct {
	Destination        string // file:///path or s3://bucket/prefix, never empty
	Level              string
	Concurrency        int
	RetryMin, RetryMax time.Duration
	RetryMaxPermanent  time.Duration
	Bandwidth          int64 // bytes a second; 0: no limit
	StallTimeout       time.Duration
	Heartbeat          time.Duration // 0: no heartbeat
	Keep               time.Duration // 0: segments are not kept
	S3                 S3
}

// S3 contains the settings of an S3-compatible storage.
type S3 struct {
	Endpoint, Region, PathStyle, CredentialsFile, CAFile, Checksum string

	SSE, StorageClass string
	Proof             string // auto or off
	SSEUnconfirmed    string // reject or accept
}

// Shutdown contains the time limits of the steps of a shutdown.
type Shutdown struct{ Drain, Requests, Datagrams, Seal, Grace time.Duration }

// Log contains the settings of the daemon's log lines.
type Log struct{ Level, Format string }

// DefaultPath is the path of the configuration file unless another is named.
const DefaultPath = "/etc/collectord/collectord.yaml"

// Source describes where settings come from, besides the process's environment.
type Source struct {
	Path  string         // path of the file; empty: DefaultPath, which need not exist
	Flags *pflag.FlagSet // flags that AddFlags has defined, or nil
	Uses  []string       // needed keys and sections; nil: all. A wrong value of another key is a warning
}

// File returns the path of the file that is read, or "" if there is none.
func (s Source) File() string {
	if s.Path != "" {
		return s.Path
	}
	if _, err := os.Stat(DefaultPath); err != nil {
		return ""
	}
	return DefaultPath
}

// Load reads, merges and checks all settings. The error is a Mistakes. The warnings are
// for the log.
func Load(src Source) (c *Config, warnings []string, err error) {
	d := Read(src)
	if len(d.Mistakes) > 0 {
		return nil, d.Warnings, d.Mistakes
	}
	return d.Config, d.Warnings, nil
}

// build parses and checks the effective values. It replaces a wrong value by its default;
// of a list it keeps the valid parts. mistake records a mistake. isValid reports whether
// no mistake was found in any of the keys.
func build(raw map[string]string, mistake func(key, reason string), isValid func(keys ...string) bool) *Config {
	c := &Config{raw: raw}
	for _, k := range keys {
		err := errNotUTF8
		if utf8.ValidString(raw[k.Name]) {
			err = k.value.set(c, raw[k.Name])
		}
		if err == nil {
			continue
		}
		for _, err := range splitErrors(err) {
			reason := withoutCredentials(fmt.Sprintf("%q %v", raw[k.Name], err))
			if errors.Is(err, errCredential) {
				reason = err.Error()
			}
			mistake(k.Name, reason)
		}
		if !k.value.list {
			_ = k.value.set(c, k.Default) // never fails
		}
	}
	c.complete(mistake, isValid)
	return c
}

// splitErrors returns the errors that were joined to err. A wrapped error counts as one
// mistake.
func splitErrors(err error) (all []error) {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	for _, part := range joined.Unwrap() {
		all = append(all, splitErrors(part)...)
	}
	return all
}

// These are the default ages at which segments are sealed.
const (
	defaultSealAfter      = time.Minute
	defaultSealSmallAfter = 5 * time.Minute
)

var (
	errNotUTF8     = errors.New("is not UTF-8")
	invalidInNames = regexp.MustCompile(`[^A-Za-z0-9._-]+`)
)

// complete fills in what depends on the host, and checks combinations of values. It skips a
// combination with a wrong value, because that value is already a mistake.
func (c *Config) complete(mistake func(key, reason string), isValid func(keys ...string) bool) {
	if c.Node == "" {
		host, err := os.Hostname()
		if err != nil {
			mistake("node", "is empty and the host has no name: set it")
		}
		c.Node = nodeOf(host)
	}
	var err error
	if c.DataDir, err = filepath.Abs(c.DataDir); err != nil {
		mistake("data_dir", err.Error())
	}
	if c.Shipper.Destination == "" {
		c.Shipper.Destination = (&url.URL{Scheme: "file", Path: filepath.Join(c.DataDir, "archive")}).String()
	}
	if strings.HasPrefix(c.Shipper.Destination, "s3://") && c.Shipper.S3.Endpoint == "" && c.Shipper.S3.Region == "" && isValid("shipper.s3.endpoint", "shipper.s3.region") {
		mistake("shipper.s3.endpoint", "is empty, which means AWS: set shipper.s3.region, or name the endpoint of another storage")
	}
	if c.WAL.SealSmallAfter == 0 {
		c.WAL.SealSmallAfter = c.WAL.SealAfter
		if c.WAL.SealAfter == defaultSealAfter {
			c.WAL.SealSmallAfter = defaultSealSmallAfter
		}
	}
	checkOrder := func(lesser, greater string, a, b time.Duration) {
		if a > b && isValid(lesser, greater) {
			mistake(lesser, fmt.Sprintf("is more than %s (%s)", greater, durationText(b)))
		}
	}
	checkOrder("wal.probe_min", "wal.probe_max", c.WAL.ProbeMin, c.WAL.ProbeMax)
	checkOrder("shipper.retry_min", "shipper.retry_max", c.Shipper.RetryMin, c.Shipper.RetryMax)
	checkOrder("shipper.retry_max", "shipper.retry_max_permanent", c.Shipper.RetryMax, c.Shipper.RetryMaxPermanent)
	if c.HTTP.MaxRecord > c.HTTP.MaxDecoded && isValid("http.max_record", "http.max_decoded") {
		mistake("http.max_record", "is more than http.max_decoded")
	}
	if c.HTTP.MaxInFlight < max(c.HTTP.MaxBody, c.HTTP.MaxDecoded) && isValid("http.max_in_flight", "http.max_body", "http.max_decoded") {
		mistake("http.max_in_flight", "is less than http.max_body or http.max_decoded: the largest body would never be accepted")
	}
	for _, pair := range [][3]string{
		{"http.tls.cert", c.HTTP.TLS.Key, "http.tls.key"},
		{"http.tls.key", c.HTTP.TLS.Cert, "http.tls.cert"},
		{"http.tls.cert", c.HTTP.TLS.ClientCA, "http.tls.client_ca"},
	} {
		if c.raw[pair[0]] == "" && pair[1] != "" && isValid(pair[0]) {
			mistake(pair[2], fmt.Sprintf("needs %s, which is empty", pair[0]))
		}
	}
	c.checkExposed(mistake, isValid)
	c.checkOverlaps(mistake)
}

// nodeOf turns the name of a host into a valid name of a node.
func nodeOf(host string) string {
	host = strings.TrimRight(invalidInNames.ReplaceAllString(host, "-"), "-")
	host = strings.TrimLeft(host, "-"+skippedFirst)
	if host = host[:min(len(host), 63)]; host == "" {
		return "localhost"
	}
	return host
}

// checkExposed reports listeners that other hosts can reach and that accept every sender.
func (c *Config) checkExposed(mistake func(key, reason string), isValid func(keys ...string) bool) {
	if !c.HTTP.Anonymous && c.HTTP.TokensFile == "" && c.HTTP.TLS.ClientCA == "" && isValid("http.anonymous", "http.tokens_file", "http.tls.client_ca") {
		for _, entry := range Entries(c.HTTP.Listen) {
			if a := entry[0]; !a.local() {
				mistake("http.listen", fmt.Sprintf("%s can be reached from other hosts, and anyone there could post: require authentication with http.tokens_file or http.tls.client_ca, listen on localhost behind a proxy, or set http.anonymous: true if that is intended", a.entry()))
			}
		}
	}
	if len(c.UDP.Allow) == 0 && isValid("udp.allow") {
		for _, entry := range Entries(c.UDP.Listen) {
			if a := entry[0]; !a.local() {
				mistake("udp.listen", fmt.Sprintf("%s can be reached from other hosts: name the networks that may send in udp.allow (0.0.0.0/0 for all), or set udp.listen: off", a.entry()))
			}
		}
	}
}
