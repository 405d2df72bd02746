package bucket

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"collectord/shipper/bucket/s3test"
)

// TestATricklingDownloadIsAborted checks also that a slow download is not aborted, even if its
// reader pauses.
func TestATricklingDownloadIsAborted(t *testing.T) {
	const stall, minBytes, size = 20 * time.Second, minPace * 5 / 4, 50 * minPace * 5 / 4
	for name, c := range map[string]struct {
		rate  int   // bytes a second
		share int32 // number of answers that the callers wait for at the same time
		pause time.Duration
		took  time.Duration // time until the download is aborted; 0: it is not aborted
	}{
		"slow":                                 {rate: minBytes},
		"slow, with pauses of the reader":      {rate: minBytes, pause: time.Hour},
		"slow, and one of 16 answers":          {rate: minBytes / 16, share: 16},
		"a trickle":                            {rate: minBytes / 2, took: stall},
		"a trickle, with pauses of the reader": {rate: minBytes / 2, pause: time.Hour, took: stall + 4*time.Hour},
		"a trickle, and one of 16 answers":     {rate: minBytes / 32, share: 16, took: stall},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := s3test.NewPipe()
				t.Cleanup(f.Close)
				f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, _ *http.Request) bool {
					w.Header().Set("Content-Length", strconv.Itoa(size))
					w.Header().Set("Last-Modified", "Mon, 23 Nov 2026 08:00:00 GMT")
					for range size / c.rate {
						_, err := w.Write(make([]byte, c.rate))
						if errors.Join(err, http.NewResponseController(w).Flush()) != nil {
							break
						}
						time.Sleep(time.Second)
					}
					return true
				}})
				s := testS3(t, f.URL, s3test.Bucket, "", func(o *S3Options) { o.Dial = f.Dial })
				began := time.Now()
				pace := &Pace{}
				pace.waiting.Store(max(0, c.share-1))
				body, _, err := s.Open(WithCallOptions(t.Context(), &CallOptions{StallTimeout: stall, Pace: pace}), "a")
				if err != nil {
					t.Fatal(err)
				}
				defer time.Sleep(2 * time.Second) // until the storage notices the end
				defer body.Close()
				n, paused := 0, time.Duration(0)
				for buf := make([]byte, 4096); err == nil; {
					var k int
					k, err = body.Read(buf)
					if n += k; c.pause > 0 && n > minPace && paused < 4*time.Hour {
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
