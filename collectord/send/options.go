package send

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"
)

// DefaultTarget is the listen address of a daemon with the default configuration.
const DefaultTarget = "http://localhost:3000"

// Content codings of a request.
const (
	Gzip = "gzip"
	Zstd = "zstd"
)

// Limits of the options.
const (
	maxConnections = 10_000
	maxSockets     = 64      // each occupies a thread while it is paced
	maxBatch       = 100_000 // same as http.max_records
	maxPrepared    = 10_000
	maxDatagram    = 65_507 // largest payload of an IPv4 datagram
)

// Options configures a run. A zero field means its default.
type Options struct {
	// Target is http://host:port, https://host:port, udp://host:port or unix:/path. The
	// default path is /api/usages. Default DefaultTarget.
	Target string

	Count    int64         // usages; default: each of Payload once, else one; unlimited if Duration is set
	Duration time.Duration // default: until Count is reached
	Rate     float64       // usages per second; default: unlimited

	Connections int           // or UDP sockets; default 1
	Batch       int           // usages per request or datagram; default 1
	Lines       bool          // requests are NDJSON, also with one usage; default: one JSON object, or an array
	Compress    string        // Gzip or Zstd; default: none
	Timeout     time.Duration // for connecting, and for a response; default 30 s

	Payload *Payload  // default: generated usages
	Seed    uint64    // of generated usages
	From    time.Time // timestamp of the first generated usage; each next one is a millisecond later
	// Prepared is how many requests or datagrams are built before the start and then sent
	// repeatedly, so that a run does not pay for building them. Default: none; each is
	// built when it is sent.
	Prepared int

	// Offload lets the kernel or the network card split a large message into datagrams of
	// one size (UDP_SEGMENT), which needs much less of the sender's CPU.
	Offload bool

	Token string      // bearer token
	TLS   *tls.Config // for https

	// RetryFor is how long a request without a response, or with a temporary failure, is
	// retried. Default: each request is sent once, without an Idempotency-Key.
	RetryFor time.Duration
	// Key is the prefix of the Idempotency-Key of request k; "-k" follows. Default, if
	// RetryFor is set: 128 random bits. A run with the same key, usages and batches as an
	// earlier run repeats that run as a whole.
	Key string

	// Progress, if set, is called a few times per second with the progress of the run: in
	// usages, or in milliseconds if only Duration ends the run.
	Progress func(done, total int64)
}

func (o Options) withDefaults() Options {
	o.Target = cmp.Or(o.Target, DefaultTarget)
	if o.Count == 0 && o.Duration == 0 {
		o.Count = 1
		if o.Payload != nil {
			o.Count = int64(len(o.Payload.usages))
		}
	}
	o.Connections = cmp.Or(o.Connections, 1)
	o.Batch = cmp.Or(o.Batch, 1)
	o.Timeout = cmp.Or(o.Timeout, 30*time.Second)
	return o
}

// check returns all errors of o, whose defaults must be set.
func (o Options) check(t target) error {
	var errs []error
	reject := func(invalid bool, format string, args ...any) {
		if invalid {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	limit, what := maxConnections, "connections"
	if t.udp() {
		limit, what = maxSockets, "sockets"
	}
	reject(o.Connections < 0 || o.Connections > limit, "%d connections: at most %d %s", o.Connections, limit, what)
	reject(o.Batch < 0 || o.Batch > maxBatch, "a batch of %d: at most %d usages", o.Batch, maxBatch)
	reject(o.Prepared < 0 || o.Prepared > maxPrepared, "%d prepared: at most %d", o.Prepared, maxPrepared)
	reject(o.Count < 0 || o.Duration < 0 || o.Timeout < 0 || o.RetryFor < 0, "a count or a time is negative")
	reject(!(o.Rate >= 0 && o.Rate <= 1e9), "a rate of %g: at most a thousand million usages a second", o.Rate)
	reject(o.Compress != "" && o.Compress != Gzip && o.Compress != Zstd, "%q is no compression: gzip or zstd", o.Compress)
	reject(len(o.Key) > 200 || strings.ContainsFunc(o.Key, func(r rune) bool { return r <= ' ' || r >= 0x7f }),
		"a key has at most 200 visible ASCII characters")
	reject(strings.ContainsFunc(o.Token, func(r rune) bool { return r <= ' ' || r >= 0x7f }), "the token has characters that a token can't have")
	if t.udp() {
		reject(o.Lines || o.Compress != "" || o.Token != "" || o.RetryFor != 0 || o.Key != "",
			"datagrams have no format, compression, token, key or retries")
	}
	reject(o.Offload && !t.udp(), "only datagrams can be offloaded")
	reject(o.TLS != nil && t.scheme != "https", "certificates are for https only")
	return errors.Join(errs...)
}

// target is a parsed Options.Target.
type target struct {
	scheme  string // http, https or udp
	network string // tcp, unix or udp
	address string // to dial
	host    string // as in the URL
	path    string
}

func (t target) udp() bool { return t.network == "udp" }

func (t target) String() string {
	switch t.network {
	case "unix":
		return "unix:" + t.address
	case "udp":
		return "udp://" + t.address
	}
	return t.scheme + "://" + t.host + t.path
}

const usagesPath = "/api/usages"

func parseTarget(s string) (target, error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		path = strings.TrimPrefix(path, "//")
		if !strings.HasPrefix(path, "/") {
			return target{}, errors.New("the path of unix:/path must be absolute")
		}
		return target{scheme: "http", network: "unix", address: path, host: "localhost", path: usagesPath}, nil
	}
	u, err := url.Parse(s)
	if err != nil || !strings.Contains(s, "://") || u.Hostname() == "" {
		return target{}, errors.New("no URL to send to: http://host:port, https://host:port, udp://host:port or unix:/path")
	}
	if u.User != nil {
		return target{}, errors.New("a URL with a password could be read by every user of this host")
	}
	t := target{scheme: u.Scheme, network: "tcp", host: u.Host, path: u.EscapedPath()}
	if t.path == "" || t.path == "/" {
		t.path = usagesPath
	}
	if u.RawQuery != "" {
		t.path += "?" + u.RawQuery
	}
	port := u.Port()
	switch u.Scheme {
	case "http":
		port = orDefault(port, "80")
	case "https":
		port = orDefault(port, "443")
	case "udp":
		t.network = "udp"
		port = orDefault(port, "3000")
	default:
		return target{}, fmt.Errorf("%s is not among http, https, udp and unix", u.Scheme)
	}
	t.address = net.JoinHostPort(u.Hostname(), port)
	return t, nil
}

func orDefault(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
