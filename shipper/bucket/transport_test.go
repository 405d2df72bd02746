package bucket

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"collectord/shipper/bucket/s3test"
)

var _ net.Error = (*stallError)(nil)

// cutConn is a connection to a host that lost power. Only a write reveals the loss.
type cutConn struct {
	net.Conn
	cut *atomic.Bool
}

func (c cutConn) Write(p []byte) (int, error) {
	if c.cut.Load() {
		return 0, syscall.ECONNRESET
	}
	return c.Conn.Write(p)
}

// TestAResetConnectionCountsAsAnOutage: this applies even if net/http repeats the request.
func TestAResetConnectionCountsAsAnOutage(t *testing.T) {
	t.Parallel()
	cut := new(atomic.Bool)
	_, s := newFake(t, func(o *S3Options) {
		o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			return cutConn{conn, cut}, err
		}
	})
	failures := 0
	ctx := WithCallOptions(t.Context(), &CallOptions{OnFailure: func() { failures++ }})
	look := func() {
		t.Helper()
		if _, err := s.Stat(ctx, "nothing"); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
	}
	for range 2 {
		look()
	}
	if failures != 0 {
		t.Errorf("got %d failures of an intact storage, want 0", failures)
	}
	cut.Store(true)
	cut = new(atomic.Bool) // for later connections
	if look(); failures != 1 {
		t.Errorf("got %d failures, want 1", failures)
	}
}

func TestAStalledUploadIsAborted(t *testing.T) {
	t.Parallel()
	const stall = 100 * time.Millisecond
	put := func(s *s3Store, size int) error {
		ctx := WithCallOptions(context.Background(), &CallOptions{StallTimeout: stall})
		return s.Put(ctx, testObject("a", string(bytes.Repeat([]byte("x"), size))))
	}
	f, s := newFake(t)
	if err := s.Probe(context.Background()); err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	for name, fault := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"it reads no bytes": func(http.ResponseWriter, *http.Request) bool { <-release; return false },
		"it reads a part and stalls": func(_ http.ResponseWriter, r *http.Request) bool {
			io.CopyN(io.Discard, r.Body, 100_000)
			<-release
			return false
		},
		"it reads all and does not answer": func(_ http.ResponseWriter, r *http.Request) bool {
			io.Copy(io.Discard, r.Body)
			<-release
			return false
		},
	} {
		f.Behave(s3test.Behaviour{Fault: fault})
		var storeErr *Error
		if err := put(s, 16<<20); !errors.As(err, &storeErr) || storeErr.Kind != "timeout" || storeErr.Permanent || !strings.Contains(err.Error(), "nothing moved") {
			t.Errorf("%s: %v", name, err)
		}
	}
	close(release)
}

// slowLine is a line with slow requests and slower answers.
type slowLine struct{ pause time.Duration }

func (l slowLine) RoundTrip(r *http.Request) (*http.Response, error) {
	piece := make([]byte, 1000)
	for {
		time.Sleep(l.pause)
		if _, err := r.Body.Read(piece); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
	}
	time.Sleep(l.pause)
	if err := context.Cause(r.Context()); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"X-Amz-Request-Id": {"1"}}, Body: io.NopCloser(&slowReader{r.Context(), l.pause, 100})}, nil
}

type slowReader struct {
	ctx    context.Context
	pause  time.Duration
	pieces int
}

func (r *slowReader) Read(_ []byte) (int, error) {
	if r.pieces--; r.pieces < 0 {
		return 0, io.EOF
	}
	time.Sleep(r.pause)
	return 1, context.Cause(r.ctx)
}

