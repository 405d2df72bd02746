package httpserver

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"collectord/collectord/auth"
	"collectord/collectord/auth/authtest"
)

// dialRawTLS is dialRaw over TLS.
func dialRawTLS(t *testing.T, addr string, config *tls.Config) (*rawClient, error) {
	t.Helper()
	v := dialRaw(t, addr)
	c := tls.Client(v.Conn, config)
	v.Conn, v.r = c, bufio.NewReader(c)
	return v, c.Handshake()
}

func TestTLSVersionsAndALPN(t *testing.T) {
	ca := authtest.NewAuthority(t)
	h, addr := startServer(t, newMemoryLog(), Options{Policy: auth.Policy{TLS: ca.Server(t, nil)}})
	for name, c := range map[string]struct {
		change  func(*tls.Config)
		wantErr bool
		proto   string
	}{
		"no ALPN":         {func(*tls.Config) {}, false, ""},
		"TLS 1.3":         {func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }, false, ""},
		"TLS 1.2":         {func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, false, ""},
		"TLS 1.1":         {func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, true, ""},
		"h2 and http/1.1": {func(c *tls.Config) { c.NextProtos = []string{"h2", "http/1.1"} }, false, "http/1.1"},
		"h2":              {func(c *tls.Config) { c.NextProtos = []string{"h2"} }, true, ""},
		"distrust":        {func(c *tls.Config) { c.RootCAs = x509.NewCertPool() }, true, ""},
	} {
		config := ca.Config(nil)
		c.change(config)
		v, err := dialRawTLS(t, addr, config)
		if (err != nil) != c.wantErr {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			continue
		}
		for range 2 { // kept alive
			v.send(post(`{"a":1}`))
			if status, body := v.readResponse(); status != http.StatusCreated || v.Conn.(*tls.Conn).ConnectionState().NegotiatedProtocol != c.proto {
				t.Errorf("%s: %d %s, protocol %q", name, status, body, v.Conn.(*tls.Conn).ConnectionState().NegotiatedProtocol)
			}
		}
		v.Close()
	}
	waitFor(t, func() bool { return h.Connections() == 0 })
	m := h.HandshakeFailures()
	if m["protocol"] != 2 || m["refused"]+m["closed"] != 1 || m["timeout"]+m["not_tls"]+m["client_certificate"] != 0 || h.Requests()[400] != 0 {
		t.Errorf("handshake failures %v, requests %v", m, h.Requests())
	}
}

func TestClientCertificates(t *testing.T) {
	ca, other := authtest.NewAuthority(t), authtest.NewAuthority(t)
	names := func(dns ...string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.DNSNames = dns }
	}
	tokens, headers := newTokens(t, "by-token")
	for name, c := range map[string]struct {
		certificate *tls.Certificate
		policy      auth.Policy
		header      string
		status      int // 0: the handshake fails
		client      string
		wantFailure string
	}{
		"none":                         {nil, auth.Policy{}, "", 0, "", "client_certificate"},
		"of another authority":         {other.Client(t, nil), auth.Policy{}, "", 0, "", "client_certificate"},
		"expired":                      {ca.Client(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), auth.Policy{}, "", 0, "", "client_certificate"},
		"for servers":                  {ca.Client(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), auth.Policy{}, "", 0, "", "client_certificate"},
		"with a common name":           {ca.Client(t, nil), auth.Policy{}, "", 201, "somebody", ""},
		"with DNS names":               {ca.Client(t, names("edge-7.example.com", "other")), auth.Policy{}, "", 201, "edge-7.example.com", ""},
		"with an invalid name":         {ca.Client(t, names("*.example.com", "other")), auth.Policy{}, "", 201, "", ""},
		"and no token":                 {ca.Client(t, nil), auth.Policy{Tokens: tokens}, "", 401, "", ""},
		"and a token":                  {ca.Client(t, nil), auth.Policy{Tokens: tokens}, headers[0], 201, "by-token", ""},
		"a token, no certificate":      {nil, auth.Policy{Tokens: tokens}, headers[0], 0, "", "client_certificate"},
		"anonymous, none":              {nil, auth.Policy{Anonymous: true}, "", 201, "", ""},
		"anonymous, valid":             {ca.Client(t, nil), auth.Policy{Anonymous: true}, "", 201, "somebody", ""},
		"anonymous, unknown authority": {other.Client(t, nil), auth.Policy{Anonymous: true}, "", 0, "", "client_certificate"},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(fmt.Sprintf("%s %s", name, tls.VersionName(version)), func(t *testing.T) {
				t.Parallel()
				c := c // changed below
				log := newMemoryLog()
				c.policy.TLS = ca.Server(t, ca)
				h, addr := startServer(t, log, Options{Policy: c.policy})
				config := ca.Config(nil)
				if c.certificate != nil { // present the certificate even if the server does not accept it
					config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.certificate, nil }
				}
				config.MinVersion, config.MaxVersion = version, version
				v, err := dialRawTLS(t, addr, config)
				status, body := 0, ""
				if err == nil { // in TLS 1.3 the client finishes before the server checks its certificate
					if c.header == "" {
						c.header = "X: y"
					}
					_, _ = io.WriteString(v, post(`{"a":1}`, c.header))
					status, body = v.readResponse()
				}
				if status != c.status {
					t.Errorf("%v, %d %s", err, status, body)
				}
				if c.status == 201 && (len(log.clients) != 1 || log.clients[0] != c.client) {
					t.Errorf("stored for the clients %q, want %q", log.clients, c.client)
				}
				if seen := seenClients(h); c.status == 201 && strings.Contains(seen, c.client+" 1 true") != (c.client != "") {
					t.Errorf("seen clients: %s", seen)
				}
				if c.status == 0 {
					waitFor(t, func() bool { return h.HandshakeFailures()[c.wantFailure] == 1 })
				}
				if c.status != 201 && len(log.usages) > 0 {
					t.Errorf("stored %q, want nothing", log.usages)
				}
			})
		}
	}
}

