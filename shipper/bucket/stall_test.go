package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"collectord/collectord/testrun"
	"collectord/shipper/bucket/s3test"
)

// slowListener accepts connections that are read slowly, but without a pause. The sender's
// kernel buffers more than arrives.
type slowListener struct {
	net.Listener
	rate int // bytes a second
}

// listenSlowly uses small receive buffers, so that unread bytes are not acknowledged.
func listenSlowly(t *testing.T, rate int) *slowListener {
	t.Helper()
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		return errors.Join(c.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 32<<10)
		}), err)
	}}
	ln, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return &slowListener{ln, rate}
}

func (l *slowListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	b := &Bandwidth{}
	b.Set(int64(l.rate))
	return &slowConn{c, b}, nil
}

type slowConn struct {
	net.Conn
	pace *Bandwidth
}

func (c *slowConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p[:min(len(p), 8<<10)])
	if err != nil {
		return n, err // unwrapped, since the server checks for timeouts
	}
	return n, c.pace.wait(context.Background(), n)
}

// TestASilentStorageIsReportedBeforeItStalls has a storage that answers after three quarters of
// the stall timeout.
func TestASilentStorageIsReportedBeforeItStalls(t *testing.T) {
	const stall = 2 * time.Second
	f, s := newFake(t)
	f.Behave(s3test.Behaviour{Fault: func(http.ResponseWriter, *http.Request) bool { <-time.After(stall * 3 / 4); return false }})
	var reports []time.Duration // the watch calls it one after the other
	ctx := WithCallOptions(t.Context(), &CallOptions{StallTimeout: stall, OnSilence: func(silent time.Duration) { reports = append(reports, silent) }})
	if err := s.Put(ctx, testObject("a", "x")); err != nil {
		t.Fatal(err)
	}
	if n := len(reports); n < 2 || reports[0] < stall/4 || reports[n-1] != 0 {
		t.Errorf("reports: %v", reports)
	}
}

// TestASlowUplinkIsNoStall: the kernel buffers the body at once, and the peer needs several
// times the stall timeout to read it.
func TestASlowUplinkIsNoStall(t *testing.T) {
	const stall, rate, size = 600 * time.Millisecond, 600_000, 1_000_000
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			f, err := s3test.New()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(f.Close)
			var requests atomic.Int64
			slow := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requests.Add(1)
				f.ServeHTTP(w, r)
			}))
			slow.Listener = listenSlowly(t, rate)
			ca := ""
			if scheme == "https" {
				slow.StartTLS()
				ca = filepath.Join(t.TempDir(), "ca.pem")
				writePEM(t, ca, slow.Certificate().Raw)
			} else {
				slow.Start()
			}
			t.Cleanup(slow.Close)
			s := testS3(t, slow.URL, s3test.Bucket, "", func(o *S3Options) { o.CAFile = ca })
			if err := s.Probe(t.Context()); err != nil {
				t.Fatal(err)
			}
			tries := 0
			testrun.RetryIfStalled(t, stall/4, func() error {
				tries++
				requests.Store(0)
				began := time.Now()
				o := testObject(fmt.Sprint(tries), string(make([]byte, size)))
				err := s.Put(WithCallOptions(t.Context(), &CallOptions{StallTimeout: stall}), o)
				if took := time.Since(began); err != nil || requests.Load() != 1 || took < 2*stall {
					return fmt.Errorf("after %v and %d requests: %w", took, requests.Load(), err)
				}
				if got := f.Objects()[o.Key].Body; int64(len(got)) != o.Size {
					return fmt.Errorf("%d of %d bytes are stored", len(got), o.Size)
				}
				return nil
			})
		})
	}
}