func TestASlowLineIsNotAborted(t *testing.T) {
	for name, c := range map[string]struct {
		pause time.Duration
		rate  int64
		stall bool
	}{
		"slow":                     {50 * time.Second, 0, false},
		"too slow":                 {70 * time.Second, 0, true},
		"limited by the bandwidth": {0, 1, false}, // one block takes minutes
		"slow and limited":         {50 * time.Second, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				options := &CallOptions{}
				if c.rate > 0 {
					options.Bandwidth = &Bandwidth{}
					options.Bandwidth.Set(c.rate)
				}
				r, err := http.NewRequestWithContext(WithCallOptions(t.Context(), options), http.MethodPut, "http://x/", bytes.NewReader(make([]byte, 100_000)))
				if err != nil {
					t.Fatal(err)
				}
				resp, err := (&transport{slowLine{c.pause}}).RoundTrip(r)
				var stalled *stallError
				if c.stall {
					if !errors.As(err, &stalled) {
						t.Errorf("%v after %v", err, time.Since(began))
					}
					return
				}
				if err != nil {
					t.Fatalf("%v after %v", err, time.Since(began))
				}
				n, err := io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if n != 100 || err != nil || time.Since(began) < time.Hour {
					t.Errorf("%d bytes of the answer, %v, after %v", n, err, time.Since(began))
				}
			})
		})
	}
}

func TestBandwidthIsSharedAndCapped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, size, readers = 100_000, 250_000, 4
		var b Bandwidth
		b.Set(rate)
		read := func() (took time.Duration) {
			began := time.Now()
			var all sync.WaitGroup
			for range readers {
				all.Go(func() {
					n, err := io.Copy(io.Discard, &pacedReader{t.Context(), bytes.NewReader(make([]byte, size)), &b})
					if n != size || err != nil {
						t.Errorf("%d bytes, %v", n, err)
					}
				})
			}
			all.Wait()
			return time.Since(began)
		}
		if took := read(); (took - 10*time.Second).Abs() > 10*time.Millisecond {
			t.Errorf("%d bytes took %v", readers*size, took)
		}
		time.Sleep(time.Hour) // a pause accumulates no bandwidth
		b.Set(10 * rate)
		if took := read(); (took - time.Second).Abs() > 10*time.Millisecond {
			t.Errorf("%d bytes took %v", readers*size, took)
		}
		b.Set(0)
		if took := read(); took != 0 {
			t.Errorf("without a limit it took %v", took)
		}
		b.Set(1)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := io.Copy(io.Discard, &pacedReader{ctx, bytes.NewReader(make([]byte, size)), &b}); !errors.Is(err, context.Canceled) {
			t.Errorf("after the context ended: %v", err)
		}
	})
}

func TestUploadsObeyTheBandwidth(t *testing.T) {
	file, err := newFolder(t.TempDir(), testOwner)
	if err != nil {
		t.Fatal(err)
	}
	_, fake := newFake(t)
	if err := fake.Probe(context.Background()); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]Store{"file": file, "S3": fake} {
		const rate, size = 200_000, 60_000
		b := &Bandwidth{}
		b.Set(rate)
		began := time.Now()
		ctx := WithCallOptions(context.Background(), &CallOptions{Bandwidth: b})
		if err := s.Put(ctx, testObject("a", string(make([]byte, size)))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		// A lower bound does not depend on the speed of the machine.
		if took := time.Since(began); took < time.Second*size/rate*9/10 {
			t.Errorf("%s: %d bytes took %v at %d bytes a second", name, size, took, rate)
		}
	}
}

// TestADelayIsThatOfTheLastAnswer: the calls of an attempt share their options.
func TestADelayIsThatOfTheLastAnswer(t *testing.T) {
	f, s := newFake(t)
	status := http.StatusServiceUnavailable
	f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, _ *http.Request) bool {
		if status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "100")
		}
		return s3test.Error(w, status, "Broken")
	}})
	ctx := WithCallOptions(t.Context(), &CallOptions{})
	for _, c := range []struct {
		status int
		want   time.Duration
	}{{http.StatusServiceUnavailable, 100 * time.Second}, {http.StatusInternalServerError, 0}} {
		status = c.status
		_, _, err := s.Open(ctx, "key")
		var failure *Error
		if !errors.As(err, &failure) || failure.RetryAfter != c.want {
			t.Errorf("status %d: a delay of %v, want %v: %v", c.status, failure.RetryAfter, c.want, err)
		}
	}
}
