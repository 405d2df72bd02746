package httpserver

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// loopBytesInUse returns how many bytes of the loops' budgets are in use by connections.
func (h *Server) loopBytesInUse() (n int) {
	all := h.loops.Load()
	if all == nil {
		return 0 // the server does not serve yet
	}
	for _, l := range *all {
		n += l.budgetBytes - int(l.leftBytes.Load())
	}
	return n
}

// A connection returns its share, in whichever state it ends.
func TestEachConnectionReturnsItsShare(t *testing.T) {
	t.Parallel() // it waits most of the time
	const head = "POST /api/usages HTTP/1.1\r\nHost: localhost\r\n"
	limits := Limits{HeaderTimeout: 300 * time.Millisecond, BodyGrace: 300 * time.Millisecond, BodyRate: 1 << 20, AnswerTimeout: 300 * time.Millisecond, IdleTimeout: 300 * time.Millisecond}
	for name, c := range map[string]struct {
		send       string
		holdsShare bool // of a loop, until it times out
		large      bool // uses other budgets, too
	}{
		"silent":                    {"", false, false},
		"half a header":             {head, true, false},
		"a header beyond the limit": {head + "X: " + strings.Repeat("x", 10<<10), false, false},
		"half a body":               {head + "Content-Length: 100\r\n\r\n{", true, false},
		"half a body in chunks":     {head + "Transfer-Encoding: chunked\r\n\r\n64\r\n{", true, false},
		"half a large body":         {head + "Content-Length: 1000000\r\n\r\n" + strings.Repeat(" ", 500_000), true, true},
		"idle":                      {post("{}"), false, false},
		"waits to continue":         {head + "Content-Length: 2\r\nExpect: 100-continue\r\n\r\n", true, false},
		"invalid, and more":         {"GARBAGE\r\n\r\n" + strings.Repeat("x", 1000), false, false},
		"last request, and more":    {head + "Connection: close\r\nContent-Length: 2\r\n\r\n{}" + strings.Repeat("x", 1000), false, false},
		"too large, and more":       {head + "Content-Length: 99999999\r\n\r\n" + strings.Repeat("x", 3000), false, false},
		"reads no responses":        {strings.Repeat(post("no JSON"), 5000), true, false},
		"reads no large responses":  {strings.Repeat(post(strings.Repeat("{}\n", 3000), ndjsonHeader, "Prefer: return=representation"), 20), true, true},
	} {
		for _, clientCloses := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, leaves %t", name, clientCloses), func(t *testing.T) {
				t.Parallel()
				h, addr := startServer(t, newMemoryLog(), Options{Limits: limits})
				var all []*rawClient
				var connectedAt time.Time
				connect := func() {
					connectedAt = time.Now()
					for range 4 {
						v := dialRaw(t, addr)
						_ = v.Conn.(*net.TCPConn).SetReadBuffer(256 << 10)
						_ = v.SetDeadline(time.Now().Add(200 * time.Millisecond))
						_, _ = v.Write([]byte(c.send)) // the server may not read all of it
						all = append(all, v)
					}
				}
				connect()
				waitFor(t, func() bool {
					if c.holdsShare && h.Connections() == 0 && time.Since(connectedAt) > time.Second {
						connect() // they timed out before a busy machine checked
					}
					n := h.loopBytesInUse()
					if c.large && n > 64<<10 {
						t.Errorf("%d bytes of the loops are in use, but large bodies have another budget", n)
					}
					return (n > 0 || !c.holdsShare) && (h.inFlight.available() < h.opts.MaxInFlight || !c.large)
				})
				if clientCloses {
					for _, v := range all {
						v.Close()
					}
				}
				waitFor(t, func() bool { return h.Connections() == 0 })
				waitFor(t, func() bool { return h.loopBytesInUse() == 0 })
			})
		}
	}
}

func (b *budget) available() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.free
}

// exhaustLoopMemory reserves the memory of the loops, so that no connection can be read.
func exhaustLoopMemory(h *Server) (restore func()) {
	var taken []int64
	for _, l := range *h.loops.Load() {
		n := l.leftBytes.Load()
		l.leftBytes.Store(int64(l.maxShareBytes) - 1)
		taken = append(taken, n-int64(l.maxShareBytes)+1)
	}
	return func() {
		for i, l := range *h.loops.Load() {
			l.leftBytes.Add(taken[i])
			l.wake()
		}
	}
}

// A connection without memory is not read, and its deadline continues. It is read once
// another connection returns its share. Strangers make room so that this happens.
func TestAConnectionWithoutAShareWaitsForOne(t *testing.T) {
	t.Parallel() // it waits most of the time
	log := newMemoryLog()
	h, addr := startServer(t, log, Options{Limits: Limits{HeaderTimeout: 2 * time.Second}})
	waitFor(t, func() bool { return h.loops.Load() != nil })

	// Without memory the connection is not read, and times out.
	restore := exhaustLoopMemory(h)
	began := time.Now()
	late := dialRaw(t, addr)
	late.send(post(`{"late":1}`))
	if status, body := late.readResponse(); status != 408 && status != 503 {
		t.Errorf("%d %s", status, body)
	}
	if took := time.Since(began); took < time.Second-10*time.Millisecond {
		t.Errorf("the connection timed out after %v", took)
	}
	restore()

	// A connection is read once there is memory.
	h.SetLimits(withoutDeadlines(Limits{}))
	restore = exhaustLoopMemory(h)
	waits := dialRaw(t, addr)
	waits.send(post(`{"waits":1}`))
	waitFor(t, func() bool { return h.memoryShort() })
	restore()
	if status, body := waits.readResponse(); status != 201 {
		t.Errorf("%d %s", status, body)
	}

	// Connections with large shares return them when they make room.
	waitFor(t, func() bool { return h.loopBytesInUse() == 0 })
	for range 3 * loopsBudgetBytes / (8 << 10) / 2 {
		v := dialRaw(t, addr)
		v.send("POST /api/usages HTTP/1.1\r\nX: " + strings.Repeat("x", 7<<10))
	}
	served := dialRaw(t, addr)
	served.send(post(`{"served":1}`))
	if status, body := served.readResponse(); status != 201 {
		t.Errorf("%d %s", status, body)
	}
	if h.conns.room.readsDelayed.Load() < 3 || h.ClosedForRoom()["header"] == 0 {
		t.Errorf("%d reads were delayed; closed for room: %v", h.conns.room.readsDelayed.Load(), h.ClosedForRoom())
	}
	log.mu.Lock()
	defer log.mu.Unlock()
	if len(log.usages) != 2 {
		t.Errorf("stored %q, want 2 usages", log.usages)
	}
}

func (h *Server) memoryShort() bool {
	for _, l := range *h.loops.Load() {
		if l.memoryShort.Load() {
			return true
		}
	}
	return false
}
