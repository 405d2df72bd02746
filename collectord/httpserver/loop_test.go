package httpserver

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"collectord/collectord/testrun"
	"collectord/wal"
)

// commitLog is a log whose commits end when a test calls finish.
type commitLog struct {
	*memoryLog

	mu            sync.Mutex // guards the fields below
	currentCommit uint64     // number of the commit that appends join
	waiters       map[uint64][]*wal.Waiter
	commitCalls   int // calls of Commit and RequestCommit
}

func newCommitLog() *commitLog {
	return &commitLog{memoryLog: newMemoryLog(), currentCommit: 1, waiters: map[uint64][]*wal.Waiter{}}
}

func (l *commitLog) AppendTo(w *wal.Waiter, recs iter.Seq[*wal.Record]) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.AppendSeq(context.Background(), recs); err != nil {
		return 0, err
	}
	if !slices.Contains(l.waiters[l.currentCommit], w) {
		l.waiters[l.currentCommit] = append(l.waiters[l.currentCommit], w)
	}
	return l.currentCommit, nil
}

func (l *commitLog) Commit() { l.RequestCommit() }

func (l *commitLog) RequestCommit() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.commitCalls++
}

// startNextCommit makes later appends join a new commit, and returns the number of the
// previous one.
func (l *commitLog) startNextCommit() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.currentCommit++
	return l.currentCommit - 1
}

func (l *commitLog) finish(commit uint64, err error) {
	l.mu.Lock()
	waiters := l.waiters[commit]
	delete(l.waiters, commit)
	l.mu.Unlock()
	for _, w := range waiters {
		w.Deliver(wal.Outcome{Commit: commit, Err: err})
	}
}

// waitStored waits until n usages are appended.
func (l *memoryLog) waitStored(t *testing.T, n int) {
	t.Helper()
	waitFor(t, func() bool { l.mu.Lock(); defer l.mu.Unlock(); return len(l.usages) == n })
}

// Each request gets the outcome of its own commit, whatever the order in which commits end.
func TestEachCommitAnswersItsOwnRequests(t *testing.T) {
	log := newCommitLog()
	_, addr := startServer(t, log, Options{})
	var all [3][]*rawClient
	for i := range all {
		for n := range 5 {
			v := dialRaw(t, addr)
			v.send(post(fmt.Sprintf(`{"n":%d}`, n)))
			all[i] = append(all[i], v)
			log.waitStored(t, 5*i+n+1)
		}
		log.startNextCommit()
	}
	for _, end := range []struct {
		commit int
		err    error
		status int
	}{{1, fmt.Errorf("%w: a test", wal.ErrCommitFailed), 503}, {2, nil, 201}, {0, nil, 201}} {
		log.finish(uint64(end.commit+1), end.err)
		for _, v := range all[end.commit] {
			if status, body := v.readResponse(); status != end.status {
				t.Errorf("commit %d: %d %s", end.commit, status, body)
			}
		}
	}
	// The connections stay open.
	for i := range all {
		for _, v := range all[i] {
			v.send(post(`{"n":9}`))
		}
	}
	log.waitStored(t, 30)
	log.finish(log.startNextCommit(), nil)
	for i := range all {
		for _, v := range all[i] {
			if status, body := v.readResponse(); status != 201 {
				t.Errorf("%d %s", status, body)
			}
		}
	}
}

// If a commit has more than maxTurnResponses requests, all of them are answered.
func TestALoopCommitsManyAppendsAtOnce(t *testing.T) {
	const n = 3*maxTurnResponses + 1
	log := newCommitLog()
	_, addr := startServer(t, log, Options{})
	held := make([]*rawClient, n)
	for i := range held {
		held[i] = dialRaw(t, addr)
		held[i].send(post(`{}`)) // the connection is accepted with its first byte
	}
	log.waitStored(t, n)
	log.finish(log.startNextCommit(), nil)
	for _, v := range held {
		if status, _ := v.readResponse(); status != 201 {
			t.Fatal(status)
		}
	}
}

// A loop serves other connections while a commit is pending.
func TestALoopServesOthersWhileACommitHangs(t *testing.T) {
	log := newCommitLog()
	_, addr := startServer(t, log, Options{})
	stuck := dialRaw(t, addr)
	stuck.send(post(`{}`))
	log.waitStored(t, 1)
	other := dialRaw(t, addr)
	for range 3 {
		other.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if status, _ := other.readResponse(); status != 200 {
			t.Fatal(status)
		}
	}
	for i := range 200 { // other requests are pipelined after the waiting one
		stuck.send(post(fmt.Sprintf(`{"n":%d}`, i)))
	}
	for i := range 201 {
		log.waitStored(t, i+1)
		log.finish(log.startNextCommit(), nil)
		if status, _ := stuck.readResponse(); status != 201 {
			t.Fatal(status)
		}
	}
	for i, u := range log.usages[1:] {
		if u != fmt.Sprintf(`{"n":%d}`, i) {
			t.Fatalf("%d is %s", i, u)
		}
	}
}

