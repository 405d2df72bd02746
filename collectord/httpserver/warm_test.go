package httpserver

import (
	"bytes"
	"context"
	"iter"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"collectord/collectord/auth"
	"collectord/collectord/histogram"
	"collectord/collectord/usage"
	"collectord/wal"
)

// otherClient is the name of a client that used the server before the test.
const otherClient = "another"

// newServer returns a server that has served another client, so that its pools contain used
// memory. State that is left in it would show in the test.
func newServer(t testing.TB, log Log, o Options) *Server {
	t.Helper()
	h := New(log, o)
	fresh := h.requests.New
	h.requests.New = func() any { return usedRequest(fresh().(*request)) }
	h.SetLimits(Limits{})
	h.SetPolicy(auth.Policy{})
	warmUp(t, h)
	h.SetPolicy(o.Policy)
	h.SetLimits(o.Limits)
	for i := range h.statuses {
		h.statuses[i].Store(0)
	}
	for class := range h.latencies {
		h.latencies[class] = histogram.NewLatency()
	}
	h.window = newWindow(h.opts.IdempotencyKeys, h.opts.IdempotencyWindow)
	h.log = log
	return h
}

// warmUp sends valid and invalid requests of another client, in each coding and framing.
// Twice as many clients as there are processors do so at once, so that the pool of each
// processor is used.
func warmUp(t testing.TB, h *Server) {
	t.Helper()
	many := strings.Repeat(`{"another":"client"}`+"\n", 80)
	texts := []string{
		post(`{"another":"client"}`),
		post(many, ndjsonHeader, "Prefer: return=representation"),
		post(many+`{"another":`, ndjsonHeader, "Prefer: handling=strict"),
		postChunked("[" + strings.Repeat(`{"another":"client"},`, 500) + "{}]"),
		post("another"),
		post(compress(t, "gzip", many), ndjsonHeader, "Content-Encoding: gzip"),
		post(compress(t, "zstd", many), ndjsonHeader, "Content-Encoding: zstd"),
		post(`{"another":"client"}`, "Content-Encoding: zstd"),
		post(`{"another":"client"}`, "Expect: 100-continue"),
		"GET /another HTTP/1.1\r\nHost: localhost\r\n\r\n",
		post(`{"another":"client"}`, "Idempotency-Key: another"),
	}
	n := 2 * runtime.GOMAXPROCS(0)
	log := &gatheringLog{memoryLog: newMemoryLog(), complete: make(chan struct{})}
	log.missing.Store(int32(n))
	h.log = log
	var over sync.WaitGroup
	for range n {
		over.Go(func() {
			for _, text := range texts {
				serveScript(h, otherClient, text)
			}
		})
	}
	over.Wait()
	if len(log.usages) < n {
		t.Fatalf("%d usages of the other client are stored, want at least %d", len(log.usages), n)
	}
}

// gatheringLog blocks appends until each client has begun one.
type gatheringLog struct {
	*memoryLog
	missing  atomic.Int32
	complete chan struct{}
}

func (l *gatheringLog) AppendTo(*wal.Waiter, iter.Seq[*wal.Record]) (uint64, error) {
	return 0, ErrStarting
}

func (l *gatheringLog) AppendSeq(ctx context.Context, recs iter.Seq[*wal.Record]) error {
	switch n := l.missing.Add(-1); {
	case n == 0:
		close(l.complete)
	case n > 0:
		<-l.complete
	}
	return l.memoryLog.AppendSeq(ctx, recs)
}

// usedRequest fills a request with what an earlier one could have left in it.
func usedRequest(r *request) *request {
	body := []byte(`{"another":"client"}`)
	r.client, r.terms, r.content, r.coding, r.key = otherClient, terms{preferences{handlingSeen: true, returnSeen: true, strict: true, ids: true}, 1}, linesContent, gzipped, bytes.Clone(body)
	r.rawBody, r.body, r.responseBuf = append(r.rawBody[:0], body...), bytes.Clone(body), bytes.Clone(body)
	r.ranges, r.ids = []byteRange{{0, uint32(len(body))}}, []wal.ID{{1}}
	r.batch = batch{
		single: true, derivedIDs: true, valueCount: 3, rejectedSet: bitSet{6},
		faults: []rejectedUsage{{7, usage.Error{Code: usage.CodeTooDeep, Offset: 7, Reason: otherClient}}}, rejectedCounts: usage.Counts{{Code: usage.CodeTooDeep, N: 2}},
	}
	r.record = wal.Record{Usage: body, Client: otherClient, ID: wal.ID{1}}
	r.reserved, r.storingBytes = reservation{1, 1}, 1
	r.repeated, r.claimed, r.claimKey = true, true, digest{1}
	return r
}

// Every test of this package creates its server with newServer.
func TestEveryTestUsesNewServer(t *testing.T) {
	files, err := filepath.Glob("*_test.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	constructor := regexp.MustCompile(`(?:^|[^.\w])New\(`)
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(constructor.FindAll(text, -1)); n > 0 && (name != "warm_test.go" || n > 1) {
			t.Errorf("%s: use newServer", name)
		}
	}
}

// memoryListener accepts in-memory connections, so that a test decides what each Read
// returns, and can run in a synctest bubble.
type memoryListener struct {
	conns chan net.Conn
	ended chan struct{}
	once  sync.Once
}

func listenInMemory() *memoryListener {
	return &memoryListener{conns: make(chan net.Conn), ended: make(chan struct{})}
}

// dial returns the client's end. The server reads each Write separately, and a Write returns
// once all of it was read.
func (l *memoryListener) dial() net.Conn {
	ours, theirs := net.Pipe()
	l.conns <- theirs
	return ours
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.ended:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() { close(l.ended) })
	return nil
}

func (l *memoryListener) Addr() net.Addr { return &net.TCPAddr{} }
