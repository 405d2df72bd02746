package httpserver

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"collectord/collectord/auth"
	"collectord/collectord/auth/authtest"
)

// newTokens returns tokens for names, each with an optional "=rate", and their headers.
func newTokens(t *testing.T, names ...string) (tokens *auth.Tokens, headers []string) {
	t.Helper()
	text := ""
	for _, name := range names {
		name, rate, _ := strings.Cut(name, "=")
		token, line := auth.NewToken(name, 0)
		if rate != "" {
			line += " rate=" + rate
		}
		text += line + "\n"
		headers = append(headers, "Authorization: Bearer "+token)
	}
	tokens, err := auth.ParseTokens([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return tokens, headers
}

// tokenFor returns the tokens of a file with one client, for an existing header.
func tokenFor(t *testing.T, name, header string, more ...string) *auth.Tokens {
	t.Helper()
	token := strings.TrimPrefix(header, "Authorization: Bearer ")
	tokens, err := auth.ParseTokens(fmt.Appendf(nil, "%s sha256:%x %s", name, sha256.Sum256([]byte(token)), strings.Join(more, " ")))
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

func TestAuthentication(t *testing.T) {
	tokens, headers := newTokens(t, "ward-3")
	good := headers[0]
	const plain = `Bearer realm="collectord"`
	const invalid = plain + `, error="invalid_token"`
	for name, c := range map[string]struct {
		policy    auth.Policy
		header    string
		status    int
		challenge string
		client    string
	}{
		"nothing required":                {auth.Policy{}, "X: y", 201, "", ""},
		"nothing required, a token sent":  {auth.Policy{}, good, 201, "", ""},
		"a valid token":                   {auth.Policy{Tokens: tokens}, good, 201, "", "ward-3"},
		"the scheme in other case":        {auth.Policy{Tokens: tokens}, strings.Replace(good, "Bearer ", "bEARER   ", 1), 201, "", "ward-3"},
		"the name in other case":          {auth.Policy{Tokens: tokens}, strings.Replace(good, "Authorization", "authorization", 1), 201, "", "ward-3"},
		"no token":                        {auth.Policy{Tokens: tokens}, "X: y", 401, plain, ""},
		"another scheme":                  {auth.Policy{Tokens: tokens}, "Authorization: Basic c2VjcmV0", 401, plain, ""},
		"an unknown token":                {auth.Policy{Tokens: tokens}, good[:len(good)-2] + "AA", 401, invalid, ""},
		"text after the token":            {auth.Policy{Tokens: tokens}, good + " x", 401, invalid, ""},
		"an empty token":                  {auth.Policy{Tokens: tokens}, "Authorization: Bearer", 401, invalid, ""},
		"a token without its scheme":      {auth.Policy{Tokens: tokens}, strings.Replace(good, "Bearer ", "", 1), 401, plain, ""},
		"two tokens":                      {auth.Policy{Tokens: tokens}, good + "\r\n" + good, 400, "", ""},
		"anonymous, no token":             {auth.Policy{Tokens: tokens, Anonymous: true}, "X: y", 201, "", ""},
		"anonymous, an unknown token":     {auth.Policy{Tokens: tokens, Anonymous: true}, "Authorization: Bearer secret", 401, invalid, ""},
		"anonymous, a valid token":        {auth.Policy{Tokens: tokens, Anonymous: true}, good, 201, "", "ward-3"},
		"an empty tokens file":            {auth.Policy{Tokens: &auth.Tokens{}}, good, 401, invalid, ""},
		"a page of another site":          {auth.Policy{Tokens: tokens}, "Sec-Fetch-Site: cross-site", 403, "", ""},
		"a page of another site, a token": {auth.Policy{Tokens: tokens}, "Sec-Fetch-Site: cross-site\r\n" + good, 201, "", "ward-3"},
		"no token, wrong type":            {auth.Policy{Tokens: tokens}, "Content-Type: text/plain", 401, plain, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := newMemoryLog()
			h, addr := startServer(t, log, Options{Policy: c.policy})
			responses, bodies := sendRaw(t, addr, post(`{"a":1}`, c.header), 1)
			if len(responses) != 1 || responses[0].StatusCode != c.status || responses[0].Header.Get("WWW-Authenticate") != c.challenge {
				t.Fatalf("%v %v", responses, bodies)
			}
			var want string
			switch c.status {
			case 401:
				want = "map[http unauthorized:1]"
			case 403:
				want = "map[http cross_site:1]"
			case 400:
				want = "map[http bad_request:1]"
			default:
				want = "map[]"
			}
			if got := fmt.Sprint(log.rejected); got != want {
				t.Errorf("rejected %s, want %s", got, want)
			}
			if c.status == 401 && (!responses[0].Close || h.Requests()[401] != 1 || strings.Contains(bodies[0], "cd_")) {
				t.Errorf("close %v, %d responses 401: %s", responses[0].Close, h.Requests()[401], bodies[0])
			}
			if c.status == 201 && (len(log.clients) != 1 || log.clients[0] != c.client) {
				t.Errorf("stored for the clients %q, want %q", log.clients, c.client)
			}
			if c.status != 201 && len(log.usages) > 0 {
				t.Errorf("stored %q, want nothing", log.usages)
			}
		})
	}
}

// The health check, an unknown path and an unsupported method need no token.
func TestHealthNeedsNoToken(t *testing.T) {
	tokens, _ := newTokens(t, "a")
	_, addr := startServer(t, newMemoryLog(), Options{Policy: auth.Policy{Tokens: tokens}})
	for request, want := range map[string]int{
		"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n":    200,
		"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n":          404,
		"GET /api/usages HTTP/1.1\r\nHost: localhost\r\n\r\n": 405,
	} {
		if responses, _ := sendRaw(t, addr, request, 1); len(responses) != 1 || responses[0].StatusCode != want {
			t.Errorf("%s: %v", request, responses)
		}
	}
}

// The body of an unauthenticated request is not read as the next request, on any path.
func TestAnUnauthenticatedBodyIsNotReadAsARequest(t *testing.T) {
	tokens, headers := newTokens(t, "a")
	const next = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
	for path, want := range map[string][]int{"/api/usages": {401}, "/healthz": {405, 200}, "/x": {404, 200}} {
		_, addr := startServer(t, newMemoryLog(), Options{Policy: auth.Policy{Tokens: tokens}})
		request := strings.Replace(post("0\r\n\r\n"+next, "Authorization: Bearer x"), "/api/usages", path, 1)
		responses, bodies := sendRaw(t, addr, request+next, len(want))
		var got []int
		for _, a := range responses {
			got = append(got, a.StatusCode)
		}
		if !slices.Equal(got, want) || len(want) == 1 && !responses[0].Close {
			t.Errorf("%s: %v, want %v: %q", path, got, want, bodies)
		}
		request = strings.Replace(request, "Bearer x", strings.TrimPrefix(headers[0], "Authorization: "), 1)
		if responses, _ := sendRaw(t, addr, request+next, 2); len(responses) != 2 {
			t.Errorf("%s with a token: %d responses, want 2", path, len(responses))
		}
	}
}

// An unauthenticated request is rejected at once: its body is neither awaited nor stored.
func TestAnUnauthenticatedBodyIsNotRead(t *testing.T) {
	tokens, _ := newTokens(t, "a")
	const wrong = "Authorization: Bearer cd_secret\r\n"
	for name, head := range map[string]string{
		"4 MiB to come":        "Content-Length: 4194304\r\n" + wrong,
		"chunks to come":       "Transfer-Encoding: chunked\r\n" + wrong,
		"100-continue":         "Content-Length: 4194304\r\nExpect: 100-continue\r\n" + wrong,
		"100-continue, chunks": "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n" + wrong,
		"compressed":           "Content-Length: 4194304\r\nContent-Encoding: gzip\r\n" + wrong,
	} {
		log := newMemoryLog()
		h, addr := startServer(t, log, Options{Policy: auth.Policy{Tokens: tokens}})
		v := dialRaw(t, addr)
		v.send("POST /api/usages HTTP/1.1\r\nHost: localhost\r\n" + head + "\r\n")
		// A wrong server would first respond 100.
		if status, body := v.readResponse(); status != http.StatusUnauthorized {
			t.Errorf("%s: %d %s", name, status, body)
		}
		if fmt.Sprint(log.rejected) != "map[http unauthorized:1]" || h.inFlight.free != h.opts.MaxInFlight {
			t.Errorf("%s: rejected %v, or bytes are in flight", name, log.rejected)
		}
	}
	// If the client sends the whole body without waiting, it also receives the response.
	_, addr := startServer(t, newMemoryLog(), Options{Policy: auth.Policy{Tokens: tokens}})
	resp, err := http.Post("http://"+addr+"/api/usages", "application/json", strings.NewReader(strings.Repeat(" ", 4<<20)))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Error(resp.Status)
	}
	tokens, headers := newTokens(t, "a")
	_, addr = startServer(t, newMemoryLog(), Options{Policy: auth.Policy{Tokens: tokens}})
	v := dialRaw(t, addr)
	v.send("POST /api/usages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nExpect: 100-continue\r\n" + headers[0] + "\r\n\r\n")
	if status, _ := v.readResponse(); status != http.StatusContinue {
		t.Errorf("a valid token with 100-continue: %d, want 100", status)
	}
	v.send("{}")
	if status, body := v.readResponse(); status != http.StatusCreated {
		t.Errorf("after the body: %d %s", status, body)
	}
}

func TestARemovedTokenIsRejectedAtTheNextRequestOfAnOpenConnection(t *testing.T) {
	tokens, headers := newTokens(t, "a", "b")
	onlyB := tokenFor(t, "b", headers[1])
	h, addr := startServer(t, newMemoryLog(), Options{Policy: auth.Policy{Tokens: tokens}})
	a, b := dialRaw(t, addr), dialRaw(t, addr)
	ask := func(v *rawClient, header string, want int) {
		t.Helper()
		v.send(post(`{}`, header))
		if status, body := v.readResponse(); status != want {
			t.Errorf("%d %s, want %d", status, body, want)
		}
	}
	ask(a, headers[0], 201)
	ask(b, headers[1], 201)
	h.SetPolicy(auth.Policy{Tokens: onlyB})
	ask(a, headers[0], 401)
	ask(b, headers[1], 201)
	h.SetPolicy(auth.Policy{Tokens: tokens})
	ask(b, headers[0], 201)
}

// Each client has its own keys, and its own ids for the same key and body.
func TestIdempotencyKeysBelongToTheirClient(t *testing.T) {
	tokens, headers := newTokens(t, "a", "b")
	log := newMemoryLog()
	_, addr := startServer(t, log, Options{Policy: auth.Policy{Tokens: tokens}})
	send := func(header, body string) (int, string, string) {
		t.Helper()
		responses, bodies := sendRaw(t, addr, post(body, header, "Idempotency-Key: k"), 1)
		return responses[0].StatusCode, bodies[0], responses[0].Header.Get("Idempotency-Replayed")
	}
	_, first, _ := send(headers[0], `{"a":1}`)
	if status, other, replayed := send(headers[1], `{"a":1}`); status != 201 || other == first || replayed != "" {
		t.Errorf("the key of another client: %d %s, first client %s", status, other, first)
	}
	if status, _, _ := send(headers[1], `{"a":2}`); status != 422 {
		t.Errorf("the same key with another body: %d, want 422", status)
	}
	if status, again, replayed := send(headers[0], `{"a":1}`); status != 201 || again != first || replayed != "true" {
		t.Errorf("the first request repeated: %d %s, want %s", status, again, first)
	}
	if want := newIDDeriver("a", []byte("k")).id(0, []byte(`{"a":1}`)); log.ids[0] != want || len(log.ids) != 2 {
		t.Errorf("ids %v", log.ids)
	}
}

func TestTokenRatesAreSeparateAndReloaded(t *testing.T) {
	tokens, headers := newTokens(t, "a=1", "b")
	h, addr := startServer(t, newMemoryLog(), Options{Policy: auth.Policy{Tokens: tokens}})
	status := func(header string) int {
		t.Helper()
		responses, _ := sendRaw(t, addr, post("["+strings.Repeat("{},", 999)+"{}]", header), 1) // 1000 usages: 1000 s at the rate of a
		return responses[0].StatusCode
	}
	if got := []int{status(headers[0]), status(headers[0]), status(headers[1]), status(headers[1])}; fmt.Sprint(got) != "[201 429 201 201]" {
		t.Errorf("statuses %v", got)
	}
	free := tokenFor(t, "a", headers[0])
	h.SetPolicy(auth.Policy{Tokens: free})
	if got := status(headers[0]); got != 201 {
		t.Errorf("without a rate: %d, want 201", got)
	}
}

func TestRejectionsAreLoggedWithoutReceivedData(t *testing.T) {
	tokens, _ := newTokens(t, "a")
	var text syncBuffer
	_, addr := startServer(t, newMemoryLog(), Options{Policy: auth.Policy{Tokens: tokens}, Logger: slog.New(slog.NewTextHandler(&text, nil))})
	sendRaw(t, addr, post(`{}`, "Authorization: Bearer secret"), 1)
	sendRaw(t, addr, post(`{}`), 1)
	got := text.String()
	if strings.Count(got, "trouble=unauthorized") != 2 || !strings.Contains(got, `reason="unknown token"`) || !strings.Contains(got, `reason="no token"`) || strings.Contains(got, "secret") || strings.Contains(got, "127.0.0.1") {
		t.Errorf("logged: %s", got)
	}
}

// syncBuffer collects what a logger writes.
type syncBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// The permissions of a unix socket decide which clients may connect. These clients need a
// token if tokens are configured, but neither TLS nor a certificate.
func TestUnixSocketsNeedTokensButNoTLS(t *testing.T) {
	tokens, headers := newTokens(t, "a")
	ca := authtest.NewAuthority(t)
	h := newServer(t, newMemoryLog(), Options{Policy: auth.Policy{Tokens: tokens, TLS: ca.Server(t, ca)}})
	path := t.TempDir() + "/socket"
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	go h.Serve(ln)
	defer ln.Close()
	client := &http.Client{Timeout: testTimeout, Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", path) }}}
	defer client.CloseIdleConnections()
	for header, want := range map[string]int{headers[0]: 201, "Authorization: Bearer x": 401} {
		req, _ := http.NewRequest(http.MethodPost, "http://x/api/usages", strings.NewReader(`{}`))
		_, value, _ := strings.Cut(header, ": ")
		req.Header.Set("Authorization", value)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s, want %d", resp.Status, want)
		}
	}
}