// A client that never stops sending is read a limited number of times per turn.
func TestAClientThatSendsWithoutEndGetsOnlyItsTurn(t *testing.T) {
	h := newServer(t, newMemoryLog(), Options{})
	l, err := newLoop(h, loopsBudgetBytes)
	if err != nil {
		t.Fatal(err)
	}
	defer l.poller.Close()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[1])
	all := "POST /api/usages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n18000\r\n" + strings.Repeat(" ", 0x18000)
	if n, err := unix.Write(fds[1], []byte(all)); n < len(all) {
		t.Fatal(n, err)
	}
	s := &socket{listener: &net.UnixAddr{}, fd: fds[0]}
	c := h.newConn(s)
	s.joinLoop(c, l)
	l.begin(c)
	if c.bodyReceived == 0 || c.bodyReceived > maxStepsInTurn*maxReadBytes || !slices.Contains(l.posted, c) {
		t.Errorf("%d bytes were read in one turn", c.bodyReceived)
	}
	l.close(c)
}

// startingLog is a log that starts when opened is closed.
type startingLog struct {
	*memoryLog
	opened chan struct{}
}

func (l *startingLog) Full() error {
	select {
	case <-l.opened:
		return nil
	default:
		return ErrStarting
	}
}

func (l *startingLog) AppendTo(w *wal.Waiter, recs iter.Seq[*wal.Record]) (uint64, error) {
	if l.Full() != nil {
		return 0, ErrStarting
	}
	return l.memoryLog.AppendTo(w, recs)
}

func (l *startingLog) AppendSeq(ctx context.Context, recs iter.Seq[*wal.Record]) error {
	<-l.opened
	return l.memoryLog.AppendSeq(ctx, recs)
}

// Requests wait until the log is open, even if there are more of them than workers. They
// delay no other connection.
func TestRequestsWaitForTheLogToOpen(t *testing.T) {
	log := &startingLog{newMemoryLog(), make(chan struct{})}
	_, addr := startServer(t, log, Options{})
	var held []*rawClient
	for range 3 * maxWorkers {
		v := dialRaw(t, addr)
		v.send(post(`{}`))
		held = append(held, v)
	}
	other := dialRaw(t, addr)
	other.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if status, body := other.readResponse(); status != 503 || body != "starting\n" {
		t.Fatal(status, body)
	}
	close(log.opened)
	for _, v := range held {
		if status, body := v.readResponse(); status != 201 {
			t.Fatal(status, body)
		}
	}
}

// A loop responds and stores as a goroutine does, however the requests are split into
// segments.
func TestALoopAnswersAsAGoroutineDoes(t *testing.T) {
	t.Parallel()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = io.WriteString(z, `[{"z":1},{"z":2}]`)
	_ = z.Close()
	chunked := "POST /api/usages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\n{\"c\":\r\n2\r\n1}\r\n0\r\nTrailer: x\r\n\r\n"
	text := "\r\n" + post(`{"a":1}`) + post(`[{"b":1},7,{"b":2}]`, "Prefer: return=representation") + chunked +
		post(packed.String(), "Content-Encoding: gzip") + "GET /healthz HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n" + post(`{"a":`) +
		post(`{"k":1}`, "Idempotency-Key: one") + post(`{"k":1}`, "Idempotency-Key: one") + post(`{"l":1}`, "Connection: close")
	want := newMemoryLog()
	response := serveScript(newServer(t, want, Options{}), "", text)
	dates := func(s string) string { return varyingHeaders.ReplaceAllString(s, "$1: x") }
	response = dates(response)
	for at := 1; at < len(text); at += 7 * testrun.OneIn(3) {
		t.Run("", func(t *testing.T) {
			log := newMemoryLog()
			_, addr := startServer(t, log, Options{})
			v := dialRaw(t, addr)
			v.send(text[:at])
			waitFor(t, func() bool { return !hasUnacknowledged(t, v) })
			v.send(text[at:])
			got, err := io.ReadAll(v)
			if got := dates(string(got)); err != nil || got != response {
				same := 0
				for same < min(len(got), len(response)) && got[same] == response[same] {
					same++
				}
				t.Fatalf("cut at %d: %v\n got %q\nwant %q", at, err, got[max(0, same-50):], response[max(0, same-50):])
			}
			log.mu.Lock()
			defer log.mu.Unlock()
			if !slices.Equal(log.usages, want.usages) {
				t.Fatalf("cut at %d: stored %q, want %q", at, log.usages, want.usages)
			}
		})
	}
}

