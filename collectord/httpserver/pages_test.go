package httpserver

import (
	"bufio"
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"collectord/collectord/auth"
	"collectord/collectord/auth/authtest"
	"collectord/collectord/origin"
)

func listenOn(t *testing.T, network, address string) net.Listener {
	t.Helper()
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// requestHeader returns a request's header.
func requestHeader(requestLine string, headers ...string) string {
	return requestLine + "\r\n" + strings.Join(headers, "\r\n") + "\r\n\r\n"
}

const postLine = "POST /api/usages HTTP/1.1"

// The rows are requests that browsers send for web pages, and requests of other programs.
// The server has its default policy: a loopback listener without tokens.
func TestAPageOfAnotherSiteStoresNothing(t *testing.T) {
	const evil, length = "Origin: http://evil.test", "Content-Length: 7"
	log := newMemoryLog()
	var text bytes.Buffer
	ln := listenOn(t, "tcp", "127.0.0.1:0")
	startServerOn(t, ln, log, Options{Logger: slog.New(slog.NewTextHandler(&text, nil))})
	neighbor := dialRaw(t, ln.Addr().String())
	rows := map[string]struct {
		header string
		status int
	}{
		// Chromium sends such requests: see TestChromiumStoresNothingForOtherPages.
		"a Blob in plain http to a name":  {requestHeader(postLine, "Host: usages.test:3000", "Connection: keep-alive", length, "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36", "Accept: */*", "Origin: http://evil.test:8081", "Referer: http://evil.test:8081/", "Accept-Encoding: gzip, deflate"), 403},
		"a Blob in an older browser":      {requestHeader(postLine, "Host: localhost:3000", length, evil), 403},
		"after DNS rebinding":             {requestHeader(postLine, "Host: evil.test:3000", length, "Origin: http://evil.test:3000"), 403},
		"DNS rebinding in an old browser": {requestHeader(postLine, "Host: evil.test:3000", length, "Referer: http://evil.test:3000/"), 403},
		"a Blob to an address":            {requestHeader(postLine, "Host: 127.0.0.1:3000", length, "Origin: http://127.0.0.2:8080", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"), 403},
		"a frame without an origin":       {requestHeader(postLine, "Host: localhost:3000", length, "Origin: null", "Sec-Fetch-Site: cross-site"), 403},
		"a file":                          {requestHeader(postLine, "Host: localhost:3000", length, "Origin: file://"), 403},
		"a form":                          {requestHeader(postLine, "Host: localhost:3000", length, evil, "Content-Type: text/plain"), 403},
		"two origins":                     {requestHeader(postLine, "Host: localhost:3000", length, "Origin: http://localhost", evil), 403},
		"its own name in the target":      {requestHeader("POST http://evil.test/api/usages HTTP/1.1", "Host: localhost", length), 403},
		"a token that is not needed":      {requestHeader(postLine, "Host: localhost", length, evil, "Authorization: Bearer cd_x"), 403},
		"100-continue":                    {requestHeader(postLine, "Host: localhost", length, evil, "Expect: 100-continue"), 403},
		"HTTP/1.0":                        {requestHeader("POST /api/usages HTTP/1.0", "Host: localhost", length, evil), 403},

		"a page of another port":        {requestHeader(postLine, "Host: localhost:3000", length, "Origin: http://localhost:8080", "Sec-Fetch-Site: same-site"), 201},
		"its own page":                  {requestHeader(postLine, "Host: localhost:3000", length, "Origin: http://localhost:3000", "Sec-Fetch-Site: same-origin"), 201},
		"curl":                          {requestHeader(postLine, "Host: localhost:3000", "User-Agent: curl/8", "Accept: */*", length), 201},
		"IPv6":                          {requestHeader(postLine, "Host: [::1]:3000", length), 201},
		"HTTP/1.0 without Host":         {requestHeader("POST /api/usages HTTP/1.0", length), 201},
		"this host in the target":       {requestHeader("POST http://localhost:3000/api/usages HTTP/1.1", "Host: evil.test", length), 201},
		"100-continue by a program":     {requestHeader(postLine, "Host: localhost", length, "Expect: 100-continue"), 100},
		"a form of a program":           {requestHeader(postLine, "Host: localhost", length, "Content-Type: application/x-www-form-urlencoded"), 415},
		"a multipart form of a program": {requestHeader(postLine, "Host: localhost", length, "Content-Type: multipart/form-data; boundary=x"), 415},
		"text of a program":             {requestHeader(postLine, "Host: localhost", length, "Content-Type: text/plain;charset=UTF-8"), 415},

		"a preflight request":         {requestHeader("OPTIONS /api/usages HTTP/1.1", "Host: localhost", evil, "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type"), 405},
		"a preflight of its own page": {requestHeader("OPTIONS /api/usages HTTP/1.1", "Host: localhost", "Origin: http://localhost", "Access-Control-Request-Method: POST"), 405},
		"a page reads the health":     {requestHeader("GET /healthz HTTP/1.1", "Host: localhost", evil), 200},
		"a page reads the usages":     {requestHeader("GET /api/usages HTTP/1.1", "Host: localhost", evil), 405},
	}
	rejected := 0
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			stored := len(log.usages)
			neighbor.send(post(`{"b":1}`)) // so that the pools have been used
			if status, body := neighbor.readResponse(); status != http.StatusCreated {
				t.Fatalf("another client: %d %s", status, body)
			}
			n := 1
			if row.status == http.StatusContinue {
				n = 2
			}
			responses, bodies := sendRaw(t, ln.Addr().String(), row.header+`{"a":1}`, n)
			if len(responses) != n || responses[0].StatusCode != row.status {
				t.Fatalf("%v %v", responses, bodies)
			}
			want := stored + 1
			if row.status < http.StatusBadRequest && strings.HasPrefix(row.header, "POST") {
				want++
			}
			if row.status == http.StatusForbidden {
				rejected++
				if !responses[0].Close || !strings.Contains(bodies[0], `"cross_site"`) || !strings.Contains(bodies[0], "http.") && !strings.Contains(bodies[0], "at most one") || strings.Contains(bodies[0], "evil") {
					t.Errorf("close %v: %s", responses[0].Close, bodies[0])
				}
			}
			log.mu.Lock()
			defer log.mu.Unlock()
			if len(log.usages) != want || log.rejected["http cross_site"] != rejected {
				t.Errorf("stored %d, want %d; rejected %v, want %d", len(log.usages), want, log.rejected, rejected)
			}
			for name := range responses[0].Header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("the response has the field %s", name)
				}
			}
		})
	}
	if got := strings.Count(text.String(), "trouble=cross_site"); got != rejected || strings.Contains(text.String(), "evil") {
		t.Errorf("%d of %d rejections are logged: %s", got, rejected, text.String())
	}
}

