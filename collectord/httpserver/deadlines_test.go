package httpserver

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"collectord/collectord/auth"
	"collectord/collectord/auth/authtest"
	"collectord/wal"
)

// slowLog needs appendTime for an append.
type slowLog struct {
	*memoryLog
	appendTime time.Duration
}

func (l *slowLog) AppendTo(*wal.Waiter, iter.Seq[*wal.Record]) (uint64, error) { return 0, ErrStarting }

func (l *slowLog) AppendSeq(ctx context.Context, recs iter.Seq[*wal.Record]) error {
	<-time.After(l.appendTime)
	return l.memoryLog.AppendSeq(ctx, recs)
}

// slowClient is a client that waits, in a synctest bubble.
type slowClient struct {
	t *testing.T
	net.Conn
	responses *bufio.Reader
	log       *slowLog
	server    *Server
}

func (c *slowClient) wait(d time.Duration) { <-time.After(d) }

// delayResponse makes the next response wait until the client reads. Other connections than
// those of a loop always do.
func (c *slowClient) delayResponse() {
	if p, ok := c.Conn.(*loopPeer); ok {
		p.fill(c.t)
	}
}

// send sends text, and returns once the server has read it.
func (c *slowClient) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatal(err)
	}
}

// expectResponse reads a response, and checks its status and whether it closes the
// connection.
func (c *slowClient) expectResponse(want string) {
	c.t.Helper()
	a, err := http.ReadResponse(c.responses, nil)
	if err != nil {
		c.t.Fatalf("got %v, want %s", err, want)
	}
	body, err := io.ReadAll(a.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	got := fmt.Sprint(a.StatusCode)
	if a.Close {
		got += ", closed"
	}
	if got != want {
		c.t.Fatalf("got %s, want %s: %s", got, want, body)
	}
}

// expectClosed checks that the server closes the connection without a response, d from now.
func (c *slowClient) expectClosed(d time.Duration) {
	c.t.Helper()
	began := time.Now()
	rest, err := io.ReadAll(c.responses)
	if took := time.Since(began); len(rest) > 0 || err != nil || took < d || took > d+2*sweepEvery {
		c.t.Fatalf("%d bytes and %v after %v, want the end after %v", len(rest), err, took, d)
	}
}

// expectNoResponse checks that the server has closed the connection and sent no response.
func (c *slowClient) expectNoResponse() {
	c.t.Helper()
	if rest, _ := io.ReadAll(c.responses); len(rest) > 0 {
		c.t.Fatalf("got %q, want no response", rest)
	}
}

// expectStored checks how many usages were stored since the last call.
func (c *slowClient) expectStored(n int) {
	c.t.Helper()
	synctest.Wait()
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	if len(c.log.usages) != n {
		c.t.Fatalf("%d usages are stored, want %d", len(c.log.usages), n)
	}
	c.log.usages = nil
}

// Each state has its own deadline: time that a client uses in one state does not count in
// another. The limits are the defaults.
func TestDeadlinesDependOnlyOnTheState(t *testing.T) {
	l := Limits{}.withDefaults()
	const moment = 4 * sweepEvery // more than the inaccuracy of deadlines
	one, big := post(`{"a":1}`), post("["+strings.Repeat(`{},`, 999)+"{}]", "Prefer: return=representation")
	get := "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
	cases := map[string]func(c *slowClient){
		"idle between posts": func(c *slowClient) {
			for _, idle := range []time.Duration{0, l.HeaderTimeout + moment, l.AnswerTimeout + moment, 12 * time.Second, l.IdleTimeout - moment, 12 * time.Second} {
				c.wait(idle)
				c.send(one)
				c.expectResponse("201")
				c.expectStored(1)
			}
			c.expectClosed(l.IdleTimeout)
		},
		"idle after a rejection": func(c *slowClient) {
			for _, text := range []string{
				get, post("x"), strings.Replace(one, "usages", "x", 1), strings.Replace(one, "POST", "PUT", 1), post(""), one, postChunked(`{"a":1}`),
				post(`{"a":`), post(`{"a":1}`, "Prefer: handling=strict"), big,
			} {
				c.send(text)
				a, err := http.ReadResponse(c.responses, nil)
				if err == nil {
					_, err = io.Copy(io.Discard, a.Body)
				}
				if err != nil || a.Close {
					c.t.Fatal(err)
				}
				c.wait(l.AnswerTimeout + moment)
			}
			c.send(one)
			c.expectResponse("201")
		},
		"slow commits": func(c *slowClient) {
			for _, takes := range []time.Duration{7 * time.Second, l.AnswerTimeout + moment, l.IdleTimeout + moment, 0, 7 * time.Second} {
				c.log.appendTime = takes
				c.send(one)
				c.expectResponse("201")
				c.expectStored(1)
				c.send(postChunked(`{"a":1}`))
				c.expectResponse("201")
				c.expectStored(1)
				c.wait(12 * time.Second)
			}
		},
		"slow commit, pipelined": func(c *slowClient) {
			c.log.appendTime = 7 * time.Second
			c.send(one + one + one)
			c.expectResponse("201")
			c.expectResponse("201")
			c.expectResponse("201")
			c.expectClosed(l.IdleTimeout)
			c.expectStored(3)
		},
		"slow commit, then a drain": func(c *slowClient) {
			c.log.appendTime = 7 * time.Second
			c.send(one)
			c.wait(time.Second)
			c.server.Drain()
			c.expectResponse("201, closed")
		},
		"ended for room during a request": func(c *slowClient) { // the connection was idle when it was chosen
			c.send(one)
			c.expectResponse("201")
			c.log.appendTime = 7 * time.Second
			c.send(one)
			synctest.Wait()
			c.server.conns.mu.Lock()
			for open := range c.server.conns.open {
				open.end()
			}
			c.server.conns.mu.Unlock()
			c.expectResponse("201, closed")
		},
		"slow answers": func(c *slowClient) {
			for _, text := range []string{one, big, get, one + one, big + big} {
				go func() { _, _ = io.WriteString(c, text) }() // the server reads not all of it before the first response
				c.wait(l.AnswerTimeout - moment)
				for range strings.Count(text, " /") {
					a, err := http.ReadResponse(c.responses, nil)
					if err == nil {
						_, err = io.Copy(io.Discard, a.Body)
					}
					if err != nil {
						c.t.Fatal(err)
					}
				}
			}
			c.wait(12 * time.Second)
			c.send(one)
			c.wait(l.AnswerTimeout + moment)
			c.expectNoResponse()
			c.expectStored(1 + 1000 + 2 + 2*1000 + 1)
		},
		"slow answers after a slow commit": func(c *slowClient) {
			c.log.appendTime = 12 * time.Second
			c.send(big)
			c.wait(c.log.appendTime + l.AnswerTimeout - moment)
			c.expectResponse("201")
		},
		"no response is read": func(c *slowClient) {
			c.send(big)
			c.wait(l.AnswerTimeout + moment)
			c.expectNoResponse()
		},
		"half a header follows": func(c *slowClient) { // the response is sent before the rest is awaited
			head, tail := one[:20], one[20:]
			c.send(one + head)
			c.wait(l.AnswerTimeout - moment)
			c.expectResponse("201")
			c.wait(l.HeaderTimeout - moment)
			c.send(tail)
			c.expectResponse("201")
			c.send(one + head)
			c.expectResponse("201")
			c.wait(l.HeaderTimeout + moment)
			c.expectResponse("408, closed")
		},
		"slow headers": func(c *slowClient) {
			c.send(one[:9])
			c.wait(l.HeaderTimeout - moment)
			c.send(one[9:])
			c.expectResponse("201")
			c.wait(12 * time.Second)
			c.send(one[:9])
			c.wait(l.HeaderTimeout - moment)
			c.send(one[9:])
			c.expectResponse("201")
			c.send(one[:9])
			c.wait(l.HeaderTimeout + moment)
			c.expectResponse("408, closed")
			c.expectClosed(0)
		},
		"slow bodies": func(c *slowClient) {
			for _, text := range []string{one, postChunked(`{"a":1}`), big} {
				at := strings.Index(text, "\r\n\r\n") + 4
				c.send(text[:at-4])
				c.wait(l.HeaderTimeout - moment)
				c.send(text[at-4 : at])
				c.wait(l.BodyGrace - moment)
				c.send(text[at:])
				c.expectResponse("201")
				c.wait(12 * time.Second)
			}
			at := len(one) - 1
			c.send(one[:at])
			c.wait(l.BodyGrace + 2*moment)
			c.expectResponse("408, closed")
		},
		"slow after 100 Continue": func(c *slowClient) {
			text := post(`{"a":1}`, "Expect: 100-continue")
			at := strings.Index(text, "\r\n\r\n") + 4
			for range 2 {
				c.send(text[:at])
				c.wait(l.AnswerTimeout - moment)
				c.expectResponse("100")
				c.wait(l.BodyGrace - moment)
				c.send(text[at:])
				c.wait(l.AnswerTimeout - moment)
				c.expectResponse("201")
				c.wait(12 * time.Second)
			}
			c.send(text[:at])
			c.wait(l.AnswerTimeout + moment)
			c.expectNoResponse()
		},
		"silent": func(c *slowClient) {
			c.wait(l.HeaderTimeout - moment)
			c.send(one)
			c.expectResponse("201")
			c.expectClosed(l.IdleTimeout)
		},
	}
	ca := authtest.NewAuthority(t)
	now := time.Now()
	secure := map[string]*auth.TLS{"plain": nil, "TLS": ca.Server(t, nil)}
	for transport, identity := range secure {
		for name, of := range cases {
			t.Run(transport+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					log := &slowLog{memoryLog: newMemoryLog()}
					h, ln := newServer(t, log, Options{Policy: auth.Policy{TLS: identity}}), listenInMemory()
					served := make(chan error, 1)
					go func() { served <- h.Serve(ln) }()
					defer func() {
						if err := h.Shutdown(context.Background()); err != nil {
							t.Error(err)
						}
						if err := <-served; err != nil {
							t.Error(err)
						}
					}()
					for range 2 { // the second connection uses the pools of the first
						log.usages, log.appendTime = nil, 0
						conn := ln.dial()
						if identity != nil {
							config := ca.Config(nil)
							config.Time = func() time.Time { return now } // when the certificates are valid
							conn = tls.Client(conn, config)
						}
						defer conn.Close()
						_ = conn.SetDeadline(time.Now().Add(time.Hour)) // so that a failing test ends
						of(&slowClient{t, conn, bufio.NewReader(conn), log, h})
						h.draining.Store(false)
					}
				})
			})
		}
	}
}

