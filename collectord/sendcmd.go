package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"collectord/collectord/send"
	"collectord/config"
)

// tokenVariable is the environment variable of the bearer token. There is no flag for
// it, because every user of a host can read the flags of its programs.
const tokenVariable = config.TokenVariable

// seededStart is the timestamp of the first usage in a run with a seed. It is fixed, so
// that repeated runs send identical bytes.
var seededStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // a constant

// sendFlags are the flags that need conversion to become Options.
type sendFlags struct {
	payload, tokenFile, caFile, certFile, keyFile string
	json                                          bool
}

func sendCommand() *cobra.Command {
	var o send.Options
	var flags sendFlags
	c := &cobra.Command{
		Use:   "send [URL]",
		Short: "Send usages over HTTP or UDP: one as a try, those of a file, or a load test",
		Long: `Send usages to a collector, and report what became of them.

URL is http://host:port (http:// may be left out), https://host:port, unix:/path or udp://host:port. The default is
` + send.DefaultTarget + `, or with --config the first address of its http.listen. Proxies of the environment are not used.

Without --payload the usages are made up. Runs with the same --seed and options send the same bytes.
With --rate each request has a due time that does not depend on earlier answers. Latency counts from the due time.
With --retry-for a request is sent again if it got no answer, or 408, 409, 429, 500, 502, 503 or 504. It keeps its
Idempotency-Key. The wait is random, grows with each attempt, and is not shorter than the Retry-After of the answer.

After the first SIGINT or SIGTERM the command waits for the answers to requests in progress, and prints the summary. The
second ends it at once.

A bearer token is read from --token-file or the variable ` + tokenVariable + `. There is no flag for the token itself,
because every user of a host can read the flags of its programs.

Exits with 0 if all usages were acknowledged (over UDP: the kernel took them, and no receiver refused them), with 2 if
not, and with 1 if nothing could be sent.

--json prints one object. Its names are stable:
  target               where the usages were sent
  seconds              duration of the run
  interrupted          whether a signal ended the run
  id                   id of the usage, if there was only one
  requests             requests sent, including retries
  retries              requests that were sent again
  datagrams            datagrams that the kernel took
  usages_sent          usages that were sent at least once
  usages_acknowledged  usages of which the daemon said that they are stored
  usages_repeated      acknowledged usages that the daemon had stored before, recognized by their key
  usages_rejected      usages rejected by an answer that a retry would not change
  usages_failed        usages that were neither acknowledged nor rejected
  usages_unsent        usages for which there was no time
  bytes_sent           bytes sent, including headers; over UDP the payload only
  bytes_received       bytes of the answers
  usages_per_second    acknowledged usages a second; over UDP those sent
  requests_per_second  requests a second; over UDP datagrams
  latency_ms           mean, p50, p90, p99, p99_9 and max, to within 2 %; absent if nothing was answered
  statuses             how often each status was answered
  codes                how often each problem code was answered
  errors               how often each reason for a missing answer occurred
  rejections           the first 10 rejections: where (lines of the file, or numbers of usages, from 1), status, code,
                       detail, and cause (the usage that is not a JSON object, if the whole request was rejected for it)`,
		Example: `  collectord send
  collectord send localhost:3000 --count 1000 --batch 100
  collectord send --payload usages.ndjson --batch 1000 --ndjson --compress zstd --retry-for 1m
  collectord send udp://localhost:3000 --rate 20000 --duration 10s --json`,
		Args:              requireArgs(0, 1, "one URL"),
		ValidArgsFunction: completeTarget,
		GroupID:           groupClient,
		SuggestFor:        []string{"post", "import", "load"},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := completeOptions(cmd, args, &o, flags); err != nil {
				return err
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			bar := newProgress(cmd.ErrOrStderr())
			o.Progress = func(done, total int64) {
				bar.total = total
				bar.advance(done - bar.done)
			}
			s, err := send.Run(ctx, o)
			bar.clear()
			if errors.Is(err, syscall.ECONNREFUSED) {
				return fmt.Errorf("%w (nothing listens there: start the daemon with collectord run, or name an address of its log line \"collectord is running\")", err)
			}
			if err != nil {
				return err
			}
			if err := printSummary(cmd.OutOrStdout(), s, flags.json); err != nil {
				return err
			}
			if !s.Complete() {
				return notRightf("not all usages were accepted")
			}
			return nil
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.Int64Var(&o.Count, "count", 0, "number of usages (default: 1, with --payload each of them once, with --duration no limit)")
	f.DurationVar(&o.Duration, "duration", 0, "how long to send (default: until --count is reached)")
	f.Float64Var(&o.Rate, "rate", 0, "usages a second (default: as fast as possible)")
	f.IntVar(&o.Connections, "connections", 1, "number of connections, or of sockets for UDP")
	f.IntVar(&o.Batch, "batch", 1, "number of usages in a request or datagram")
	f.BoolVar(&o.Lines, "ndjson", false, "send one usage a line instead of an array")
	f.StringVar(&o.Compress, "compress", "", "gzip or zstd")
	f.StringVar(&flags.payload, "payload", "", "file with usages, one a line or in one array; - is standard input. A --count or --duration beyond its end starts it again")
	f.Uint64Var(&o.Seed, "seed", 0, "seed of the made-up usages (default: random)")
	f.IntVar(&o.Prepared, "prepare", 0, "make this many requests or datagrams before the start, and send them over and over")
	f.BoolVar(&o.Offload, "offload", false, "UDP: let the kernel split larger messages into datagrams of one size, which is several times as fast")
	f.StringVar(&flags.tokenFile, "token-file", "", "file with the bearer token")
	f.StringVar(&flags.caFile, "ca-file", "", "file with the certificates to trust for https (default: those of the system)")
	f.StringVar(&flags.certFile, "cert-file", "", "file with a client certificate")
	f.StringVar(&flags.keyFile, "key-file", "", "file with the private key of --cert-file")
	f.DurationVar(&o.RetryFor, "retry-for", 0, "how long to repeat a request that was not answered (default: not at all)")
	f.StringVar(&o.Key, "idempotency-key", "", "prefix of all Idempotency-Keys, so that a whole run can be repeated (default, with --retry-for: random)")
	f.DurationVar(&o.Timeout, "timeout", 30*time.Second, "time limit for connecting, and for an answer")
	f.BoolVar(&flags.json, "json", false, "print the summary as JSON, for programs")
	return c
}

// completeOptions fills o from arguments, flags, files and the environment.
func completeOptions(cmd *cobra.Command, args []string, o *send.Options, flags sendFlags) (err error) {
	switch {
	case len(args) > 0:
		path := strings.TrimPrefix(args[0], "@") // as for curl
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return fmt.Errorf("%s is a file, not a URL: send it with --payload %[1]s", path)
		}
		o.Target = withScheme(args[0])
	case source(cmd).Path != "":
		if o.Target, err = configuredTarget(cmd); err != nil {
			return err
		}
	}
	o.From = seededStart
	if !cmd.Flags().Changed("seed") {
		o.Seed, o.From = rand.Uint64(), time.Now()
	}
	if flags.payload != "" {
		if o.Payload, err = readPayload(cmd, flags.payload); err != nil {
			return fmt.Errorf("%s: %w", flags.payload, err)
		}
	}
	if o.Token, err = readToken(flags.tokenFile); err != nil {
		return err
	}
	if strings.HasPrefix(o.Target, "udp:") && flags.tokenFile == "" {
		o.Token = "" // it is from the environment, and datagrams have no token
	}
	if o.Token != "" && isCleartext(o.Target) {
		writef(cmd.ErrOrStderr(), "warning: the token goes over the network in clear: use https\n")
	}
	o.TLS, err = clientTLS(flags)
	return err
}

// withScheme adds http:// to a target without a scheme, as curl does.
func withScheme(target string) string {
	if strings.Contains(target, "://") || strings.HasPrefix(target, "unix:") {
		return target
	}
	return "http://" + target
}

// configuredTarget returns the URL of the first HTTP listener in the configuration.
func configuredTarget(cmd *cobra.Command) (string, error) {
	cfg, err := settings(cmd, "http.listen", "http.tls")
	if err != nil {
		return "", err
	}
	if len(cfg.HTTP.Listen) == 0 {
		return "", errors.New("http.listen is off: give a URL")
	}
	a := cfg.HTTP.Listen[0]
	if a.Network == "unix" {
		return "unix:" + a.Path, nil
	}
	scheme := "http://"
	if cfg.HTTP.TLS.Cert != "" {
		scheme = "https://" // the certificate must contain the address
	}
	if a.IP.Addr().IsUnspecified() { // a wildcard address includes the loopback
		loopback := netip.IPv6Loopback()
		if a.IP.Addr().Is4() {
			loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
		return scheme + netip.AddrPortFrom(loopback, a.IP.Port()).String(), nil
	}
	return scheme + a.IP.String(), nil
}

func readPayload(cmd *cobra.Command, path string) (*send.Payload, error) {
	if path == "-" {
		return send.ReadPayload(cmd.InOrStdin())
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, errors.Unwrap(err) // the caller adds the file name
	}
	defer f.Close()
	return send.ReadPayload(f)
}

// maxTokenFile limits the bytes read from a token file. It is far above the length of a
// token.
const maxTokenFile = 4 << 10

func readToken(path string) (string, error) {
	if path == "" {
		return strings.TrimSpace(os.Getenv(tokenVariable)), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxTokenFile))
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(text))
	if token == "" {
		return "", fmt.Errorf("%s: there is no token in it", path)
	}
	return token, nil
}

