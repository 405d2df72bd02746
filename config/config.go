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

// Config is every setting, parsed and checked. Sizes are in bytes.
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

	raw map[string]string // effective values as written, by key
}

// HTTP is the section of the HTTP server.
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

// TLS are the files of the HTTP server's TLS, or empty.
type TLS struct{ Cert, Key, ClientCA string }

// UDP is the section of the UDP server.
type UDP struct {
	Listen                            []Address
	Allow                             []netip.Prefix
	Sockets                           int // 0: as many as cores, at most 4
	MaxDatagram, ReceiveBuffer, Queue int64
}

// Admin is the section of the admin listener.
type Admin struct{ Listen []Address }

// WAL is the section of the log.
type WAL struct {
	Sync                           string // "always" or "interval"
	SyncInterval                   time.Duration
	SealAfter, SealSmallAfter      time.Duration
	WhenFull                       string // "reject" or "drop_oldest"
	CommitTimeout                  time.Duration
	ProbeMin, ProbeMax             time.Duration
	SegmentSize, MaxBytes, MinFree int64
}

// Shipper is the section of the shipper.
type Shipper struct {
	Destination        string // file:///path or s3://bucket/prefix, never empty
	Level              string
	Concurrency        int
	RetryMin, RetryMax time.Duration
	RetryMaxPermanent  time.Duration
	Bandwidth          int64 // bytes a second; 0: no bound
	StallTimeout       time.Duration
	Heartbeat          time.Duration // 0: none
	Keep               time.Duration // 0: nothing is kept
	S3                 S3
}

// S3 is how to reach an S3-compatible storage.
type S3 struct {
	Endpoint, Region, PathStyle, CredentialsFile, CAFile, Checksum string

	SSE, StorageClass string
	Proof             string // auto or off
	SSEUnconfirmed    string // reject or accept
}

// Shutdown is how long the daemon takes its leave.
type Shutdown struct{ Drain, Requests, Datagrams, Seal, Grace time.Duration }

// Log is how the daemon speaks.
type Log struct{ Level, Format string }

// DefaultPath is where the configuration is looked for when no file is named.
const DefaultPath = "/etc/collectord/collectord.yaml"

// Source is where settings come from, beside the process's environment.
type Source struct {
	Path  string         // of the file; empty: DefaultPath, which need not exist
	Flags *pflag.FlagSet // that AddFlags was called on, or nil
	Uses  []string       // keys and sections that are needed; nil: all. A wrong value of another is a warning
}

// File returns the file that is read, or "" if there is none.
func (s Source) File() string {
	if s.Path != "" {
		return s.Path
	}
	if _, err := os.Stat(DefaultPath); err != nil {
		return ""
	}
	return DefaultPath
}

// Load reads, merges and checks all settings. The error is a Mistakes.
// Warnings are for the log.
func Load(src Source) (c *Config, warnings []string, err error) {
	d := Read(src)
	if len(d.Mistakes) > 0 {
		return nil, d.Warnings, d.Mistakes
	}
	return d.Config, d.Warnings, nil
}

