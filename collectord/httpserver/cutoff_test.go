package httpserver

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"collectord/collectord/auth"
	"collectord/collectord/auth/authtest"
)

// documentedLimit returns the limit of a row of the table at the type state.
func documentedLimit(t *testing.T, row string) time.Duration {
	t.Helper()
	cells := documentedStates(t, "conn.go")[row]
	d, err := time.ParseDuration(strings.ReplaceAll(cells[0], " ", ""))
	if err != nil || cells[1] != "closed" {
		t.Fatalf("%s: %q, %v", row, cells, err)
	}
	return d
}

// transports returns plaintext (nil) and TLS, and a function that begins TLS on a client.
func transports(t *testing.T) (byName map[string]*auth.TLS, secure func(*slowClient)) {
	t.Helper()
	ca := authtest.NewAuthority(t)
	now := time.Now()
	return map[string]*auth.TLS{"plain": nil, "TLS": ca.Server(t, nil)}, func(c *slowClient) {
		c.t.Helper()
		config := ca.Config(nil)
		config.Time = func() time.Time { return now } // a time at which the certificates are valid
		tc := tls.Client(c.Conn, config)
		if err := tc.Handshake(); err != nil {
			c.t.Fatal(err)
		}
		c.Conn, c.responses = tc, bufio.NewReader(tc)
	}
}

// dialSlow returns a new connection to a server in memory.
func dialSlow(t *testing.T, h *Server, ln *memoryListener, log *slowLog) *slowClient {
	t.Helper()
	conn := ln.dialDuplex()
	t.Cleanup(func() { conn.Close() })
	synctest.Wait()
	return &slowClient{t, conn, bufio.NewReader(conn), log, h}
}

// A connection that makes room, in any state, has the time in the row "cut off" to read its
// response.
func TestCutOffHasItsLimit(t *testing.T) {
	limit := documentedLimit(t, "cut off")
	one := post(`{"a":1}`)
	all, secure := transports(t)
	for transport, identity := range all {
		for name, row := range map[string]struct {
			send         string
			readsFirst   string // the response to the sent bytes, if the client reads one
			wantResponse string // the response when the connection is cut off
		}{
			"handshake":       {},
			"opening":         {wantResponse: "503, closed"},
			"header":          {send: "POST /api/usages", wantResponse: "503, closed"},
			"body":            {send: one[:len(one)-1], wantResponse: "503, closed"},
			"idle":            {send: strings.Replace(one, "usages", "x", 1), readsFirst: "404"},
			"header, a later": {send: strings.Replace(one, "usages", "x", 1) + "POST", readsFirst: "404", wantResponse: "503, closed"},
			"writing":         {send: strings.Replace(one, "usages", "x", 1), wantResponse: "404"},
		} {
			if name == "handshake" && identity == nil {
				continue
			}
			t.Run(transport+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					log := &slowLog{memoryLog: newMemoryLog()}
					h, ln := serveInMemory(t, log, Options{Policy: auth.Policy{TLS: identity}, Limits: Limits{MaxConnections: 1}})
					for _, readsResponse := range []bool{false, true} {
						c := dialSlow(t, h, ln, log)
						if identity != nil && name != "handshake" {
							secure(c)
						}
						if row.send != "" {
							c.send(row.send)
						}
						if row.readsFirst != "" {
							c.expectResponse(row.readsFirst)
						}
						c.wait(strangerGrace)
						next := dialSlow(t, h, ln, log)
						responseUnread := !readsResponse && (row.wantResponse != "") // the response is not read
						if readsResponse && row.wantResponse != "" {
							c.expectResponse(row.wantResponse)
						}
						if responseUnread {
							c.passLimit(limit)
						}
						synctest.Wait()
						if n := h.Connections(); n != 1 {
							t.Errorf("%d connections are open, want 1; the response was read: %t", n, readsResponse)
						}
						c.expectNoResponse()
						if len(log.usages) > 0 {
							t.Errorf("stored %q", log.usages)
						}
						next.Close()
						synctest.Wait()
					}
				})
			})
		}
	}
}

