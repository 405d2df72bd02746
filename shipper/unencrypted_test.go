package shipper

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"collectord/shipper/bucket"
	"collectord/shipper/bucket/s3test"
)

func TestAnUnencryptedObjectIsNotShippedAfterARestart(t *testing.T) {
	said := &saidLines{}
	f, store := encrypting(t, said)
	dir := t.TempDir()
	l := openLog(t, dir)
	var puts atomic.Int64
	count := func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "dt=") {
			puts.Add(1)
		}
		return false
	}
	if err := store.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.Behave(s3test.Behaviour{Encryption: s3test.Disregard, Fault: count})
	fill(t, l, 10, 10)
	run := func(l2 interface{ Close() error }, d time.Duration, pending func() uint64, start func(ctx context.Context, s chan struct{})) {
	}
	_ = run
	o := hurried(said)
	o.SpoolDir = t.TempDir()
	s, err := New(l, store, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	until(t, "fails", func() bool { return s.Stats().Failures[bucket.NotEncrypted] > 3 })
	t.Log("pending", l.Ledger().Pending, "usage puts", puts.Load(), "objects", usages(f))
	cancel()
	<-done
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	// restart; the storage still does not encrypt
	l = openLog(t, dir)
	store2 := testS3(t, f.URL, s3test.Bucket+"/data", func(o *bucket.S3Options) { o.SSE, o.Logger = "s3", said.logger() })
	s = startWith(t, l, store2, hurried(said))
	for i := 0; i < 40 && l.Ledger().Pending > 0; i++ {
		time.Sleep(50 * time.Millisecond)
	}
	t.Log("after restart: pending", l.Ledger().Pending, "usage puts", puts.Load(), "failures", s.Stats().Failures[bucket.NotEncrypted], "objects", s.Stats().Objects, "capabilities", s.Stats().Storage)
	f.Behave(s3test.Behaviour{Fault: count})
	for i := 0; i < 60 && l.Ledger().Pending > 0; i++ {
		time.Sleep(50 * time.Millisecond)
	}
	t.Log("encrypts again: pending", l.Ledger().Pending, "usage puts", puts.Load())
}