// On real sockets, with a tenth of the default limits, idle times and slow commits do not
// end a connection.
func TestConnectionsOutliveSlowCommitsAndIdleTimes(t *testing.T) {
	t.Parallel()
	limits := Limits{}.withDefaults()
	for _, d := range []*time.Duration{&limits.HeaderTimeout, &limits.BodyGrace, &limits.AnswerTimeout, &limits.IdleTimeout} {
		*d /= 10
	}
	limits.BodyRate *= 10
	for name, listen := range map[string]string{"tcp": "127.0.0.1:0", "unix": t.TempDir() + "/socket"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := &slowLog{memoryLog: newMemoryLog()}
			ln, err := net.Listen(name, listen)
			if err != nil {
				t.Fatal(err)
			}
			startServerOn(t, ln, log, Options{Limits: limits})
			var c *slowClient
			for inTime := false; !inTime; { // a busy machine may exceed HeaderTimeout
				began := time.Now()
				v := dialRawOn(t, ln.Addr())
				c = &slowClient{t: t, Conn: v, responses: v.r}
				c.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
				inTime = time.Since(began) < limits.HeaderTimeout/2
			}
			c.expectResponse("200")
			for _, idle := range []time.Duration{0, 1300 * time.Millisecond} {
				c.wait(idle)
				c.send(post(`{"a":1}`))
				c.expectResponse("201")
			}
			log.appendTime = 900 * time.Millisecond // stands for 9 s: all limits are a tenth of the defaults
			for range 2 {
				c.send(post(`{"a":1}`))
				c.expectResponse("201")
			}
			log.mu.Lock()
			defer log.mu.Unlock()
			if want := slices.Repeat([]string{`{"a":1}`}, 4); !slices.Equal(log.usages, want) {
				t.Errorf("stored %q, want %q", log.usages, want)
			}
		})
	}
}