// A connection that is turned away is read for the time in the row "turned away".
func TestTurnedAwayHasItsLimit(t *testing.T) {
	limit := documentedLimit(t, "turned away")
	all, secure := transports(t)
	for transport, identity := range all {
		for name, row := range map[string]struct {
			send         string
			wantResponse string
		}{
			"silent":        {},
			"half a header": {"POST", "503, closed"},
			"a request":     {post("{}"), "503, closed"},
		} {
			t.Run(transport+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					log := &slowLog{memoryLog: newMemoryLog()}
					h, ln := serveInMemory(t, log, Options{Policy: auth.Policy{TLS: identity}, Limits: Limits{MaxConnections: 1}})
					busy := dialSlow(t, h, ln, log)
					if identity != nil {
						secure(busy)
					}
					log.appendTime = time.Hour
					busy.send(post(`{"a":1}`))
					c := dialSlow(t, h, ln, log)
					if row.send != "" {
						if identity != nil {
							secure(c)
						}
						go func() { _, _ = c.Write([]byte(row.send)) }() // not all of it is read
						c.expectResponse(row.wantResponse)
					}
					c.wait(limit - time.Millisecond)
					synctest.Wait()
					if n := h.conns.turningAway.Load(); n != 1 {
						t.Errorf("%d connections are being turned away before the limit, want 1", n)
					}
					c.wait(2 * time.Millisecond)
					synctest.Wait()
					if n := h.conns.turningAway.Load(); n != 0 || h.Connections() != 1 || h.TurnedAway() != 1 {
						t.Errorf("%d connections are being turned away, %d are open, %d were turned away", n, h.Connections(), h.TurnedAway())
					}
					c.expectNoResponse()
					c.wait(time.Hour)
					busy.expectResponse("201")
				})
			})
		}
	}
}

// A TLS client receives close_notify before the server lingers.
func TestTLSSendsCloseNotifyBeforeItLingers(t *testing.T) {
	all, secure := transports(t)
	synctest.Test(t, func(t *testing.T) {
		log := &slowLog{memoryLog: newMemoryLog()}
		h, ln := serveInMemory(t, log, Options{Policy: auth.Policy{TLS: all["TLS"]}})
		c := dialSlow(t, h, ln, log)
		secure(c)
		c.send("x\r\n")
		c.expectResponse("400, closed")
		if n, err := c.Conn.(*tls.Conn).NetConn().Read(make([]byte, 100)); n == 0 || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
}

// A loop writes a response into the socket and closes the connection at once. If the client
// does not read, the connection has the time in the row "cut off".
func TestCutOffHasItsLimitOnALoop(t *testing.T) {
	limit := documentedLimit(t, "cut off")
	one := post(`{"a":1}`)
	other := strings.Replace(one, "usages", "x", 1)
	for name, row := range map[string]struct {
		send         string
		readsFirst   string
		wantResponse string
	}{
		"opening": {wantResponse: "503, closed"},
		"header":  {send: "POST /api/usages", wantResponse: "503, closed"},
		"body":    {send: one[:len(one)-1], wantResponse: "503, closed"},
		"idle":    {send: other, readsFirst: "404"},
		"writing": {send: other}, // its response is delayed
	} {
		for _, delayed := range []bool{false, true} {
			if delayed && name == "idle" || !delayed && name == "writing" {
				continue // an idle connection has nothing to write
			}
			t.Run(fmt.Sprintf("%s, delayed %t", name, delayed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					log := &slowLog{memoryLog: newMemoryLog()}
					h, ln := newServer(t, log, Options{Limits: Limits{MaxConnections: 1}}), listenInMemory()
					driver, stop := startLoopInBubble(t, h)
					defer stop()
					served := make(chan error, 1)
					go func() { served <- h.Serve(ln) }()
					<-time.After(time.Second) // a time of 0 means none
					dial := func() *slowClient {
						conn := ln.dialLoop(t, driver)
						return &slowClient{t, conn, bufio.NewReader(conn), log, h}
					}
					c := dial()
					if row.readsFirst != "" {
						c.send(row.send)
						c.expectResponse(row.readsFirst)
					}
					if delayed {
						c.delayResponse()
					}
					if row.readsFirst == "" {
						c.send(row.send)
					}
					c.wait(strangerGrace)
					next := dial()
					synctest.Wait()
					if delayed {
						c.passLimit(limit)
						synctest.Wait()
					}
					if n := h.Connections(); n != 1 {
						t.Errorf("%d connections are open, want 1", n)
					}
					if row.wantResponse != "" && !delayed {
						c.expectResponse(row.wantResponse)
					}
					c.expectNoResponse()
					if len(log.usages) > 0 {
						t.Errorf("stored %q", log.usages)
					}
					_, _ = c.Close(), next.Close()
					driver.wake()
					if err := h.Shutdown(t.Context()); err != nil {
						t.Error(err)
					}
					if err := <-served; err != nil {
						t.Error(err)
					}
				})
			})
		}
	}
}

// passLimit waits until shortly after a limit. Until shortly before it, the connection and the
// next one are open.
func (c *slowClient) passLimit(limit time.Duration) {
	c.t.Helper()
	c.wait(limit - time.Millisecond)
	synctest.Wait()
	if n := c.server.Connections(); n != 2 {
		c.t.Errorf("%d connections are open before the limit, want 2", n)
	}
	c.wait(2 * time.Millisecond)
}
