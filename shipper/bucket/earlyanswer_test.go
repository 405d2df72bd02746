package bucket

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// refusingConn fails a write, and returns a 413 some time later.
type refusingConn struct {
	net.Conn
	response io.Reader
	failed   chan struct{}
	delay    time.Duration
}

func (c *refusingConn) Write(p []byte) (int, error) {
	if bytes.HasPrefix(p, []byte("PUT ")) {
		return len(p), nil
	}
	close(c.failed)
	return 0, syscall.EPIPE
}

func (c *refusingConn) Read(p []byte) (int, error) {
	<-c.failed
	time.Sleep(c.delay)
	return c.response.Read(p)
}

func (c *refusingConn) Close() error { return nil }

func TestAnEarlyAnswerIsReadAfterAFailedWrite(t *testing.T) {
	for name, c := range map[string]struct {
		response string
		delay    time.Duration
		status   int
	}{
		"at once":     {"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", 0, 413},
		"with a body": {"HTTP/1.1 413 Too Large\r\nContent-Length: 9\r\nConnection: close\r\n\r\nToo Large", 0, 413},
		"half a body": {"HTTP/1.1 413 Too Large\r\nContent-Length: 9\r\nConnection: close\r\n\r\nToo", 0, 413},
		"delayed":     {"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", responseWait - time.Millisecond, 413},
		"too late":    {"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", time.Hour, 0},
		"never":       {"", 0, 0},
		"incomplete":  {"HTTP/1.1 413 Too", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dial := func(context.Context, string, string) (net.Conn, error) {
					return &refusingConn{response: bytes.NewReader([]byte(c.response)), failed: make(chan struct{}), delay: c.delay}, nil
				}
				rt := &transport{&http.Transport{DialContext: withEarlyResponses(dial)}}
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://x/", bytes.NewReader(make([]byte, 1<<20)))
				if err != nil {
					t.Fatal(err)
				}
				resp, err := rt.RoundTrip(req)
				status := 0
				var response *responseError
				switch {
				case err == nil:
					status = resp.StatusCode
					resp.Body.Close()
				case errors.As(err, &response): // not from S3
					status = response.status
				}
				if status != c.status {
					t.Errorf("status %d, %v", status, err)
				}
				time.Sleep(2 * time.Hour) // until all goroutines have ended
			})
		})
	}
}

// TestA413FromAProxyThatClosesIsTooLarge has a proxy that answers 413 and closes the
// connection without reading the body.
func TestA413FromAProxyThatClosesIsTooLarge(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close() // unread bytes cause a reset
				_, _ = c.Read(make([]byte, 4096))
				_, _ = io.WriteString(c, "HTTP/1.1 413 Request Entity Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
			}()
		}
	}()
	s := testS3(t, "http://"+ln.Addr().String(), "bucket", "")
	s.setCapabilities(checksumCRC32C, true)
	kinds := map[string]int{}
	for range 50 {
		err := s.Put(context.Background(), testObject("a", string(make([]byte, 1<<20))))
		var e *Error
		if !errors.As(err, &e) {
			t.Fatal(err)
		}
		kinds[e.Kind]++
	}
	if kinds[TooLarge] != 50 {
		t.Errorf("kinds of 50 errors: %v, want only too_large", kinds)
	}
}