// The checks of Origin and Host depend on the listener and on the client's identity. Only a
// valid token exempts a request, because browsers add certificates by themselves.
func TestOriginAndHostByListenerAndIdentity(t *testing.T) {
	ca := authtest.NewAuthority(t)
	tokens, headers := newTokens(t, "ward-3")
	token := headers[0]
	ours := origin.NewRule([]string{"null", "https://app.test"}, []string{"usages.test", "2001:db8::1"})
	const evilOrigin, evilHost = "Origin: http://evil.test", "Host: evil.test"
	type row struct {
		listen  string // loopback, wildcard, unix, passed
		policy  auth.Policy
		headers []string
		status  int
	}
	for name, r := range map[string]row{
		"wildcard, the host is not known":     {"wildcard", auth.Policy{Anonymous: true}, []string{evilHost}, 201},
		"wildcard, a page of that host":       {"wildcard", auth.Policy{Anonymous: true}, []string{evilHost, evilOrigin}, 201},
		"wildcard, another page":              {"wildcard", auth.Policy{Anonymous: true}, []string{"Host: localhost", evilOrigin}, 403},
		"unix, any host":                      {"unix", auth.Policy{}, []string{"Host: whatever"}, 201},
		"unix, a page behind a proxy":         {"unix", auth.Policy{}, []string{"Host: usages.test", "Origin: https://usages.test"}, 201},
		"unix, another page behind a proxy":   {"unix", auth.Policy{}, []string{"Host: usages.test", evilOrigin}, 403},
		"passed socket, another host":         {"passed", auth.Policy{}, []string{evilHost}, 403},
		"passed socket, this host":            {"passed", auth.Policy{}, []string{"Host: localhost"}, 201},
		"anonymous on loopback, another host": {"loopback", auth.Policy{Anonymous: true}, []string{evilHost}, 403},

		"a token, everything foreign":            {"loopback", auth.Policy{Tokens: tokens}, []string{evilHost, evilOrigin, "Sec-Fetch-Site: cross-site", token}, 201},
		"a token, another host":                  {"loopback", auth.Policy{Tokens: tokens}, []string{evilHost, token}, 201},
		"a token, two origins":                   {"loopback", auth.Policy{Tokens: tokens}, []string{"Host: localhost", evilOrigin, evilOrigin, token}, 201},
		"a wrong token of a page":                {"loopback", auth.Policy{Tokens: tokens}, []string{"Host: localhost", evilOrigin, "Authorization: Bearer cd_x"}, 403},
		"no token of a page":                     {"loopback", auth.Policy{Tokens: tokens}, []string{"Host: localhost", evilOrigin}, 403},
		"no token, another host":                 {"loopback", auth.Policy{Tokens: tokens}, []string{evilHost}, 401},
		"a token where none is needed":           {"loopback", auth.Policy{Tokens: tokens, Anonymous: true}, []string{evilHost, evilOrigin, token}, 201},
		"no token where none is needed":          {"loopback", auth.Policy{Tokens: tokens, Anonymous: true}, []string{evilHost}, 403},
		"a token where there are none":           {"wildcard", auth.Policy{Anonymous: true}, []string{"Host: collector.test", evilOrigin, token}, 403},
		"no token, its own page":                 {"wildcard", auth.Policy{Tokens: tokens, Anonymous: true}, []string{"Host: collector.test", "Origin: http://collector.test:8080"}, 201},
		"an origin that is added":                {"loopback", auth.Policy{Pages: ours}, []string{"Host: localhost", "Origin: null", "Sec-Fetch-Site: cross-site"}, 201},
		"an origin that is added, another host":  {"loopback", auth.Policy{Pages: ours}, []string{evilHost, "Origin: https://app.test"}, 403},
		"a host that is added":                   {"loopback", auth.Policy{Pages: ours}, []string{"Host: usages.test"}, 201},
		"a host that is added, its page":         {"loopback", auth.Policy{Pages: ours}, []string{"Host: Usages.test:80", "Origin: http://usages.test"}, 201},
		"a host that is added, an address":       {"loopback", auth.Policy{Pages: ours}, []string{"Host: [2001:DB8::1]:3000"}, 201},
		"a host that is added, another page":     {"loopback", auth.Policy{Pages: ours}, []string{"Host: usages.test", evilOrigin}, 403},
		"a certificate, a page":                  {"loopback", auth.Policy{TLS: ca.Server(t, ca)}, []string{"Host: localhost", evilOrigin}, 403},
		"a certificate, another host":            {"loopback", auth.Policy{TLS: ca.Server(t, ca)}, []string{evilHost}, 403},
		"a certificate, no page":                 {"loopback", auth.Policy{TLS: ca.Server(t, ca)}, []string{"Host: localhost"}, 201},
		"a certificate and a token, a page":      {"loopback", auth.Policy{TLS: ca.Server(t, ca), Tokens: tokens}, []string{"Host: localhost", evilOrigin, token}, 201},
		"a certificate without the token asked":  {"loopback", auth.Policy{TLS: ca.Server(t, ca), Tokens: tokens}, []string{"Host: localhost", evilOrigin}, 403},
		"a certificate on a wildcard, no page":   {"wildcard", auth.Policy{TLS: ca.Server(t, ca)}, []string{"Host: collector.test"}, 201},
		"a certificate on a wildcard, its page":  {"wildcard", auth.Policy{TLS: ca.Server(t, ca)}, []string{"Host: collector.test", "Origin: https://collector.test"}, 201},
		"a certificate on a wildcard, a page":    {"wildcard", auth.Policy{TLS: ca.Server(t, ca)}, []string{"Host: collector.test", evilOrigin}, 403},
		"TLS, the name in the certificate":       {"loopback", auth.Policy{TLS: ca.Server(t, nil)}, []string{"Host: 127.0.0.1:3000"}, 201},
		"TLS, another page":                      {"loopback", auth.Policy{TLS: ca.Server(t, nil)}, []string{"Host: 127.0.0.1:3000", evilOrigin}, 403},
		"TLS, a page without TLS of this host":   {"loopback", auth.Policy{TLS: ca.Server(t, nil)}, []string{"Host: 127.0.0.1:3000", "Origin: http://127.0.0.1", "Sec-Fetch-Site: cross-site"}, 403},
		"two Sec-Fetch-Site, as by a proxy":      {"loopback", auth.Policy{}, []string{"Host: localhost", "Sec-Fetch-Site: none", "Sec-Fetch-Site: cross-site"}, 403},
		"an allowed origin, twice":               {"loopback", auth.Policy{Pages: ours}, []string{"Host: localhost", "Origin: null", "Origin: null"}, 403},
		"a header in another case, another page": {"loopback", auth.Policy{}, []string{"host: localhost", "oRIGIN: http://evil.test"}, 403},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var ln net.Listener
			switch r.listen {
			case "loopback":
				ln = listenOn(t, "tcp", "127.0.0.1:0")
			case "wildcard":
				ln = listenOn(t, "tcp4", "0.0.0.0:0")
			case "unix":
				ln = listenOn(t, "unix", filepath.Join(t.TempDir(), "http"))
			case "passed":
				bound := listenOn(t, "tcp", "127.0.0.1:0")
				file, err := bound.(*net.TCPListener).File()
				if err != nil {
					t.Fatal(err)
				}
				defer file.Close()
				bound.Close()
				if ln, err = net.FileListener(file); err != nil {
					t.Fatal(err)
				}
			}
			address := ln.Addr()
			log := newMemoryLog()
			startServerOn(t, ln, log, Options{Policy: r.policy})
			var v *rawClient
			switch {
			case r.listen == "unix":
				v = dialRawOn(t, address)
			case r.policy.TLS != nil:
				var err error
				if v, err = dialRawTLS(t, fmt.Sprintf("127.0.0.1:%d", address.(*net.TCPAddr).Port), ca.Config(ca.Client(t, nil))); err != nil {
					t.Fatal(err)
				}
			default:
				v = dialRaw(t, fmt.Sprintf("127.0.0.1:%d", address.(*net.TCPAddr).Port))
			}
			v.send(requestHeader(postLine, append(r.headers, "Content-Length: 2")...) + "{}")
			status, body := v.readResponse()
			if status != r.status || (status == 201) != (len(log.usages) == 1) {
				t.Errorf("%d %s, stored %v", status, body, log.usages)
			}
			if want := map[int]string{201: "map[]", 401: "map[http unauthorized:1]", 403: "map[http cross_site:1]"}[r.status]; fmt.Sprint(log.rejected) != want {
				t.Errorf("rejected %v, want %s", log.rejected, want)
			}
		})
	}
}

