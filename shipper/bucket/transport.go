package bucket

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// CallOptions apply to one call of a Store. The context carries them, because the library
// has no parameter for them.
type CallOptions struct {
	Bandwidth    *Bandwidth    // of sent bytes, and of bytes that Compare reads; nil: no limit
	StallTimeout time.Duration // max time without progress of the peer; 0: DefaultStall
	Pace         *Pace         // minimum rate of the answer; nil: any number of bytes is progress
	// OnFailure is called if the storage can't be reached, breaks off or answers 5xx: it
	// may have restarted, and lost what it had confirmed; nil: no call.
	OnFailure func()
	// OnClock is called with how far this host's clock is ahead of the storage's, by the
	// Date of an answer; nil: no call.
	OnClock func(ahead time.Duration)
	// OnSilence is called while the storage acknowledges and answers nothing, with how long this
	// has lasted, from a quarter of StallTimeout on; and with 0 once that is over. nil: no call.
	OnSilence  func(silent time.Duration)
	retryAfter atomic.Int64 // of the last answer
	noRegion   atomic.Bool  // the storage was asked for the bucket's region and did not return it
	withToken  atomic.Bool  // the last request was signed with a session token
}

// reportFailure reports a failure of the storage, unless the caller has ended the call.
func (o *CallOptions) reportFailure(ctx context.Context) {
	if o.OnFailure != nil && ctx.Err() == nil {
		o.OnFailure()
	}
}

// maxClockRequest is the max duration of a request whose Date is compared with this host's
// clock.
const maxClockRequest = 5 * time.Second

// compareClocks reports how far the clocks are apart. The error is at most half the
// duration of the request plus half a second. An answer with Age is from a cache and has
// an old Date.
func (o *CallOptions) compareClocks(header http.Header, began, ended time.Time) {
	date, err := http.ParseTime(header.Get("Date"))
	took := ended.Sub(began)
	if o.OnClock == nil || err != nil || took > maxClockRequest || header.Get("Age") != "" {
		return
	}
	o.OnClock(began.Round(0).Add(took / 2).Sub(date.Add(time.Second / 2)).Round(time.Second / 10))
}

type callOptionsKey struct{}

// responseHeaderKey is the context key of a *http.Header that is set to the header of the answer
// to a put: the library returns only a part of it.
type responseHeaderKey struct{}

// WithCallOptions returns a context for calls with these options.
func WithCallOptions(ctx context.Context, o *CallOptions) context.Context {
	return context.WithValue(ctx, callOptionsKey{}, o)
}

func callOptionsOf(ctx context.Context) *CallOptions {
	if o, ok := ctx.Value(callOptionsKey{}).(*CallOptions); ok {
		return o
	}
	return &CallOptions{}
}

// transport sends requests within the bandwidth and aborts those whose storage makes no
// progress. The total duration has no limit: a large object over a slow line is fine.
type transport struct{ base http.RoundTripper }

func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	o := callOptionsOf(req.Context())
	o.noRegion.Store(false)
	o.retryAfter.Store(0)
	o.withToken.Store(req.Header.Get("X-Amz-Security-Token") != "")
	w := newWatch(req.Context(), o)
	connections := 0
	out := req.WithContext(httptrace.WithClientTrace(w.ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
		if connections++; connections > 1 { // net/http has repeated the request by itself
			o.reportFailure(req.Context())
		}
	}}))
	var sent *sentBody
	if req.Body != nil && req.Body != http.NoBody {
		sent = &sentBody{watch: w, in: &pacedReader{w.ctx, req.Body, o.Bandwidth}, body: req.Body, closed: make(chan struct{})}
		out.Body = sent
	}
	began := time.Now()
	resp, err := t.base.RoundTrip(out)
	if err == nil {
		o.compareClocks(resp.Header, began, time.Now())
	}
	if err != nil {
		o.reportFailure(req.Context())
		err = w.explain(err)
		w.end()
		return nil, err
	}
	if resp.StatusCode >= 500 {
		o.reportFailure(req.Context())
	}
	w.endRead(0, nil)
	if header, ok := req.Context().Value(responseHeaderKey{}).(*http.Header); ok && req.Method == http.MethodPut {
		*header = resp.Header
	}
	if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable {
		o.retryAfter.Store(int64(parseRetryAfter(resp.Header.Get("Retry-After"))))
	}
	resp.Body = &watchedResponse{w, resp.Body, func() { o.reportFailure(req.Context()) }}
	err = checkResponse(req, resp)
	o.noRegion.Store(req.URL.Query().Has("location") && (err != nil || resp.StatusCode != http.StatusOK))
	if err != nil {
		_ = resp.Body.Close()
		if sent != nil {
			<-sent.closed // see finish
		}
		return nil, err
	}
	if sent != nil && resp.StatusCode/100 == 3 {
		sent.waitClosed(resp)
	}
	return resp, nil
}