// build parses and checks the effective values. A wrong one is replaced by its
// default; of a list what is right remains. sound reports whether no mistake was found in any of some keys.
func build(raw map[string]string, mistake func(key, reason string), sound func(keys ...string) bool) *Config {
	c := &Config{raw: raw}
	for _, k := range keys {
		err := errNotUTF8
		if utf8.ValidString(raw[k.Name]) {
			err = k.value.set(c, raw[k.Name])
		}
		if err == nil {
			continue
		}
		for _, err := range parts(err) {
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
	c.finish(mistake, sound)
	return c
}

// parts returns the errors that were joined to one. A wrapped one is a single mistake.
func parts(err error) (all []error) {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	for _, part := range joined.Unwrap() {
		all = append(all, parts(part)...)
	}
	return all
}

// The ages at which segments are sealed, unless one is set.
const (
	defaultSealAfter      = time.Minute
	defaultSealSmallAfter = 5 * time.Minute
)

var (
	errNotUTF8  = errors.New("is not UTF-8")
	notForNames = regexp.MustCompile(`[^A-Za-z0-9._-]+`)
)

// finish fills in what depends on the host and checks combinations. One with a
// wrong value says nothing.
func (c *Config) finish(mistake func(key, reason string), sound func(keys ...string) bool) {
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
	if strings.HasPrefix(c.Shipper.Destination, "s3://") && c.Shipper.S3.Endpoint == "" && c.Shipper.S3.Region == "" && sound("shipper.s3.endpoint", "shipper.s3.region") {
		mistake("shipper.s3.endpoint", "is empty, which means AWS: set shipper.s3.region then, or name the endpoint of another storage")
	}
	if c.WAL.SealSmallAfter == 0 {
		c.WAL.SealSmallAfter = c.WAL.SealAfter
		if c.WAL.SealAfter == defaultSealAfter {
			c.WAL.SealSmallAfter = defaultSealSmallAfter
		}
	}
	ordered := func(lesser, greater string, a, b time.Duration) {
		if a > b && sound(lesser, greater) {
			mistake(lesser, fmt.Sprintf("is more than %s (%s)", greater, durationText(b)))
		}
	}
	ordered("wal.probe_min", "wal.probe_max", c.WAL.ProbeMin, c.WAL.ProbeMax)
	ordered("shipper.retry_min", "shipper.retry_max", c.Shipper.RetryMin, c.Shipper.RetryMax)
	ordered("shipper.retry_max", "shipper.retry_max_permanent", c.Shipper.RetryMax, c.Shipper.RetryMaxPermanent)
	if c.HTTP.MaxRecord > c.HTTP.MaxDecoded && sound("http.max_record", "http.max_decoded") {
		mistake("http.max_record", "is more than http.max_decoded")
	}
	if c.HTTP.MaxInFlight < max(c.HTTP.MaxBody, c.HTTP.MaxDecoded) && sound("http.max_in_flight", "http.max_body", "http.max_decoded") {
		mistake("http.max_in_flight", "is less than http.max_body or http.max_decoded: the largest body would never be taken")
	}
	for _, pair := range [][3]string{
		{"http.tls.cert", c.HTTP.TLS.Key, "http.tls.key"},
		{"http.tls.key", c.HTTP.TLS.Cert, "http.tls.cert"},
		{"http.tls.cert", c.HTTP.TLS.ClientCA, "http.tls.client_ca"},
	} {
		if c.raw[pair[0]] == "" && pair[1] != "" && sound(pair[0]) {
			mistake(pair[2], fmt.Sprintf("needs %s, which is empty", pair[0]))
		}
	}
	c.findOpen(mistake, sound)
	c.findOverlaps(mistake)
}

// nodeOf makes the name of a host that of a node.
func nodeOf(host string) string {
	host = strings.Trim(notForNames.ReplaceAllString(host, "-"), "-")
	if host = host[:min(len(host), 63)]; strings.Trim(host, ".") == "" {
		return "localhost"
	}
	return host
}

// findOpen finds listeners that other hosts can reach, and that let anybody send.
func (c *Config) findOpen(mistake func(key, reason string), sound func(keys ...string) bool) {
	if !c.HTTP.Anonymous && c.HTTP.TokensFile == "" && c.HTTP.TLS.ClientCA == "" && sound("http.anonymous", "http.tokens_file", "http.tls.client_ca") {
		for _, entry := range Entries(c.HTTP.Listen) {
			if a := entry[0]; !a.local() {
				mistake("http.listen", fmt.Sprintf("%s can be reached from other hosts, and anyone there could post: say who may in http.tokens_file or http.tls.client_ca, listen on localhost behind a proxy, or set http.anonymous: true if that is meant", a.entry()))
			}
		}
	}
	if len(c.UDP.Allow) == 0 && sound("udp.allow") {
		for _, entry := range Entries(c.UDP.Listen) {
			if a := entry[0]; !a.local() {
				mistake("udp.listen", fmt.Sprintf("%s can be reached from other hosts: name the networks that may send in udp.allow (0.0.0.0/0 for all), or set udp.listen: off", a.entry()))
			}
		}
	}
}
