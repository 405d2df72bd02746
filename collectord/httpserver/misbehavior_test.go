package httpserver

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"collectord/collectord/auth"
)

// After random misbehavior of clients, all memory is returned and no key stays claimed.
func TestAllMemoryIsReturnedAfterRandomMisbehavior(t *testing.T) {
	log := newMemoryLog()
	o := Options{Limits: Limits{MaxConnections: 16, HeaderTimeout: 300 * time.Millisecond, BodyGrace: 300 * time.Millisecond, AnswerTimeout: 300 * time.Millisecond, IdleTimeout: 300 * time.Millisecond}, MaxInFlight: 1 << 20}
	h := newServer(t, log, o)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	goroutines := runtime.NumGoroutine()
	served := make(chan error, 1)
	go func() { served <- h.Serve(ln) }()
	end := time.Now().Add(time.Second)
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			for time.Now().Before(end) {
				misbehave(r, ln.Addr().String())
			}
		})
	}
	all.Go(func() {
		for time.Now().Before(end) {
			h.SetLimits(o.Limits)
			h.SetPolicy(auth.Policy{})
			log.mu.Lock()
			if log.appendErr == nil && rand.IntN(3) == 0 {
				log.appendErr = context.Canceled
			} else {
				log.appendErr = nil
			}
			log.mu.Unlock()
			<-time.After(20 * time.Millisecond)
		}
	})
	all.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	if err := h.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	h.conns.mu.Lock()
	defer h.conns.mu.Unlock()
	if h.small.free != smallBodiesBytes || h.inFlight.free != h.opts.MaxInFlight || h.storing.free != h.opts.maxStoringBytes() || h.decoding.free != h.opts.MaxBody {
		t.Errorf("free bytes: %d small,  %d in flight, %d storing, %d decoding", h.small.free, h.inFlight.free, h.storing.free, h.decoding.free)
	}
	if len(h.window.underWay) > 0 || len(h.decoders.slots) > 0 || len(h.conns.open) > 0 || h.conns.plain != (connClass{}) || h.conns.secure != (connClass{}) {
		t.Errorf("%d claims, %d decoders, %d open, %+v, %+v", len(h.window.underWay), len(h.decoders.slots), len(h.conns.open), h.conns.plain, h.conns.secure)
	}
	for wait := time.Now().Add(testTimeout); runtime.NumGoroutine() > goroutines+2 && time.Now().Before(wait); {
		runtime.Gosched()
	}
	if n := runtime.NumGoroutine(); n > goroutines+2 {
		t.Errorf("%d goroutines, %d before", n, goroutines)
	}
}

func misbehave(r *rand.Rand, addr string) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	body := "[" + strings.Repeat(`{"a":1},`, []int{0, 10, 3000, 40000}[r.IntN(4)]) + `{"b":"` + strings.Repeat("x", r.IntN(8000)) + `"}]`
	if r.IntN(8) == 0 {
		body = body[:len(body)-1]
	}
	head := ""
	if r.IntN(3) == 0 {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = io.WriteString(z, body)
		_ = z.Close()
		if body = b.String(); r.IntN(4) == 0 {
			body = body[:len(body)/2]
		}
		head += "Content-Encoding: gzip\r\n"
	}
	for _, s := range []string{"Prefer: return=representation\r\n", "Prefer: handling=strict\r\n", "Connection: close\r\n", "Expect: 100-continue\r\n", fmt.Sprintf("Idempotency-Key: %d\r\n", r.IntN(3))} {
		if r.IntN(3) == 0 {
			head += s
		}
	}
	if r.IntN(2) == 0 {
		head += "Transfer-Encoding: chunked\r\n"
		size := 1 + r.IntN(9000)
		var b strings.Builder
		for len(body) > 0 {
			n := min(size, len(body))
			fmt.Fprintf(&b, "%x\r\n%s\r\n", n, body[:n])
			body = body[n:]
		}
		body = b.String() + "0\r\n\r\n"
	} else {
		head += fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	one := "POST /api/usages HTTP/1.1\r\nHost: localhost\r\n" + head + "\r\n" + body
	text := strings.Repeat(one, 1+r.IntN(3))
	if r.IntN(3) == 0 {
		text = text[:r.IntN(len(text))]
	}
	for len(text) > 0 {
		n := min(len(text), 1+r.IntN(1+len(text)))
		if _, err := io.WriteString(c, text[:n]); err != nil {
			return
		}
		text = text[n:]
	}
	switch r.IntN(4) {
	case 0:
		_ = c.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	case 1: // stops reading
		<-time.After(time.Duration(r.IntN(400)) * time.Millisecond)
	case 2:
		_, _ = io.CopyN(io.Discard, c, 3000)
	}
}
