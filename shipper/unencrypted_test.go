package shipper

import (
	"context"
	"testing"

	"collectord/shipper/bucket"
	"collectord/shipper/bucket/s3test"
)

// TestAnUnencryptedObjectIsNotShippedAfterARestart: the storage stops encrypting after the probe.
// The next process finds the unencrypted object.
func TestAnUnencryptedObjectIsNotShippedAfterARestart(t *testing.T) {
	logged := &logBuffer{}
	f, store := newEncryptingFake(t, logged)
	if err := store.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.Behave(s3test.Behaviour{Encryption: s3test.Disregard})
	dir := t.TempDir()
	l := openLog(t, dir)
	fill(t, l, 10, 10)
	o := fastRetries(logged)
	o.SpoolDir = t.TempDir()
	s, err := New(l, store, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	refused := func() bool { return s.Stats().Failures[bucket.NotEncrypted] > 3 }
	until(t, "the object is refused", refused)
	cancel()
	<-done
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}

	l = openLog(t, dir)
	again := testS3(t, f.URL, s3test.Bucket+"/data", func(o *bucket.S3Options) { o.SSE, o.Logger = "s3", logged.logger() })
	s = startWith(t, l, again, fastRetries(logged))
	until(t, "the object is refused again, or counts as shipped", func() bool { return refused() || l.Ledger().Pending == 0 })
	if g := l.Ledger(); g.Pending != 10 {
		t.Errorf("the records count as shipped: %+v", g)
	}
	f.Behave(s3test.Behaviour{})
	until(t, "the storage encrypts, and all records are shipped", func() bool { return l.Ledger().Pending == 0 })
}
