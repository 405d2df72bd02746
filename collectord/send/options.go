package send

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"
)

// DefaultTarget is where a daemon with the default configuration listens.
const DefaultTarget = "http://localhost:3000"

// Content codings of a request.
const (
	Gzip = "gzip"
	Zstd = "zstd"
)

// Limits of what may be asked for.
const (
	maxConnections = 10_000
	maxSockets     = 64      // each has a thread while it is paced
	maxBatch       = 100_000 // as http.max_records
	maxPrepared    = 10_000
	maxDatagram    = 65_507 // what IPv4 leaves for the payload of a datagram
)

// Options are what is sent, where and how. A zero field stands for its default.
type Options struct {
	// Target is http://host:port, https://host:port, udp://host:port or
	// unix:/path; without a path /api/usages is meant. Default DefaultTarget.
	Target string

	Count    int64         // usages; default: each of Payload once, else one, or no limit where there is a Duration
	Duration time.Duration // default: until Count is reached
	Rate     float64       // usages a second; default: as fast as it goes

	Connections int           // or sockets; default 1
	Batch       int           // usages a request or datagram; default 1
	Lines       bool          // a request is NDJSON, even if it holds one usage; default: a usage, or an array
	Compress    string        // Gzip, Zstd; default: neither
	Timeout     time.Duration // for a connection, and for an answer; default 30 s

	Payload *Payload  // default: usages are made up
	Seed    uint64    // of made-up usages
	From    time.Time // timestamp of the first; each following is a millisecond later
	// Prepared is how many requests or datagrams are made before the start, and
	// then sent over and over, so that making them costs nothing. Default: none,
	// each is made when it is sent.
	Prepared int

	// Offload has the kernel, or the network card, cut datagrams of one size out of
	// larger messages (UDP_SEGMENT), which costs the sender a fraction.
	Offload bool

	Token string      // bearer token
	TLS   *tls.Config // for https

	// RetryFor is how long a request is repeated that got no answer, or a temporary
	// failure. Default: it is sent once, without a key.
	RetryFor time.Duration
	// Key is what the Idempotency-Key of request k begins with; "-k" follows.
	// Default, if RetryFor is set: 128 random bits. A run with the key, the
	// usages and the batches of one before is its repetition as a whole.
	Key string

	// Progress, if set, is called a few times a second with how far the run is, in
	// usages, or in milliseconds where only time ends it.
	Progress func(done, total int64)
}

func (o Options) withDefaults() Options {
	if o.Target == "" {
		o.Target = DefaultTarget
	}
	if o.Count == 0 && o.Duration == 0 {
		o.Count = 1
		if o.Payload != nil {
			o.Count = int64(len(o.Payload.usages))
		}
	}
	if o.Connections == 0 {
		o.Connections = 1
	}
	if o.Batch == 0 {
		o.Batch = 1
	}
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	return o
}

// check returns all that is wrong with o, whose defaults are set.
func (o Options) check(t target) error {
	var errs []error
	wrong := func(is bool, format string, args ...any) {
		if is {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	limit, what := maxConnections, "connections"
	if t.udp() {
		limit, what = maxSockets, "sockets"
	}
	wrong(o.Connections < 0 || o.Connections > limit, "%d connections: at most %d %s", o.Connections, limit, what)
	wrong(o.Batch < 0 || o.Batch > maxBatch, "a batch of %d: at most %d usages", o.Batch, maxBatch)
	wrong(o.Prepared < 0 || o.Prepared > maxPrepared, "%d prepared: at most %d", o.Prepared, maxPrepared)
	wrong(o.Count < 0 || o.Duration < 0 || o.Timeout < 0 || o.RetryFor < 0, "a count or a time is negative")
	wrong(!(o.Rate >= 0 && o.Rate <= 1e9), "a rate of %g: at most a thousand million usages a second", o.Rate)
	wrong(o.Compress != "" && o.Compress != Gzip && o.Compress != Zstd, "%q is no compression: gzip or zstd", o.Compress)
	wrong(len(o.Key) > 200 || strings.ContainsFunc(o.Key, func(r rune) bool { return r <= ' ' || r >= 0x7f }),
		"a key has at most 200 visible ASCII characters")
	wrong(strings.ContainsFunc(o.Token, func(r rune) bool { return r <= ' ' || r >= 0x7f }), "the token holds what no token can hold")
	if t.udp() {
		wrong(o.Lines || o.Compress != "" || o.Token != "" || o.RetryFor != 0 || o.Key != "",
			"a datagram has no format, compression, token, key, or answer for which it could be repeated")
	}
	wrong(o.Offload && !t.udp(), "only datagrams can be offloaded")
	wrong(o.TLS != nil && t.scheme != "https", "certificates are for https only")
	return errors.Join(errs...)
}

// target is where to send to.
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
			return target{}, errors.New("unix:/path wants an absolute path")
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
		port = or(port, "80")
	case "https":
		port = or(port, "443")
	case "udp":
		t.network = "udp"
		port = or(port, "3000")
	default:
		return target{}, fmt.Errorf("%s is not among http, https, udp and unix", u.Scheme)
	}
	t.address = net.JoinHostPort(u.Hostname(), port)
	return t, nil
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