// TestAStalledPeerIsAbortedInTime has peers that stall at several points of the body, also while
// the bandwidth limit delays bytes that the kernel could buffer.
func TestAStalledPeerIsAbortedInTime(t *testing.T) {
	const stall = 300 * time.Millisecond
	for name, c := range map[string]struct {
		limit int64
		reads int
	}{
		"in the middle": {0, 100_000},
		"before the first byte, with a bandwidth limit": {200_000, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ln := listenSlowly(t, 10_000_000)
			released := make(chan struct{})
			t.Cleanup(func() { close(released); ln.Close() })
			go func() {
				for {
					conn, err := ln.Accept()
					if err != nil {
						return
					}
					go func() {
						defer conn.Close()
						io.CopyN(io.Discard, conn, int64(c.reads))
						<-released
					}()
				}
			}()
			b := &Bandwidth{}
			b.Set(c.limit)
			tr, err := newS3Transport("", nil)
			if err != nil {
				t.Fatal(err)
			}
			ctx := WithCallOptions(t.Context(), &CallOptions{StallTimeout: stall, Bandwidth: b})
			req, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+ln.Addr().String()+"/", bytes.NewReader(make([]byte, 20_000_000)))
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			_, err = tr.RoundTrip(req)
			// The receive buffers accept a few bytes after the last read. The limit is longer
			// than a busy machine needs.
			const maxDuration = 15 * time.Second
			var stalled *stallError
			if took := time.Since(began); !errors.As(err, &stalled) || took < stall || took > maxDuration {
				t.Errorf("%v after %v", err, took)
			}
		})
	}
}

// TestAReaderThatPausesIsNoStall: pauses of the caller do not count as the storage's.
func TestAReaderThatPausesIsNoStall(t *testing.T) {
	t.Parallel()
	const stall = 500 * time.Millisecond
	f, s := newFake(t)
	o := testObject("a", string(make([]byte, 12<<20))) // more than the kernel buffers
	if err := s.Put(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	testrun.RetryIfStalled(t, stall/4, func() error {
		body, _, err := s.Open(WithCallOptions(t.Context(), &CallOptions{StallTimeout: stall}), "a")
		if err != nil {
			return err
		}
		defer body.Close()
		before, err := io.CopyN(io.Discard, body, 1<<20)
		if err != nil {
			return err
		}
		<-time.After(2 * stall)
		after, err := io.Copy(io.Discard, body)
		if err != nil || before+after != o.Size {
			return fmt.Errorf("%d of %d bytes, %w", before+after, o.Size, err)
		}
		return nil
	})
	// A body that stops in the middle is aborted.
	release := make(chan struct{})
	defer close(release)
	f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Length", "1000")
		w.Header().Set("Last-Modified", "Mon, 23 Nov 2026 08:00:00 GMT")
		w.Write(make([]byte, 500))
		w.(http.Flusher).Flush()
		<-release
		return true
	}})
	testrun.RetryIfStalled(t, stall/4, func() error {
		body, _, err := s.Open(WithCallOptions(t.Context(), &CallOptions{StallTimeout: stall}), "a")
		if err != nil {
			return err
		}
		defer body.Close()
		var storeErr *Error
		if n, err := io.Copy(io.Discard, body); !errors.As(err, &storeErr) || storeErr.Kind != "timeout" {
			return fmt.Errorf("%d bytes, %w", n, err)
		}
		return nil
	})
}

// countingConn counts the queries of the kernel about a connection.
type countingConn struct {
	*net.TCPConn
	calls *atomic.Int64
}

func (c countingConn) SyscallConn() (syscall.RawConn, error) {
	raw, err := c.TCPConn.SyscallConn()
	return countingRawConn{raw, c.calls}, err
}

type countingRawConn struct {
	syscall.RawConn
	calls *atomic.Int64
}

func (c countingRawConn) Control(f func(fd uintptr)) error {
	c.calls.Add(1)
	return c.RawConn.Control(f)
}

// TestAFastDownloadMakesNoKernelQueries: most objects are small and arrive at once.
func TestAFastDownloadMakesNoKernelQueries(t *testing.T) {
	f, err := s3test.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	f.Put("a", []byte("x"))
	var calls atomic.Int64
	s := testS3(t, f.URL, s3test.Bucket, "", func(o *S3Options) {
		o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return countingConn{c.(*net.TCPConn), &calls}, nil
		}
	})
	for range 10 {
		body, _, err := s.Open(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(body); err != nil || string(text) != "x" {
			t.Fatal(text, err)
		}
		body.Close()
	}
	if n := calls.Load(); n > 0 {
		t.Errorf("got %d queries, want 0", n)
	}
}