// A certificate of an authority that is no longer trusted is rejected at the next request.
// A connection without a certificate is rejected, too, if it began when none was needed.
func TestNewAuthoritiesApplyToOpenConnections(t *testing.T) {
	t.Parallel()
	ca, other := authtest.NewAuthority(t), authtest.NewAuthority(t)
	ask := func(v *rawClient, want int) {
		t.Helper()
		v.send(post(`{}`))
		if status, body := v.readResponse(); status != want || want == 401 && !strings.Contains(body, "client certificate") {
			t.Errorf("%d %s, want %d", status, body, want)
		}
	}
	first := ca.Server(t, ca)
	h, addr := startServer(t, newMemoryLog(), Options{Policy: auth.Policy{Anonymous: true}})
	plain, silent := dialRaw(t, addr), dialRaw(t, addr)
	ask(plain, 201)
	waitFor(t, func() bool { return h.Connections() == 2 }) // the silent one is accepted after deferAcceptSeconds
	h.SetPolicy(auth.Policy{TLS: first, Anonymous: true})
	ask(plain, 201)
	noCertificate, err := dialRawTLS(t, addr, ca.Config(nil))
	if err != nil {
		t.Fatal(err)
	}
	ask(noCertificate, 201)
	h.SetPolicy(auth.Policy{TLS: first})
	v, err := dialRawTLS(t, addr, ca.Config(ca.Client(t, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ask(v, 201)
	ask(noCertificate, 401)
	ask(plain, 401)
	ask(silent, 401)
	h.SetPolicy(auth.Policy{TLS: ca.Server(t, ca)}) // the same authority, read again
	ask(v, 201)
	h.SetPolicy(auth.Policy{TLS: ca.Server(t, other)})
	ask(v, 401)
}

// A session from before a change of the authorities is not resumed.
func TestNoSessionOutlivesAReload(t *testing.T) {
	ca, other := authtest.NewAuthority(t), authtest.NewAuthority(t)
	h, addr := startServer(t, newMemoryLog(), Options{Policy: auth.Policy{TLS: ca.Server(t, ca)}})
	config := ca.Config(ca.Client(t, nil))
	config.ClientSessionCache = tls.NewLRUClientSessionCache(10)
	config.MaxVersion = tls.VersionTLS12
	resumed := func() (bool, error) {
		v, err := dialRawTLS(t, addr, config)
		return err == nil && v.Conn.(*tls.Conn).ConnectionState().DidResume, err
	}
	if did, err := resumed(); did || err != nil {
		t.Fatal(did, err)
	}
	if did, err := resumed(); !did || err != nil {
		t.Fatal("no session is resumed, so the test proves nothing", err)
	}
	next := ca.Server(t, other)
	h.SetPolicy(auth.Policy{TLS: next})
	if did, err := resumed(); did || err == nil {
		t.Errorf("resumed %v, %v", did, err)
	}
}

// Requests over TLS have the same responses as in plaintext.
func TestRequestsOverTLSAreReadAsInPlaintext(t *testing.T) {
	t.Parallel()
	ca := authtest.NewAuthority(t)
	log := newMemoryLog()
	h, addr := startServer(t, log, Options{MaxBody: 1 << 20, Policy: auth.Policy{TLS: ca.Server(t, nil)}, Limits: withoutDeadlines(Limits{MaxRecord: 1 << 20})})
	ask := func(name, request string, want int) {
		t.Helper()
		v, err := dialRawTLS(t, addr, ca.Config(nil))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(v, request) // the server may reject it before all is sent
		if status, body := v.readResponse(); status != want {
			t.Errorf("%s: %d %s", name, status, body)
		}
		v.Close()
	}
	ask("bare LF after the request", "POST /api/usages HTTP/1.1\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}", 400)
	ask("too large, sent whole", post(strings.Repeat(" ", 3<<20)), 413)
	ask("large", post(`{"a":"`+strings.Repeat("x", 900<<10)+`"}`), 201)
	ask("pipelined", post(`{}`)+post(`{}`), 201)
	slow, err := dialRawTLS(t, addr, ca.Config(nil))
	if err != nil {
		t.Fatal(err)
	}
	slow.send(post(`{}`))
	if status, body := slow.readResponse(); status != 201 {
		t.Errorf("before a slow header: %d %s", status, body)
	}
	h.SetLimits(withoutDeadlines(Limits{HeaderTimeout: 100 * time.Millisecond}))
	slow.send("POST /api/usages HTTP/1.1\r\nHost:")
	if status, body := slow.readResponse(); status != 408 {
		t.Errorf("slow header: %d %s", status, body)
	}
	slow.Close()
	h.SetLimits(withoutDeadlines(Limits{}))
	// A truncated chunked body is not stored, whether the client sends close_notify first, or
	// not, or only a part of a TLS record.
	before := len(log.usages)
	for _, end := range []string{"close_notify", "nothing", "\x17\x03\x03\x00\x50half"} {
		v, err := dialRawTLS(t, addr, ca.Config(nil))
		if err != nil {
			t.Fatal(err)
		}
		v.send("POST /api/usages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n")
		c := v.Conn.(*tls.Conn)
		switch end {
		case "close_notify":
			_ = c.CloseWrite()
		case "nothing":
			_ = c.NetConn().(*net.TCPConn).CloseWrite()
		default:
			_, _ = io.WriteString(c.NetConn(), end)
			_ = c.NetConn().(*net.TCPConn).CloseWrite()
		}
		if status, body := v.readResponse(); status != 400 {
			t.Errorf("broken off with %q: %d %s", end, status, body)
		}
	}
	waitFor(t, func() bool { return h.Connections() == 0 })
	if len(log.usages) != before {
		t.Error("a truncated body is stored")
	}
	// Closing an idle connection without close_notify does not count as a bad request.
	bad := h.Requests()[400]
	v, err := dialRawTLS(t, addr, ca.Config(nil))
	if err != nil {
		t.Fatal(err)
	}
	v.send(post(`{}`))
	v.readResponse()
	v.Conn.(*tls.Conn).NetConn().Close()
	waitFor(t, func() bool { return h.Connections() == 0 })
	if h.Requests()[400] != bad {
		t.Error("the close is counted as a bad request")
	}
}

func TestFailedHandshakesAreCountedAndLoggedWithoutReceivedData(t *testing.T) {
	t.Parallel()
	ca := authtest.NewAuthority(t)
	var text syncBuffer
	h, addr := startServer(t, newMemoryLog(), Options{
		Policy: auth.Policy{TLS: ca.Server(t, nil)}, Limits: withoutDeadlines(Limits{}),
		Logger: slog.New(slog.NewTextHandler(&text, nil)),
	})
	// Plain HTTP gets a plain response.
	responses, bodies := sendRaw(t, addr, post(`{"secret":1}`), 1)
	if len(responses) != 1 || responses[0].StatusCode != http.StatusBadRequest || !strings.Contains(bodies[0], "use https") || h.Requests()[400] != 1 {
		t.Errorf("%v %v", responses, bodies)
	}
	// A plain HTTP client with a large body also gets a plain response, if it sends the
	// body in time.
	plain := 1
	for responses := 0; responses < 20; plain++ {
		began := time.Now()
		v := dialRaw(t, addr)
		_, err := io.WriteString(v, post(strings.Repeat(" ", 1<<20)))
		status, body := v.readResponse()
		v.Close()
		if time.Since(began) >= turnAwayTime { // the server reads for no longer
			continue
		}
		if err != nil || status != 400 || !strings.Contains(body, "use https") {
			t.Fatalf("%v, %d %s", err, status, body)
		}
		responses++
	}
	v := dialRaw(t, addr)
	v.send("\x16\x03\x01\x40\x00\x01\x00\xff\x00" + strings.Repeat("secret", 5000)) // a ClientHello of 64 KiB
	if _, err := io.ReadAll(v); err != nil && !errors.Is(err, io.EOF) && isTimeout(err) {
		t.Error("an endless ClientHello is not rejected")
	}
	config := ca.Config(nil)
	config.NextProtos = []string{"secret"}
	if _, err := dialRawTLS(t, addr, config); err == nil {
		t.Error("an unknown ALPN protocol was accepted")
	}
	dialRaw(t, addr).Close()
	waitFor(t, func() bool { return h.HandshakeFailures()["closed"] == 1 })
	h.SetLimits(withoutDeadlines(Limits{HeaderTimeout: 100 * time.Millisecond}))
	if _, err := io.ReadAll(dialRaw(t, addr)); err != nil {
		t.Errorf("a silent connection ends with %v, want its close", err)
	}
	waitFor(t, func() bool { return h.Connections() == 0 })
	if m := h.HandshakeFailures(); fmt.Sprint(m) != fmt.Sprintf("map[client_certificate:0 closed:1 not_tls:%d protocol:2 refused:0 timeout:1]", plain) {
		t.Errorf("handshake failures %v", m)
	}
	got := text.String()
	if strings.Count(got, "trouble=handshake") != plain+4 || strings.Contains(got, "secret") || strings.Contains(got, "127.0.0.1") {
		t.Errorf("log: %s", got)
	}
}

// A TLS client that is turned away gets the response over TLS, not in plaintext.
func TestAConnectionTurnedAwayGetsAResponseOverTLS(t *testing.T) {
	ca := authtest.NewAuthority(t)
	log := newMemoryLog()
	log.appendStarted, log.continueAppend = make(chan struct{}), make(chan struct{})
	h, addr := startServer(t, log, Options{Limits: withoutDeadlines(Limits{MaxConnections: 1})})
	_, release := occupyConnections(t, log, addr, 1)
	defer release()
	h.SetPolicy(auth.Policy{TLS: ca.Server(t, nil)})
	waitFor(t, func() bool { // a busy machine may take longer than turnAwayTime
		v, err := dialRawTLS(t, addr, ca.Config(nil))
		if err != nil {
			return false
		}
		_, _ = io.WriteString(v, post(`{}`))
		status, body := v.readResponse()
		return status == http.StatusServiceUnavailable && strings.Contains(body, CodeOverloaded)
	})
}

// Connections with an unfinished handshake count as connections, and make room before
// another one is turned away.
func TestUnfinishedHandshakesDoNotBlockOthers(t *testing.T) {
	ca := authtest.NewAuthority(t)
	h, addr := startServer(t, newMemoryLog(), Options{Policy: auth.Policy{TLS: ca.Server(t, nil)}, Limits: withoutDeadlines(Limits{MaxConnections: 40})})
	for i := range 40 {
		hello := "\x16\x03\x01\x02\x00\x01\x00"
		if i%2 == 1 {
			hello = hello[:1]
		}
		dialRaw(t, addr).send(hello)
	}
	waitFor(t, func() bool { return h.Connections() == 40 })
	waitFor(t, func() bool { // until the oldest one may be cut off
		h.conns.mu.Lock()
		defer h.conns.mu.Unlock()
		return h.conns.secure.strangers.head.queuedSince <= h.conns.deadline(time.Now())-int64(connMinTime)
	})
	v, err := dialRawTLS(t, addr, ca.Config(nil))
	if err != nil {
		t.Fatal(err)
	}
	v.send(post(`{}`))
	if status, body := v.readResponse(); status != 201 {
		t.Errorf("%d %s", status, body)
	}
	waitFor(t, func() bool { return h.Connections() <= 40 }) // an ending connection counts until it is closed
}

// Clients that send all the time notice no reload of certificates, tokens and authorities.
func TestReloadsUnderLoadDropNothing(t *testing.T) {
	ca := authtest.NewAuthority(t)
	_, headers := newTokens(t, "a")
	policy := func(i int) auth.Policy {
		return auth.Policy{Tokens: tokenFor(t, "a", headers[0], fmt.Sprintf("rate=%d", 1_000_000+i)), TLS: ca.Server(t, ca)}
	}
	h, addr := startServer(t, newMemoryLog(), Options{Policy: policy(0)})
	_, value, _ := strings.Cut(headers[0], ": ")
	certificate := ca.Client(t, nil)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var posted [8]int
	for c := range posted {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: ca.Config(certificate), DisableKeepAlives: c%4 == 3}}
			defer client.CloseIdleConnections()
			for ; ; posted[c]++ {
				select {
				case <-stop:
					return
				default:
				}
				req, _ := http.NewRequest(http.MethodPost, "https://"+addr+"/api/usages", strings.NewReader(`{"a":1}`))
				req.Header.Set("Authorization", value)
				resp, err := client.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode != http.StatusCreated {
					t.Error(resp.Status)
					return
				}
			}
		})
	}
	answered := func() uint64 { return h.Requests()[201] }
	for i := range 20 {
		at := answered()
		waitFor(t, func() bool { return answered() > at+20 || t.Failed() })
		h.SetPolicy(policy(i + 1))
	}
	close(stop)
	wg.Wait()
	if m := h.HandshakeFailures(); m["protocol"]+m["client_certificate"]+m["timeout"] > 0 {
		t.Errorf("handshakes failed: %v", m)
	}
	t.Logf("%v requests, %d reloads", posted, 20)
}
