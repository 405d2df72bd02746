package httpserver

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"collectord/collectord/usage"
	"collectord/wal"
)

func postWithKey(key, body string, headers ...string) string {
	return post(body, append(headers, "Idempotency-Key: "+key)...)
}

// roundTrip sends one request and returns the response and its body.
func roundTrip(t *testing.T, addr, request string) (*http.Response, string) {
	t.Helper()
	responses, bodies := sendRaw(t, addr, request, 1)
	if len(responses) != 1 {
		t.Fatal("no response")
	}
	return responses[0], bodies[0]
}

func TestARepeatedKeyGetsTheFirstResponseAndStoresNothing(t *testing.T) {
	for name, c := range map[string]struct{ first, again string }{
		"object":            {postWithKey("k", `{"a":1}`), postWithKey(`"k"`, `{"a":1}`)},
		"array with ids":    {postWithKey("k", `[{"a":1},2,{"a":1}]`, idsHeader), postWithKey("k", `[{"a":1},2,{"a":1}]`)},
		"array, compressed": {postWithKey("k", `[{"a":1}]`), postWithKey("k", compress(t, "gzip", `[{"a":1}]`), "Content-Encoding: gzip", strictHeader)},
	} {
		t.Run(name, func(t *testing.T) {
			log := newMemoryLog()
			_, addr := startServer(t, log, Options{})
			first, want := roundTrip(t, addr, c.first)
			stored := len(log.usages)
			again, got := roundTrip(t, addr, c.again)
			if got != want || again.StatusCode != first.StatusCode || again.Header.Get("Idempotency-Replayed") != "true" || first.Header.Get("Idempotency-Replayed") != "" ||
				again.Header.Get("Preference-Applied") != first.Header.Get("Preference-Applied") {
				t.Errorf("repeated: %s %s, first: %s %s", again.Status, got, first.Status, want)
			}
			if len(log.usages) != stored || log.repeated != stored {
				t.Errorf("stored %v, %d repeated", log.usages, log.repeated)
			}
		})
	}
}

// The first response stays true: what it rejected is not stored, and what it accepted is.
func TestARepeatedKeyGetsTheFirstResponseAfterAnotherMaxRecord(t *testing.T) {
	for name, limits := range map[string][2]int{"raised": {1 << 10, 1 << 20}, "lowered": {1 << 20, 1 << 10}} {
		t.Run(name, func(t *testing.T) {
			log := newMemoryLog()
			h, addr := startServer(t, log, Options{Limits: Limits{MaxRecord: limits[0]}})
			request := postWithKey("k", `[{"a":1},{"a":"`+strings.Repeat("x", 2000)+`"}]`, idsHeader)
			_, want := roundTrip(t, addr, request)
			stored := len(log.usages)
			h.SetLimits(Limits{MaxRecord: limits[1]})
			if again, got := roundTrip(t, addr, request); got != want || again.Header.Get("Idempotency-Replayed") != "true" {
				t.Errorf("repeated: %s %s, first: %s", again.Status, got, want)
			}
			if len(log.usages) != stored || log.repeated != stored {
				t.Errorf("stored %d, %d repeated", len(log.usages), log.repeated)
			}
		})
	}
}

func TestAKeyWithAnotherBodyIsRejected(t *testing.T) {
	log := newMemoryLog()
	_, addr := startServer(t, log, Options{})
	roundTrip(t, addr, postWithKey("k", `{"a":1}`))
	for _, other := range []string{postWithKey("k", `{"a":2}`), postWithKey("k", `{"a":1}`, ndjsonHeader), postWithKey("k", `{"a": 1}`)} {
		a, body := roundTrip(t, addr, other)
		if a.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(body, CodeMismatch) {
			t.Errorf("%s %s", a.Status, body)
		}
	}
	if a, _ := roundTrip(t, addr, postWithKey("K", `{"a":2}`)); a.StatusCode != http.StatusCreated {
		t.Error("another key was rejected")
	}
	if len(log.usages) != 2 || log.rejected["http "+CodeMismatch] != 3 {
		t.Errorf("stored %v, rejected %v", log.usages, log.rejected)
	}
}

func TestAKeyInProgressIsRejectedWithRetryAfter(t *testing.T) {
	log := newMemoryLog()
	log.appendStarted, log.continueAppend = make(chan struct{}), make(chan struct{})
	_, addr := startServer(t, log, Options{})
	first := make(chan string)
	go func() {
		_, bodies := sendRaw(t, addr, postWithKey("k", `{"a":1}`), 1)
		first <- strings.Join(bodies, "")
	}()
	<-log.appendStarted
	a, body := roundTrip(t, addr, postWithKey("k", `{"a":1}`))
	if a.StatusCode != http.StatusConflict || !strings.Contains(body, CodeInProgress) || a.Header.Get("Retry-After") == "" {
		t.Errorf("%s %s", a.Status, body)
	}
	close(log.continueAppend)
	want := <-first
	if _, got := roundTrip(t, addr, postWithKey("k", `{"a":1}`)); got != want || !strings.Contains(want, `"id"`) {
		t.Errorf("repeated: %s, first: %s", got, want)
	}
}

