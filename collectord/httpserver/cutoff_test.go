package httpserver

import (
	"bufio"
	"crypto/tls"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"collectord/collectord/auth"
	"collectord/collectord/auth/authtest"
)

// documentedLimit is the limit of a row of the table at the type state, where it is a time.
func documentedLimit(t *testing.T, row string) time.Duration {
	t.Helper()
	cells := documentedStates(t, "conn.go")[row]
	d, err := time.ParseDuration(strings.ReplaceAll(cells[0], " ", ""))
	if err != nil || cells[1] != "closed" {
		t.Fatalf("%s: %q, %v", row, cells, err)
	}
	return d
}

// transports are what a connection is tested over: nil stands for plaintext.
func transports(t *testing.T) (byName map[string]*auth.TLS, secure func(*slowClient)) {
	t.Helper()
	ca := authtest.NewAuthority(t)
	now := time.Now()
	return map[string]*auth.TLS{"plain": nil, "TLS": ca.Server(t, nil)}, func(c *slowClient) {
		c.t.Helper()
		config := ca.Config(nil)
		config.Time = func() time.Time { return now } // when the certificates are valid
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

// The row "cut off" of the table is what happens to a connection that makes room, whatever
// it is doing: it has that long to take the answer that says so.
func TestCutOffHasItsLimit(t *testing.T) {
	limit := documentedLimit(t, "cut off")
	one := post(`{"a":1}`)
	all, secure := transports(t)
	for transport, identity := range all {
		for name, row := range map[string]struct {
			send  string
			reads string // the answer to what was sent, which is taken
			gets  string // the answer to a connection that takes it
		}{
			"handshake":       {},
			"opening":         {gets: "503, closed"},
			"header":          {send: "POST /api/usages", gets: "503, closed"},
			"body":            {send: one[:len(one)-1], gets: "503, closed"},
			"idle":            {send: strings.Replace(one, "usages", "x", 1), reads: "404"},
			"header, a later": {send: strings.Replace(one, "usages", "x", 1) + "POST", reads: "404", gets: "503, closed"},
			"writing":         {send: strings.Replace(one, "usages", "x", 1), gets: "404"},
		} {
			if name == "handshake" && identity == nil {
				continue
			}
			t.Run(transport+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					log := &slowLog{memoryLog: newMemoryLog()}
					h, ln := serveInMemory(t, log, Options{Policy: auth.Policy{TLS: identity}, Limits: Limits{MaxConnections: 1}})
					for _, takes := range []bool{false, true} {
						c := dialSlow(t, h, ln, log)
						if identity != nil && name != "handshake" {
							secure(c)
						}
						if row.send != "" {
							c.send(row.send)
						}
						if row.reads != "" {
							c.expectResponse(row.reads)
						}
						c.wait(strangerGrace)
						next := dialSlow(t, h, ln, log)
						waits := !takes && (row.gets != "") // for the answer to be taken
						if takes && row.gets != "" {
							c.expectResponse(row.gets)
						}
						if waits {
							c.wait(limit - time.Millisecond)
							synctest.Wait()
							if n := h.Connections(); n != 2 {
								t.Errorf("%d connections are open before the limit", n)
							}
							c.wait(2 * time.Millisecond)
						}
						synctest.Wait()
						if n := h.Connections(); n != 1 {
							t.Errorf("%d connections are open, the answer taken: %t", n, takes)
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

// The row "turned away" of the table is what happens to a connection that nobody makes room
// for: it is listened to that long, whatever it sends.
func TestTurnedAwayHasItsLimit(t *testing.T) {
	limit := documentedLimit(t, "turned away")
	all, secure := transports(t)
	for transport, identity := range all {
		for name, row := range map[string]struct {
			send string
			gets string
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
						c.expectResponse(row.gets)
					}
					c.wait(limit - time.Millisecond)
					synctest.Wait()
					if n := h.conns.turningAway.Load(); n != 1 {
						t.Errorf("%d are listened to before the limit", n)
					}
					c.wait(2 * time.Millisecond)
					synctest.Wait()
					if n := h.conns.turningAway.Load(); n != 0 || h.Connections() != 1 || h.TurnedAway() != 1 {
						t.Errorf("%d are listened to, %d connections are open, %d were turned away", n, h.Connections(), h.TurnedAway())
					}
					c.expectNoResponse()
					c.wait(time.Hour)
					busy.expectResponse("201")
				})
			})
		}
	}
}

// A client of TLS is told that nothing follows before it is listened to.
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