// hasUnacknowledged reports whether the peer's kernel has not acknowledged all that was sent.
func hasUnacknowledged(t *testing.T, v *rawClient) (pending bool) {
	t.Helper()
	raw, err := v.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		n, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
		pending = err != nil || n > 0
	}); err != nil {
		t.Fatal(err)
	}
	return pending
}

// A response larger than the send buffer is written completely as the client reads it, and
// the connection stays open.
func TestALoopWritesLargeResponsesCompletely(t *testing.T) {
	t.Parallel()
	h, addr := startServer(t, newMemoryLog(), Options{})
	v := dialRaw(t, addr)
	const n = 90_000
	body := "[" + strings.Repeat("{},", n-1) + "{}]"
	for round := range 2 {
		v.send(post(body, "Prefer: return=representation"))
		waitFor(t, func() bool { return h.Requests()[201] == uint64(round+1) })
		status, text := v.readResponse()
		if status != 201 || strings.Count(text, `-`) != 4*n {
			t.Fatalf("%d: %d bytes", status, len(text))
		}
	}
	v.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if status, _ := v.readResponse(); status != 200 {
		t.Error(status)
	}
}

// Every state's deadline ends a connection that a loop drives.
func TestALoopEnforcesDeadlines(t *testing.T) {
	t.Parallel()
	const d = 300 * time.Millisecond
	_, addr := startServer(t, newMemoryLog(), Options{Limits: Limits{HeaderTimeout: d, IdleTimeout: d, BodyGrace: d, BodyRate: 1 << 20, AnswerTimeout: d}})
	for name, c := range map[string]struct {
		send   string
		status []int
	}{
		"opening": {"", []int{408}},
		"header":  {"POST /api/usages HTTP/1.1\r\n", []int{408}},
		"body":    {post(`{"a":1}`)[:len(post(`{"a":1}`))-1], []int{408}},
		"idle":    {post(`{"a":1}`), []int{201}},
		"second":  {post(`{"a":1}`) + "P", []int{201, 408}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := dialRaw(t, addr)
			if c.send == "" {
				v.send("\r\n") // so that the connection is accepted at once
			}
			v.send(c.send)
			for _, want := range c.status {
				if status, body := v.readResponse(); status != want {
					t.Fatalf("%d %s, want %d", status, body, want)
				}
			}
			if _, err := v.r.ReadByte(); !errors.Is(err, io.EOF) {
				t.Errorf("the connection stays open: %v", err)
			}
		})
	}
}

// A connection is closed after AnswerTimeout if the client does not read the response.
func TestALoopClosesAConnectionWhoseResponseIsNotRead(t *testing.T) {
	t.Parallel()
	h, addr := startServer(t, newMemoryLog(), Options{Limits: withoutDeadlines(Limits{AnswerTimeout: 300 * time.Millisecond})})
	v := dialRaw(t, addr)
	_ = v.Conn.(*net.TCPConn).SetReadBuffer(256 << 10)
	v.send(post("["+strings.Repeat("{},", 90_000)+"{}]", "Prefer: return=representation"))
	waitFor(t, func() bool { return h.Requests()[201] == 1 && h.Connections() == 0 })
}

// After Shutdown the loops have ended, and all their memory is returned.
func TestALoopEndsWithItsServer(t *testing.T) {
	log := newCommitLog()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := newServer(t, log, Options{})
	served := make(chan error, 1)
	go func() { served <- h.Serve(ln) }()
	waiting, idle := dialRaw(t, ln.Addr().String()), dialRaw(t, ln.Addr().String())
	waiting.send(post(`{}`))
	idle.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if status, _ := idle.readResponse(); status != 200 {
		t.Fatal(status)
	}
	log.waitStored(t, 1)
	over := make(chan error, 1)
	go func() { over <- h.Shutdown(t.Context()) }()
	if status, text := idle.readResponse(); status != 0 || text != io.EOF.Error() && text != "unexpected EOF" {
		t.Errorf("the idle connection: %d %s, want the end", status, text)
	}
	log.finish(log.startNextCommit(), nil)
	if status, _ := waiting.readResponse(); status != 201 {
		t.Errorf("the request under way: %d, want 201", status)
	}
	if err := errors.Join(<-over, <-served); err != nil {
		t.Error(err)
	}
	for _, l := range *h.loops.Load() {
		<-l.ended
		if l.connCount.Load() != 0 || int(l.leftBytes.Load()) != l.budgetBytes || len(l.memoryWaiters)+len(l.commitWaits) > 0 {
			t.Errorf("%d connections, %d bytes left, %d waiting for memory, %d commits awaited", l.connCount.Load(), l.leftBytes.Load(), len(l.memoryWaiters), len(l.commitWaits))
		}
	}
}
