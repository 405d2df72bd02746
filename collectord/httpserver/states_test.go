package httpserver

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"collectord/collectord/auth"
	"collectord/collectord/auth/authtest"
	"collectord/wal"
)

// duplex is an in-memory connection with CloseWrite.
type duplex struct {
	net.Conn          // incoming
	out      net.Conn // outgoing
}

func (d *duplex) Write(p []byte) (int, error)        { return d.out.Write(p) }
func (d *duplex) CloseWrite() error                  { return d.out.Close() }
func (d *duplex) Close() error                       { _ = d.out.Close(); return d.Conn.Close() }
func (d *duplex) SetWriteDeadline(t time.Time) error { return d.out.SetWriteDeadline(t) }
func (d *duplex) SetDeadline(t time.Time) error {
	_ = d.out.SetWriteDeadline(t)
	return d.Conn.SetReadDeadline(t)
}

// dialDuplex is dial for a connection with CloseWrite.
func (l *memoryListener) dialDuplex() net.Conn {
	up, fromClient := net.Pipe()
	fromServer, down := net.Pipe()
	l.conns <- &duplex{fromClient, down}
	return &duplex{fromServer, up}
}

// documentedStates reads the table in the comment at the type state. It returns, by state,
// the limit and what happens when it passes.
func documentedStates(t *testing.T, file string) map[string][2]string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	table := map[string][2]string{}
	columns := regexp.MustCompile(`(?m)^//\t(\w+(?: \w+)?) +\S.*?  +(\S.*?)(?:  +(\S.*))?$`)
	for _, m := range columns.FindAllStringSubmatch(string(text), -1) {
		table[m[1]] = [2]string{m[2], m[3]}
	}
	delete(table, "state")
	return table
}

var stateNames = [states]string{
	stateOpening: "opening", stateHandshake: "handshake", stateIdle: "idle", stateHeader: "header", stateBody: "body", stateStoring: "storing", stateWriting: "writing", stateLingering: "lingering",
}

// expectState checks the state of the connection.
func (c *slowClient) expectState(want state) {
	c.t.Helper()
	synctest.Wait()
	c.server.conns.mu.Lock()
	defer c.server.conns.mu.Unlock()
	for open := range c.server.conns.open {
		open.mu.Lock()
		got := open.state
		open.mu.Unlock()
		if got != want {
			c.t.Fatalf("%s, want %s", stateNames[got], stateNames[want])
		}
		// idleSince and hold decide which connection makes room.
		if idle := got == stateOpening || got == stateHandshake || got == stateIdle; idle != (open.idleSince.Load() != 0) {
			c.t.Fatalf("%s, idle: %t", stateNames[got], !idle)
		}
		if got == stateIdle && open.hold.Load() != holdFree {
			c.t.Fatal("an idle connection can't make room")
		}
		return
	}
	c.t.Fatalf("the connection is closed, want %s", stateNames[want])
}

// deadlineConn is a connection that records its deadlines.
type deadlineConn struct {
	scriptedConn
	deadline     time.Time
	readDeadline time.Time // set by SetReadDeadline alone
}

func (d *deadlineConn) SetDeadline(t time.Time) error      { d.deadline = t; return nil }
func (d *deadlineConn) SetWriteDeadline(t time.Time) error { d.deadline = t; return nil }
func (d *deadlineConn) SetReadDeadline(t time.Time) error  { d.readDeadline = t; return nil }

// A connection that is cut off has only cutOffTime for everything that follows, even if an
// earlier deadline had passed.
func TestACutOffConnectionGetsNoMoreTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newServer(t, newMemoryLog(), Options{})
		d := &deadlineConn{}
		c := h.newConn(d)
		c.enter(stateBody)
		now := time.Now()
		c.expire(h.conns.deadline(now.Add(time.Hour)), now)
		if !d.deadline.Equal(now) {
			t.Error("a deadline that has passed was not set")
		}
		if c.cutOff(); !d.readDeadline.Equal(now) {
			t.Errorf("the read deadline is in %v, want now", time.Until(d.readDeadline))
		}
		if time.Until(d.deadline) != cutOffTime {
			t.Errorf("a response that is being written has %v, want %v", time.Until(d.deadline), cutOffTime)
		}
		time.Sleep(time.Hour) // a busy machine
		c.enter(stateWriting)
		if time.Until(d.deadline) != cutOffTime || c.deadline != 0 || !c.isLast() {
			t.Errorf("a new response has %v, state deadline %d", time.Until(d.deadline), c.deadline)
		}
		c.enter(stateLingering)
		if c.deadline != 0 || time.Until(d.deadline) > cutOffTime {
			t.Errorf("lingers until %v, state deadline %d", d.deadline, c.deadline)
		}
	})
}