// isCleartext reports whether requests to the target are readable on a network.
func isCleartext(target string) bool {
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "http" || u.Hostname() == "localhost" {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return ip == nil || !ip.IsLoopback()
}

func clientTLS(flags sendFlags) (*tls.Config, error) {
	if flags.caFile == "" && flags.certFile == "" && flags.keyFile == "" {
		return nil, nil //nolint:nilnil // nil means the default
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if flags.caFile != "" {
		text, err := os.ReadFile(flags.caFile)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s: there is no certificate in it", flags.caFile)
		}
	}
	if (flags.certFile == "") != (flags.keyFile == "") {
		return nil, errors.New("--cert-file and --key-file belong together")
	}
	if flags.certFile != "" {
		pair, err := tls.LoadX509KeyPair(flags.certFile, flags.keyFile)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// writeRejections writes which usages were rejected, and why.
func writeRejections(line func(name, format string, args ...any), all []send.Rejection) {
	var wholeRequest, offset bool
	for i, r := range all {
		why := []string{fmt.Sprint(r.Status), r.Code, r.Detail}
		if r.Status < 300 { // other usages of the request were accepted
			why = why[1:]
		}
		why = slices.DeleteFunc(why, func(s string) bool { return s == "" })
		line([]string{"rejected", ""}[min(i, 1)], "%s: %s", r.Where, strings.Join(why, ", "))
		if r.Cause != "" {
			line("", "  because %s", r.Cause)
		}
		wholeRequest = wholeRequest || r.Cause != ""
		offset = offset || strings.Contains(r.Detail, " byte ")
	}
	if offset {
		line("", "bytes are counted from the start of the request, from 0")
	}
	if wholeRequest {
		line("", "with --ndjson only the usage that is wrong is rejected, not its whole request")
	}
}

func printSummary(w io.Writer, s send.Summary, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(s)
	}
	var b strings.Builder
	line := func(name, format string, args ...any) {
		writef(&b, "%-9s "+format+"\n", append([]any{name}, args...)...)
	}
	line("target", "%s, %.3f s", s.Target, s.Seconds)
	if s.ID != "" {
		line("id", "%s", s.ID)
	}
	if s.Requests == 0 && s.Datagrams > 0 {
		line("usages", "%d sent, %.0f a second", s.UsagesSent, s.UsagesPerSecond)
		line("datagrams", "%d sent, %.0f a second, %d bytes", s.Datagrams, s.RequestsPerSecond, s.BytesSent)
	} else {
		line("usages", "%d acknowledged, %.0f a second; %d of them repeated", s.UsagesAcknowledged, s.UsagesPerSecond, s.UsagesRepeated)
		line("requests", "%d sent, %.0f a second, %d of them again; %d bytes out, %d in", s.Requests, s.RequestsPerSecond, s.Retries, s.BytesSent, s.BytesReceived)
	}
	if s.UsagesRejected+s.UsagesFailed+s.UsagesUnsent > 0 {
		line("not taken", "%d rejected, %d failed, %d not sent", s.UsagesRejected, s.UsagesFailed, s.UsagesUnsent)
	}
	if l := s.Latency; l != nil {
		line("latency", "mean %.3g ms, p50 %.3g, p90 %.3g, p99 %.3g, p99.9 %.3g, max %.3g", l.Mean, l.P50, l.P90, l.P99, l.P999, l.Max)
	}
	for _, seen := range []struct {
		name   string
		counts map[string]int64
	}{{"statuses", s.Statuses}, {"codes", s.Codes}, {"errors", s.Errors}} {
		for i, what := range slices.Sorted(maps.Keys(seen.counts)) {
			line([]string{seen.name, ""}[min(i, 1)], "%d × %s", seen.counts[what], what)
		}
	}
	writeRejections(line, s.Rejections)
	if s.Interrupted {
		line("", "interrupted")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