// dialRawOn is dialRaw for any network.
func dialRawOn(t *testing.T, a net.Addr) *rawClient {
	t.Helper()
	c, err := net.Dial(a.Network(), a.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(testTimeout))
	return &rawClient{t, c, bufio.NewReader(c)}
}

// The body of a page's request is not read: the response is sent before the body arrives.
func TestTheBodyOfACrossSiteRequestIsNotRead(t *testing.T) {
	for name, header := range map[string]string{
		"4 MiB to come":        "Content-Length: 4194304\r\nX: y\r\n\r\n" + strings.Repeat(" ", 1<<10),
		"chunks to come":       "Transfer-Encoding: chunked",
		"100-continue":         "Content-Length: 4194304\r\nExpect: 100-continue",
		"100-continue, chunks": "Transfer-Encoding: chunked\r\nExpect: 100-continue",
	} {
		log := newMemoryLog()
		ln := listenOn(t, "tcp", "127.0.0.1:0")
		h, _ := startServerOn(t, ln, log, Options{})
		v := dialRaw(t, ln.Addr().String())
		v.send(requestHeader(postLine, "Host: localhost", "Origin: http://evil.test", header))
		if status, body := v.readResponse(); status != http.StatusForbidden {
			t.Errorf("%s: %d %s", name, status, body)
		}
		if fmt.Sprint(log.rejected) != "map[http cross_site:1]" || h.inFlight.free != h.opts.MaxInFlight {
			t.Errorf("%s: rejected %v, or bytes are in flight", name, log.rejected)
		}
	}
}

// A reloaded rule applies to the next request of an open connection.
func TestANewOriginRuleAppliesToOpenConnections(t *testing.T) {
	ln := listenOn(t, "tcp", "127.0.0.1:0")
	h, _ := startServerOn(t, ln, newMemoryLog(), Options{})
	first := dialRaw(t, ln.Addr().String())
	first.send(post("{}"))
	if status, body := first.readResponse(); status != http.StatusCreated {
		t.Fatalf("%d %s", status, body)
	}
	h.SetPolicy(auth.Policy{Pages: origin.NewRule([]string{"null"}, nil)})
	first.send(post("{}", "Origin: null"))
	if status, body := first.readResponse(); status != http.StatusCreated {
		t.Errorf("an origin that was added: %d %s", status, body)
	}
	h.SetPolicy(auth.Policy{})
	first.send(post("{}", "Origin: null"))
	if status, body := first.readResponse(); status != http.StatusForbidden {
		t.Errorf("an origin that was removed: %d %s", status, body)
	}
}
