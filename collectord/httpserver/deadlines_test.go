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

// slowLog takes time to store.
type slowLog struct {
	*memoryLog
	appendTime time.Duration
}

func (l *slowLog) AppendTo(*wal.Waiter, iter.Seq[*wal.Record]) (uint64, error) { return 0, ErrStarting }

func (l *slowLog) AppendSeq(ctx context.Context, recs iter.Seq[*wal.Record]) error {
	<-time.After(l.appendTime)
	return l.memoryLog.AppendSeq(ctx, recs)
}

// slowClient is a client that takes its time, in a bubble.
type slowClient struct {
	t *testing.T
	net.Conn
	responses *bufio.Reader
	log       *slowLog
	server    *Server
}

func (c *slowClient) wait(d time.Duration) { <-time.After(d) }

// send sends text, which the server reads at once.
func (c *slowClient) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatal(err)
	}
}

// expectResponse reads an answer, whose connection stays open unless the status says
// "closed".
func (c *slowClient) expectResponse(want string) {
	c.t.Helper()
	a, err := http.ReadResponse(c.responses, nil)
	if err != nil {
		c.t.Fatalf("%v instead of %s", err, want)
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
		c.t.Fatalf("%s instead of %s: %s", got, want, body)
	}
}

// expectClosed expects that the server closed the connection without a word, at least
// after d and hardly later.
func (c *slowClient) expectClosed(d time.Duration) {
	c.t.Helper()
	began := time.Now()
	rest, err := io.ReadAll(c.responses)
	if took := time.Since(began); len(rest) > 0 || err != nil || took < d || took > d+2*sweepEvery {
		c.t.Fatalf("%d bytes and %v after %v, not the end after %v", len(rest), err, took, d)
	}
}

// expectNoResponse expects that the server has closed the connection and that nothing of an
// answer was sent.
func (c *slowClient) expectNoResponse() {
	c.t.Helper()
	if rest, _ := io.ReadAll(c.responses); len(rest) > 0 {
		c.t.Fatalf("there is an answer still: %q", rest)
	}
}

// expectStored expects how many usages were stored since the last time.
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

// The times are those of production.
//
// Each deadline belongs to what the connection is doing, and acts on nothing else:
// what a client is slow at in one state takes nothing of another's time.
func TestDeadlinesDependOnlyOnTheState(t *testing.T) {
	l := Limits{}.withDefaults()
	const moment = 4 * sweepEvery // more than the deadlines are inexact by
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
		"idle after what is refused": func(c *slowClient) {
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
		"room is needed meanwhile": func(c *slowClient) { // it seemed to be idle a moment before
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
				go func() { _, _ = io.WriteString(c, text) }() // not all of it is read before the first answer
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
		"no answer is taken": func(c *slowClient) {
			c.send(big)
			c.wait(l.AnswerTimeout + moment)
			c.expectNoResponse()
		},
		"half a header follows": func(c *slowClient) { // the answer leaves before the rest is waited for
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
		"slow at continuing": func(c *slowClient) {
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
		"silence": func(c *slowClient) {
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
					for range 2 { // the second one on what the first has left in the pools
						log.usages, log.appendTime = nil, 0
						conn := ln.dial()
						if identity != nil {
							config := ca.Config(nil)
							config.Time = func() time.Time { return now } // when the certificates are valid
							conn = tls.Client(conn, config)
						}
						defer conn.Close()
						_ = conn.SetDeadline(time.Now().Add(time.Hour)) // so that what is wrong is not waited for
						of(&slowClient{t, conn, bufio.NewReader(conn), log, h})
						h.draining.Store(false)
					}
				})
			})
		}
	}
}

// All times are a tenth of those of production, on real sockets: an idle client and
// one whose commit takes long go on with their connection.
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
			for prompt := false; !prompt; { // a busy machine takes longer than a client may
				began := time.Now()
				v := dialRawOn(t, ln.Addr())
				c = &slowClient{t: t, Conn: v, responses: v.r}
				c.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
				prompt = time.Since(began) < limits.HeaderTimeout/2
			}
			c.expectResponse("200")
			for _, idle := range []time.Duration{0, 1300 * time.Millisecond} {
				c.wait(idle)
				c.send(post(`{"a":1}`))
				c.expectResponse("201")
			}
			log.appendTime = 900 * time.Millisecond // 9 s
			for range 2 {
				c.send(post(`{"a":1}`))
				c.expectResponse("201")
			}
			log.mu.Lock()
			defer log.mu.Unlock()
			if want := slices.Repeat([]string{`{"a":1}`}, 4); !slices.Equal(log.usages, want) {
				t.Errorf("stored %q", log.usages)
			}
		})
	}
}