// parseRetryAfter reads a Retry-After header (RFC 9110, section 10.2.3).
func parseRetryAfter(s string) time.Duration {
	if seconds, err := strconv.ParseUint(s, 10, 32); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(s); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

// sentBody is the body of a request. It is closed only once.
type sentBody struct {
	watch  *watch
	in     io.Reader
	body   io.Closer
	once   sync.Once
	closed chan struct{} // closed after body is closed
}

func (b *sentBody) Read(p []byte) (n int, err error) {
	b.watch.setSending(true)
	defer b.watch.setSending(false)
	n, err = b.in.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // a reader's end is never wrapped
		err = b.watch.explain(err)
	}
	return n, err
}

func (b *sentBody) Close() (err error) {
	b.once.Do(func() {
		defer close(b.closed)
		err = b.body.Close()
	})
	return err
}

// maxRedirectBody is the max number of bytes read of an answer that redirects.
const maxRedirectBody = 64 << 10

// waitClosed waits until the request's body is closed, after an answer that redirects.
// net/http then closes the body even if it is still being sent, and sending may close it,
// too. The library's body does not allow two concurrent closes.
func (b *sentBody) waitClosed(resp *http.Response) {
	start, _ := io.ReadAll(io.LimitReader(resp.Body, maxRedirectBody)) // a part of the body is enough
	_ = resp.Body.Close()                                              // this also ends the sending
	resp.Body = io.NopCloser(bytes.NewReader(start))
	<-b.closed
}

// watchedResponse is the body of an answer. Only the time in which its reader waits for
// bytes counts as the storage's.
type watchedResponse struct {
	watch *watch
	io.ReadCloser
	onFailure func()
}

func (b *watchedResponse) Read(p []byte) (n int, err error) {
	b.watch.beginRead()
	defer func() { b.watch.endRead(n, err) }()
	n, err = b.ReadCloser.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // a reader's end is never wrapped
		b.onFailure()
		err = b.watch.explain(err)
	}
	return n, err
}

func (b *watchedResponse) Close() error {
	defer b.watch.end()
	return b.ReadCloser.Close()
}

// maxHeader is the max size of the header of an answer, in bytes. S3 allows 2 KiB of
// metadata.
const maxHeader = 64 << 10

func newS3Transport(caFile string, dial dialFunc) (*transport, error) {
	if dial == nil {
		dial = (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	}
	t := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            withEarlyResponses(dial),
		TLSHandshakeTimeout:    10 * time.Second,
		IdleConnTimeout:        time.Minute,
		MaxIdleConnsPerHost:    16,
		DisableCompression:     true, // net/http must not decode objects
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		MaxResponseHeaderBytes: maxHeader,
		// Larger writes need fewer system calls.
		WriteBufferSize: 64 << 10,
	}
	t.OnProxyConnectResponse = checkProxy
	if caFile == "" {
		return &transport{t}, nil
	}
	pool, err := loadCAs(caFile)
	if err != nil {
		return nil, fmt.Errorf("s3 CA file %s: %w", caFile, err)
	}
	t.TLSClientConfig.RootCAs = pool
	return &transport{t}, nil
}

// loadCAs returns the certificates in a PEM file and those that the system trusts.
func loadCAs(caFile string) (*x509.CertPool, error) {
	pem, err := readSettings(caFile)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("contains no PEM certificate")
	}
	return pool, nil
}
