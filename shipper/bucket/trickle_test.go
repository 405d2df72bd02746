package bucket

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"collectord/collectord/testrun"
	"collectord/shipper/bucket/s3test"
)

// TestATricklingDownloadIsAborted checks also that a slow download is not aborted, even if its
// reader pauses, or if others take most of the line.
func TestATricklingDownloadIsAborted(t *testing.T) {
	const stall, minBytes, size = 20 * time.Second, 5000, 50 * 5000 // a bit more than minPace
	for name, c := range map[string]struct {
		rate   int           // bytes a second
		others int           // bytes a second of other answers
		header time.Duration // time until the header is sent
		pause  time.Duration
		took   time.Duration // time until the download is aborted; 0: it is not aborted
	}{
		"slow":                                 {rate: minBytes},
		"slow, with a late header":             {rate: minBytes, header: stall - 2*time.Second},
		"slow, with pauses of the reader":      {rate: minBytes, pause: time.Hour},
		"slow, while others arrive":            {rate: minBytes / 4, others: minBytes / 4 * 3, took: 66 * time.Second}, // when the others end
		"a trickle, while others arrive":       {rate: minBytes / 32, others: 5 * minBytes, took: 2 * stall},
		"a trickle":                            {rate: minBytes / 2, took: stall},
		"a trickle, with pauses of the reader": {rate: minBytes / 2, pause: time.Hour, took: stall + 4*time.Hour},
		"a trickle, beside others":             {rate: minBytes / 32, others: minBytes / 2, took: stall},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := s3test.NewPipe()
				t.Cleanup(f.Close)
				f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
					rate := c.rate
					if strings.HasSuffix(r.URL.Path, "/other") {
						rate = c.others
					}
					time.Sleep(c.header)
					w.Header().Set("Content-Length", strconv.Itoa(size))
					w.Header().Set("Last-Modified", "Mon, 23 Nov 2026 08:00:00 GMT")
					for range size / rate {
						_, err := w.Write(make([]byte, rate))
						if errors.Join(err, http.NewResponseController(w).Flush()) != nil {
							break
						}
						time.Sleep(time.Second)
					}
					return true
				}})
				s := testS3(t, f.URL, s3test.Bucket, "", func(o *S3Options) { o.Dial = f.Dial })
				pace := &Pace{}
				open := func(key string) (body io.ReadCloser, err error) {
					body, _, err = s.Open(WithCallOptions(t.Context(), &CallOptions{StallTimeout: stall, Pace: pace}), key)
					return body, err
				}
				began := time.Now()
				var others sync.WaitGroup
				defer others.Wait()
				if c.others > 0 {
					other, err := open("other")
					if err != nil {
						t.Fatal(err)
					}
					others.Go(func() {
						defer other.Close()
						_, _ = io.Copy(io.Discard, other)
					})
				}
				body, err := open("a")
				if err != nil {
					t.Fatal(err)
				}
				defer time.Sleep(2 * time.Second) // until the storage notices the end
				defer body.Close()
				n, paused := 0, time.Duration(0)
				for buf := make([]byte, 4096); err == nil; {
					var k int
					k, err = body.Read(buf)
					if n += k; c.pause > 0 && n > 4096 && paused < 4*time.Hour {
						time.Sleep(c.pause)
						paused += c.pause
					}
				}
				took := time.Since(began).Round(2 * time.Second)
				var failed *Error
				switch {
				case c.took == 0 && (n != size || !errors.Is(err, io.EOF)):
					t.Errorf("%d bytes, %v after %v", n, err, took)
				case c.took > 0 && (!errors.As(err, &failed) || failed.Kind != Timeout || took < c.took || took > c.took+2*stall):
					t.Errorf("%d bytes, %v after %v", n, err, took)
				}
			})
		})
	}
}

// TestBytesThatWaitInTheKernelAreCounted: a reader that works ahead opens objects that nobody
// reads yet. The kernel receives them, too, and they use the line.
func TestBytesThatWaitInTheKernelAreCounted(t *testing.T) {
	const stall, pieces = 200 * time.Millisecond, 50
	storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Last-Modified", "Mon, 23 Nov 2026 08:00:00 GMT")
		w.Header().Set("Content-Length", strconv.Itoa(1000*pieces))
		for range pieces { // slowly, because the first look at the kernel counts nothing
			_, err := w.Write(make([]byte, 1000))
			if errors.Join(err, http.NewResponseController(w).Flush()) != nil {
				return
			}
			<-time.After(stall / 10)
		}
	}))
	t.Cleanup(storage.Close)
	s := testS3(t, storage.URL, s3test.Bucket, "")
	pace := &Pace{}
	unread, _, err := s.Open(WithCallOptions(t.Context(), &CallOptions{StallTimeout: stall, Pace: pace}), "a")
	if err != nil {
		t.Fatal(err)
	}
	defer unread.Close()
	began := time.Now()
	for range time.Tick(stall / 20) {
		switch n := pace.received.Load(); {
		case n > 5000:
			return
		case time.Since(began) > 20*time.Second:
			t.Fatalf("%d bytes are counted", n)
		}
	}
}

// TestAReusedConnectionCountsEachByteOnce: an answer that is read to its end but not closed has
// given its connection to the next one.
func TestAReusedConnectionCountsEachByteOnce(t *testing.T) {
	const stall, size = 200 * time.Millisecond, 40_000
	storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Last-Modified", "Mon, 23 Nov 2026 08:00:00 GMT")
		w.Header().Set("Content-Length", strconv.Itoa(size))
		for range 4 { // measured between these parts
			_, err := w.Write(make([]byte, size/4))
			if errors.Join(err, http.NewResponseController(w).Flush()) != nil {
				return
			}
			<-time.After(stall / 4)
		}
	}))
	t.Cleanup(storage.Close)
	s := testS3(t, storage.URL, s3test.Bucket, "")
	const answers = 5
	testrun.RetryIfStalled(t, stall/4, func() error {
		pace := &Pace{}
		for range answers {
			body, _, err := s.Open(WithCallOptions(t.Context(), &CallOptions{StallTimeout: stall, Pace: pace}), "a")
			if err != nil {
				return err
			}
			defer body.Close()
			if _, err := io.Copy(io.Discard, body); err != nil {
				return err
			}
		}
		// The kernel counts headers, too.
		if n := pace.received.Load(); n < answers*size || n > answers*(size+1000) {
			return fmt.Errorf("%d bytes are counted of %d", n, answers*size)
		}
		if n := pace.waiting.Load(); n != 0 {
			return fmt.Errorf("%d answers are waited for", n)
		}
		return nil
	})
}