func TestOnlyStoredRequestsAreRemembered(t *testing.T) {
	log := newMemoryLog()
	_, addr := startServer(t, log, Options{})
	roundTrip(t, addr, postWithKey("k", `{"a":`)) // 400
	log.appendErr = fmt.Errorf("%w: for a reason", wal.ErrCommitFailed)
	if a, body := roundTrip(t, addr, postWithKey("k", `{"a":1}`)); a.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, "same Idempotency-Key") {
		t.Errorf("%s %s", a.Status, body)
	}
	log.appendErr = nil
	a, body := roundTrip(t, addr, postWithKey("k", `{"a":1}`))
	if a.StatusCode != http.StatusCreated || a.Header.Get("Idempotency-Replayed") != "" || len(log.usages) != 1 {
		t.Errorf("%s %s", a.Status, body)
	}
}

// The id is part of the interface: a request that is repeated after an upgrade or on another
// host gets the same id.
func TestDerivedIDsNeverChange(t *testing.T) {
	const want = "38ae63d9-715b-8733-b005-0b8e8fc1be74" // computed by another program
	for range 2 {                                       // also after a restart
		log := newMemoryLog()
		_, addr := startServer(t, log, Options{})
		roundTrip(t, addr, postWithKey("key-1", "[7,{\"a\":\n1}]"))
		if got := log.ids[0].String(); got != want {
			t.Errorf("the id is %s, want %s", got, want)
		}
	}
	sum := hashParts([]byte("t"), []byte("k"), []byte{0, 0, 0, 0, 0, 0, 0, 3}, []byte("{}"))
	id := newIDDeriver("t", []byte("k")).id(3, []byte("{}"))
	if !bytes.Equal(id[:6], sum[:6]) || id[6]>>4 != 8 || id[8]>>6 != 2 || !bytes.Equal(id[9:], sum[9:16]) {
		t.Errorf("%x of %x", id, sum)
	}
}

func TestInvalidKeysAreRejected(t *testing.T) {
	_, addr := startServer(t, newMemoryLog(), Options{})
	for key, status := range map[string]int{
		"": 400, `""`: 400, "a b": 400, "\xc3\xa9": 400, strings.Repeat("x", 256): 400, "a\r\nIdempotency-Key: a": 400,
		strings.Repeat("x", 255): 201, `"` + strings.Repeat("y", 255) + `"`: 201, `"`: 201, "!~": 201,
	} {
		if a, body := roundTrip(t, addr, postWithKey(key, `{}`)); a.StatusCode != status {
			t.Errorf("%q: %s %s", key, a.Status, body)
		}
	}
}

func TestWindowIsBoundedByCountAndAge(t *testing.T) {
	now := time.Duration(0)
	w := newWindow(3, time.Minute)
	w.now = func() time.Duration { return now }
	store := func(n byte) claim {
		c, _ := w.claim(digest{n}, digest{}, terms{})
		if c == claimNew {
			w.settle(digest{n}, true)
		}
		return c
	}
	for n := range byte(5) {
		store(n)
		now += time.Second
	}
	if len(w.latest) != 3 || len(w.ring) != 3 {
		t.Errorf("%d keys, want 3", len(w.latest))
	}
	if store(4) != claimRepeated || store(0) != claimNew { // the oldest ones are forgotten
		t.Error("not the oldest request was forgotten, but another one")
	}
	now += time.Minute - 3*time.Second
	if store(0) != claimRepeated || store(4) != claimRepeated {
		t.Error("a request was forgotten before it expired")
	}
	now += 2 * time.Second
	if store(4) != claimNew {
		t.Error("a request was remembered after it expired")
	}
	// A claim leaves nothing in memory if its request was not stored.
	for n := range byte(100) {
		_, _ = w.claim(digest{n, 1}, digest{}, terms{})
		w.settle(digest{n, 1}, false)
	}
	if len(w.latest) > 3 || len(w.ring) > 3 || len(w.underWay) > 0 {
		t.Errorf("%d keys, %d requests, %d under way", len(w.latest), len(w.ring), len(w.underWay))
	}
	now += time.Minute
	store(9)
	if len(w.latest) != 1 || len(w.ring) != 1 {
		t.Errorf("after all expired: %d keys, %d requests, want 1", len(w.latest), len(w.ring))
	}
}

func TestLedgerBalancesWithRepeats(t *testing.T) {
	log, err := wal.Open(t.TempDir(), wal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	_, addr := startServer(t, log, Options{})
	for range 3 {
		roundTrip(t, addr, postWithKey("k", `[{"a":1},{"a":2},3]`))
	}
	g := log.Ledger().BySource[wal.HTTP]
	if g.Received != 9 || g.Accepted != 6 || g.Appended != 2 || g.Repeated != 4 || g.Rejected[usage.CodeNotAnObject] != 3 || g.Waiting != 0 {
		t.Errorf("ledger %+v", g)
	}
	if err := log.Seal(context.Background()); err != nil {
		t.Error(err)
	}
}

// Only the log counts the usages that it rejects.
func TestARecordThatDoesNotFitIsCountedOnce(t *testing.T) {
	log, err := wal.Open(t.TempDir(), wal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	h := newServer(t, log, Options{})
	client := strings.Repeat("x", 256) // longer than a record allows, which package auth prevents
	responses := serveScript(h, client, post(`{"a":1}`)+post(`[{"a":1},{},3]`))
	if n := strings.Count(responses, "HTTP/1.1 500 "); n != 2 || strings.Count(responses, `"code":"internal"`) != 2 {
		t.Errorf("want two responses 500 with the code internal: %s", responses)
	}
	g := log.Ledger().BySource[wal.HTTP]
	if g.Received != 4 || g.Accepted != 0 || g.Rejected[wal.ReasonUnstorable] != 3 || g.Rejected[usage.CodeNotAnObject] != 1 {
		t.Errorf("ledger %+v", g)
	}
}
