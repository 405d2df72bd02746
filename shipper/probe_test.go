package shipper

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"collectord/shipper/bucket"
	"collectord/shipper/bucket/s3test"
)

// newEncryptingFake returns a fake whose store requests encryption.
func newEncryptingFake(t *testing.T, logged *logBuffer) (*s3test.Server, bucket.Store) {
	t.Helper()
	f, _ := newFake(t)
	return f, testS3(t, f.URL, s3test.Bucket+"/data", func(o *bucket.S3Options) { o.SSE, o.Logger = "s3", logged.logger() })
}

func fastRetries(logged *logBuffer) Options {
	return Options{Logger: logged.logger(), Limits: Limits{
		Concurrency: 4, RetryMin: time.Millisecond, RetryMax: 2 * time.Millisecond, RetryMaxPermanent: 2 * time.Millisecond,
	}}
}

// countDataObjects counts the data objects.
func countDataObjects(f *s3test.Server) (n int) {
	for key := range f.Objects() {
		if strings.HasPrefix(key, "data/dt=") {
			n++
		}
	}
	return n
}

func TestTheStorageIsProbedAtTheStart(t *testing.T) {
	logged := &logBuffer{}
	f, store := newEncryptingFake(t, logged)
	f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, _ *http.Request) bool { return s3test.Error(w, 503, "SlowDown") }})
	l := openLog(t, t.TempDir()) // an empty log
	s := startWith(t, l, store, fastRetries(logged))
	until(t, "some attempts have failed", func() bool { return s.Stats().Failures["SlowDown"] > 2 })
	if s.Stats().Storage != (bucket.Capabilities{}) || !strings.Contains(logged.text(), "the storage is asked what it can do") {
		t.Errorf("%+v, %s", s.Stats().Storage, logged.text())
	}
	f.Behave(s3test.Behaviour{})
	want := bucket.Capabilities{ConditionalPut: "yes", Checksum: "crc32c", Encryption: "AES256"}
	until(t, "the storage is probed", func() bool { return s.Stats().Storage == want })
	until(t, "the recovery is logged", func() bool { return strings.Contains(logged.text(), "shipping again") })
	if n := strings.Count(logged.text(), "found out what the storage can do"); n != 1 {
		t.Errorf("%d lines report the result, want 1: %s", n, logged.text())
	}
}

func TestNoUsageIsSentBeforeEncryptionIsConfirmed(t *testing.T) {
	logged := &logBuffer{}
	f, store := newEncryptingFake(t, logged)
	f.Behave(s3test.Behaviour{Encryption: s3test.Disregard})
	l := openLog(t, t.TempDir())
	fill(t, l, 80, 10)
	s := startWith(t, l, store, fastRetries(logged))
	until(t, "some attempts have failed, or all records count as shipped", func() bool { return s.Stats().Failures[bucket.NotEncrypted] > 10 || l.Ledger().Pending == 0 })
	if n := countDataObjects(f); n > 0 || l.Ledger().Pending != 80 || !strings.Contains(logged.text(), "shipper.s3.sse_unconfirmed: accept") {
		t.Errorf("%d objects were sent without encryption; %s", n, logged.text())
	}
	f.Behave(s3test.Behaviour{})
	drainAll(t, s)
	checkStoredOnce(t, store, 80)
	// Encryption stops on warm connections, between two usages. Only puts in flight may
	// still be sent.
	f.Behave(s3test.Behaviour{Encryption: s3test.Disregard})
	before, failures := countDataObjects(f), s.Stats().Failures[bucket.NotEncrypted]
	fill(t, l, 80, 10)
	until(t, "some attempts have failed, or all records count as shipped", func() bool { return s.Stats().Failures[bucket.NotEncrypted] > failures+10 || l.Ledger().Pending == 0 })
	if n := countDataObjects(f) - before; n > 4 || l.Ledger().Pending != 80 {
		t.Errorf("%d objects were sent without encryption, and %d records are pending", n, l.Ledger().Pending)
	}
	f.Behave(s3test.Behaviour{})
	drainAll(t, s)
	if g := l.Ledger(); g.Shipped != 160 || countDataObjects(f) != 16 {
		t.Errorf("%+v, %d objects", g, countDataObjects(f))
	}
}

// TestEachCallOfTheProbeMayFail lets each call fail once, while segments are shipped.
func TestEachCallOfTheProbeMayFail(t *testing.T) {
	t.Parallel()
	for n := int64(1); n <= 8; n++ {
		t.Run(fmt.Sprint("call ", n), func(t *testing.T) {
			logged := &logBuffer{}
			f, store := newEncryptingFake(t, logged)
			var calls atomic.Int64
			f.Behave(s3test.Behaviour{BlindCRC32C: true, Fault: func(w http.ResponseWriter, _ *http.Request) bool {
				return calls.Add(1) == n && s3test.Abort(w)
			}})
			l := openLog(t, t.TempDir())
			fill(t, l, 30, 10)
			s := startWith(t, l, store, fastRetries(logged))
			until(t, "all records are shipped", func() bool { return l.Ledger().Pending == 0 })
			checkStoredOnce(t, store, 30)
			if can := s.Stats().Storage; can != (bucket.Capabilities{ConditionalPut: "yes", Checksum: "md5", Encryption: "AES256"}) || calls.Load() < n {
				t.Errorf("%+v after %d calls", can, calls.Load())
			}
		})
	}
}