// A request that was read before its idle connection was ended gets the full time of its
// state.
func TestARequestReadBeforeItsConnectionEndsIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newServer(t, newMemoryLog(), Options{})
		d := &deadlineConn{}
		c := h.newConn(d)
		for _, idle := range []state{stateOpening, stateIdle} {
			c.enter(idle)
			if c.end(); !d.deadline.Equal(time.Now()) {
				t.Errorf("%s: the deadline is %v, want now", stateNames[idle], d.deadline)
			}
			if c.enter(stateHeader); !d.deadline.IsZero() || !c.isLast() {
				t.Errorf("after %s: the deadline of the request is %v, want none", stateNames[idle], d.deadline)
			}
		}
		if c.end(); !d.deadline.IsZero() {
			t.Errorf("the deadline of a request under way is %v, want none", d.deadline)
		}
	})
}

// begin replaces all state of the previous request, except the memory of buffers and the
// function records.
func TestTheStateOfARequestIsReplaced(t *testing.T) {
	h := &header{prefer: preferences{ids: true}, content: linesContent, coding: zstandard, key: []byte("key")}
	r, fresh := usedRequest(&request{records: func(func(*wal.Record) bool) {}}), &request{}
	r.begin(h, "client")
	fresh.begin(h, "client")
	if r.records == nil {
		t.Error("begin removed records")
	}
	r.records = nil
	if got, want := fmt.Sprintf("%+v", *r), fmt.Sprintf("%+v", *fresh); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// A request in the pool refers to no memory of its connection.
func TestAReleasedRequestKeepsNoReferences(t *testing.T) {
	h := newServer(t, newMemoryLog(), Options{})
	r := usedRequest(h.requests.New().(*request))
	r.coding, r.reserved, r.storingBytes = identity, reservation{}, 0
	h.release(r)
	if r.client != "" || len(r.key) > 0 || r.body != nil || len(r.rawBody)+len(r.ranges)+len(r.ids)+len(r.responseBuf) > 0 || r.record.Usage != nil || r.batch.rejectedSet != nil {
		t.Errorf("the released request is %+v", r)
	}
}

// Each state has the limit and the action in the table at the type state. Time in earlier
// states does not count.
func TestEachStateHasItsLimit(t *testing.T) {
	const moment = 2 * sweepEvery // more than the inaccuracy of deadlines
	// All limits differ, so that none can be mistaken for another.
	l := Limits{HeaderTimeout: 20 * time.Second, BodyGrace: 40 * time.Second, BodyRate: 1000, AnswerTimeout: 90 * time.Second, IdleTimeout: 170 * time.Second}
	limits := map[string]time.Duration{
		"http.header_timeout": l.HeaderTimeout, "http.idle_timeout": l.IdleTimeout, "http.answer_timeout": l.AnswerTimeout, "1 s": time.Second,
		"http.body_grace, and http.body_rate":     l.BodyGrace + time.Second, // the time for the next byte at that rate
		"none: nothing is expected of the client": 0,
	}
	one := post(`{"a":1}`)
	header, body := one[:len(one)-7], one[len(one)-7:]
	expects := strings.Replace(header, "\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n", 1)
	chunks := strings.TrimSuffix(postChunked(`{"a":1}`), "\r\n")
	large := "POST /api/usages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n\r\n"
	idle := func(c *slowClient) {
		c.send(one)
		c.expectResponse("201")
		c.expectState(stateIdle)
		c.wait(7 * time.Second)
	}
	storing := func(c *slowClient) {
		c.log.appendTime = 1000 * time.Second
		c.send(one)
	}
	type row struct {
		state state
		enter func(c *slowClient)
		spent time.Duration // part of the state's time that was used before it began
	}
	rows := map[string]row{
		"opening":    {stateOpening, func(*slowClient) {}, 0},
		"handshake":  {stateHandshake, nil, 0},
		"idle":       {stateIdle, func(c *slowClient) { c.send(one); c.expectResponse("201") }, 0},
		"idle again": {stateIdle, func(c *slowClient) { idle(c); c.send(one); c.expectResponse("201") }, 0},
		"idle after a page": {stateIdle, func(c *slowClient) {
			c.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
			c.expectResponse("200")
		}, 0},
		"idle after a slow log": {stateIdle, func(c *slowClient) { storing(c); c.wait(1000 * time.Second); c.expectResponse("201") }, 0},
		"idle after a full log": {stateIdle, func(c *slowClient) {
			c.log.mu.Lock()
			c.log.appendErr = wal.ErrFull
			c.log.mu.Unlock()
			c.send(one)
			c.expectResponse("503")
		}, 0},
		"header, the first":         {stateHeader, func(c *slowClient) { c.wait(5 * time.Second); c.send("P") }, 5 * time.Second},
		"header":                    {stateHeader, func(c *slowClient) { idle(c); c.send("P") }, 0},
		"header, in parts":          {stateHeader, func(c *slowClient) { idle(c); c.send("P"); c.wait(5 * time.Second); c.send("O") }, 5 * time.Second},
		"header, pipelined":         {stateHeader, func(c *slowClient) { idle(c); c.send(one + "P"); c.expectResponse("201") }, 0},
		"body, of the first":        {stateBody, func(c *slowClient) { c.wait(5 * time.Second); c.send(header) }, 0},
		"body":                      {stateBody, func(c *slowClient) { idle(c); c.send(header) }, 0},
		"body, after a slow header": {stateBody, func(c *slowClient) { idle(c); c.send("P"); c.wait(5 * time.Second); c.send(header[1:]) }, 0},
		"body, in parts":            {stateBody, func(c *slowClient) { idle(c); c.send(header); c.wait(5 * time.Second); c.send(body[:1]) }, 5*time.Second - time.Millisecond},
		"body, thousands": {stateBody, func(c *slowClient) {
			idle(c)
			c.send(large)
			c.wait(9 * time.Second)
			c.send(strings.Repeat(" ", 3000))
		}, 6 * time.Second},
		"body, in chunks":       {stateBody, func(c *slowClient) { idle(c); c.send(chunks) }, -7 * time.Millisecond},
		"body, of another path": {stateBody, func(c *slowClient) { idle(c); c.send(strings.Replace(header, "usages", "x", 1)) }, 0},
		"body, continued": {stateBody, func(c *slowClient) {
			idle(c)
			c.delayResponse()
			c.send(expects)
			c.wait(5 * time.Second)
			c.expectResponse("100")
		}, 0},
		"storing": {stateStoring, func(c *slowClient) { idle(c); storing(c) }, 0},
		"storing, pipelined": {stateStoring, func(c *slowClient) {
			idle(c)
			c.log.appendTime = 1000 * time.Second
			c.send(one + one)
			c.wait(1000 * time.Second)
			c.expectResponse("201")
		}, 0},
		"writing": {stateWriting, func(c *slowClient) { idle(c); c.delayResponse(); c.send(one) }, 0},
		"writing, after a slow body": {stateWriting, func(c *slowClient) {
			idle(c)
			c.delayResponse()
			c.send(header)
			c.wait(5 * time.Second)
			c.send(body)
		}, 0},
		"writing, to be continued": {stateWriting, func(c *slowClient) { idle(c); c.delayResponse(); c.send(expects) }, 0},
		"writing, of the first":    {stateWriting, func(c *slowClient) { c.wait(5 * time.Second); c.delayResponse(); c.send(one) }, 0},
		"writing a rejection":      {stateWriting, func(c *slowClient) { idle(c); c.delayResponse(); c.send("x\r\n") }, 0},
		"lingering":                {stateLingering, func(c *slowClient) { c.send("x\r\n"); c.expectResponse("400, closed") }, 0},
		"lingering, after the last request": {stateLingering, func(c *slowClient) {
			idle(c)
			c.send(strings.Replace(one, "\r\n", "\r\nConnection: close\r\n", 1) + "P")
			c.expectResponse("201, closed")
		}, 0},
		"lingering, close_notify": {stateLingering, func(c *slowClient) {
			idle(c)
			c.send(strings.Replace(one, "\r\n", "\r\nConnection: close\r\n", 1))
			c.expectResponse("201, closed")
		}, 0},
		"lingering, after a slow body": {stateLingering, func(c *slowClient) {
			idle(c)
			c.delayResponse()
			c.send(header)
			c.wait(l.BodyGrace + 2*time.Second)
			c.expectResponse("408, closed")
		}, 0},
	}
	table := documentedStates(t, "conn.go")
	seen := map[string]bool{}
	for _, row := range rows {
		seen[stateNames[row.state]] = true
	}
	for name := range table {
		if !seen[name] && name != "cut off" && name != "turned away" { // these two have their own tests
			t.Errorf("the test has no row for the state %s", name)
		}
	}
	ca := authtest.NewAuthority(t)
	now := time.Now()
	for transport, identity := range map[string]*auth.TLS{"loop": nil, "plain": nil, "TLS": ca.Server(t, nil)} {
		for name, row := range rows {
			documented, ok := table[stateNames[row.state]]
			limit, known := limits[documented[0]]
			if !ok || !known {
				t.Fatalf("%s: %q", name, documented)
			}
			sendsCloseNotify := name == "lingering, close_notify"
			if (row.state == stateHandshake || sendsCloseNotify) && identity == nil {
				continue
			}
			t.Run(transport+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					log := &slowLog{memoryLog: newMemoryLog()}
					h, ln := newServer(t, log, Options{Limits: l, Policy: auth.Policy{TLS: identity}}), listenInMemory()
					served := make(chan error, 1)
					var driver *loop
					if transport == "loop" {
						var stop func()
						driver, stop = startLoopInBubble(t, h)
						defer stop()
					}
					go func() { served <- h.Serve(ln) }()
					defer func() {
						if err := h.Shutdown(context.Background()); err != nil {
							t.Error(err)
						}
						if err := <-served; err != nil {
							t.Error(err)
						}
					}()
					<-time.After(time.Second) // a time of 0 means none
					var conn net.Conn
					if driver == nil {
						conn = ln.dialDuplex()
					} else {
						conn = ln.dialLoop(t, driver)
					}
					defer conn.Close()
					c := &slowClient{t, conn, bufio.NewReader(conn), log, h}
					spent := row.spent
					if identity != nil && row.enter != nil {
						config := ca.Config(nil)
						config.Time = func() time.Time { return now } // a time at which the certificates are valid
						secure := tls.Client(conn, config)
						c.wait(2 * time.Second)
						if err := secure.Handshake(); err != nil {
							t.Fatal(err)
						}
						c.Conn, c.responses = secure, bufio.NewReader(secure)
						if row.state == stateOpening || name == "header, the first" {
							spent += 2 * time.Second // the time of the handshake
						}
					}
					if row.enter != nil {
						row.enter(c)
					}
					c.expectState(row.state)
					if limit == 0 {
						c.wait(900 * time.Second)
						c.expectState(row.state)
						c.expectResponse("201")
						c.expectState(stateIdle)
						return
					}
					c.wait(limit - spent - time.Millisecond)
					c.expectState(row.state)
					c.wait(moment)
					switch documented[1] {
					case "408, closed":
						if driver == nil { // a loop has written it into the socket
							c.expectState(stateWriting)
						}
						c.expectResponse("408, closed")
						c.expectState(stateLingering)
						c.expectClosed(0)
						c.wait(time.Second + moment)
					case "closed":
						synctest.Wait()
						if row.state != stateWriting && !sendsCloseNotify {
							c.expectClosed(0)
							break
						}
						if n := h.Connections(); n != 0 {
							t.Errorf("%d connections are open after the limit, want 0", n)
						}
						c.expectNoResponse()
					default:
						t.Fatal(documented)
					}
					synctest.Wait()
					if n := h.Connections(); n != 0 {
						t.Errorf("%d connections are open, want 0", n)
					}
					if _, err := io.WriteString(conn, "x"); err == nil {
						t.Error("bytes are still read")
					}
				})
			})
		}
	}
}
