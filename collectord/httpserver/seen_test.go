package httpserver

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"collectord/collectord/auth"
)

// seenClients returns name and usages of each client, and whether it was seen. It omits
// otherClient.
func seenClients(h *Server) string {
	var all []string
	for _, k := range h.Clients().Clients {
		if k.Name == otherClient {
			continue
		}
		all = append(all, fmt.Sprintf("%s %d %v", k.Name, k.Usages, !k.LastSeen.IsZero()))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// Neither a rejected request nor the mere existence of a token sets when a client was last
// seen. A repeated request adds no usages.
func TestAClientIsSeenByItsAcceptedRequests(t *testing.T) {
	t.Parallel()
	tokens, headers := newTokens(t, "one", "many", "rejected", "repeats", "never")
	h, addr := startServer(t, newMemoryLog(), Options{Policy: auth.Policy{Tokens: tokens, Anonymous: true}})
	for _, request := range []string{
		post(`{"a":1}`, headers[0]),
		post(`{"a":2}`, headers[0]),
		post(`[{"a":1},7,{"a":3}]`, headers[1]),
		post(`[7]`, headers[2]),
		post(`{"a":1}`, headers[3]+"\r\nIdempotency-Key: k"),
		post(`{"a":1}`, headers[3]+"\r\nIdempotency-Key: k"),
		post(`{"a":1}`, "X: without a name"),
	} {
		if responses, bodies := sendRaw(t, addr, request, 1); len(responses) != 1 {
			t.Fatalf("%s: %v", request, bodies)
		}
	}
	if got, want := seenClients(h), "many 2 true, never 0 false, one 2 true, rejected 0 false, repeats 1 true"; got != want {
		t.Errorf("clients %s, want %s", got, want)
	}
	h.SetPolicy(auth.Policy{Tokens: tokenFor(t, "one", headers[0])})
	if got, want := seenClients(h), "one 2 true"; got != want {
		t.Errorf("after the reload %s, want %s", got, want)
	}
}

// A proxy sends requests of several clients over one connection.
func TestClientsOfOneConnectionAreDistinguished(t *testing.T) {
	t.Parallel()
	tokens, headers := newTokens(t, "a", "b")
	h, addr := startServer(t, newMemoryLog(), Options{Policy: auth.Policy{Tokens: tokens, Anonymous: true}})
	request := post(`{"x":1}`, headers[0]) + post(`{"x":1}`, "X: y") + post(`[{"x":1},{"x":2}]`, headers[1]) + post(`{"x":1}`, headers[0])
	if responses, bodies := sendRaw(t, addr, request, 4); len(responses) != 4 {
		t.Fatal(bodies)
	}
	if got, want := seenClients(h), "a 2 true, b 2 true"; got != want {
		t.Errorf("clients %s, want %s", got, want)
	}
}
