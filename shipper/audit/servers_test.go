package audit

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"collectord/collectord/testrun"
	"collectord/shipper"
	"collectord/shipper/bucket"
	"collectord/shipper/bucket/s3test"
	"collectord/wal"
)

func openStore(t *testing.T, d bucket.Destination) bucket.Store {
	t.Helper()
	s, err := bucket.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newFolder makes a new folder.
func newFolder(t *testing.T) testBucket {
	t.Helper()
	root := t.TempDir()
	return testBucket{t, openStore(t, bucket.Destination{URL: "file://" + root}), func(key string) error { return os.Remove(filepath.Join(root, key)) }, nil, false}
}

func openS3(t *testing.T, endpoint, destination string) bucket.Store {
	t.Helper()
	return openStore(t, bucket.Destination{URL: "s3://" + destination, S3: bucket.S3Options{
		Endpoint: endpoint, Region: "us-east-1", PathStyle: "on", CredentialsFile: s3test.KeysFile(t, s3test.User, s3test.Secret, ""),
	}})
}

// newBucket makes a new bucket on a real server.
func newBucket(t *testing.T) testBucket {
	t.Helper()
	endpoint := s3test.MinIO(t)
	client, name := s3test.Client(t, endpoint), s3test.MakeBucket(t, endpoint, false)
	return testBucket{t, openS3(t, endpoint, name+"/some/prefix"), func(key string) error {
		return client.RemoveObject(context.Background(), name, "some/prefix/"+key, minio.RemoveObjectOptions{})
	}, nil, true}
}

// newFake runs a fake S3 until the test ends.
func newFake(t *testing.T) (*s3test.Server, testBucket) {
	t.Helper()
	f, err := s3test.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f, testBucket{t, openS3(t, f.URL, s3test.Bucket+"/data"), func(key string) error { f.Put("data/"+key, nil); return nil }, func(key string, at time.Time) { f.Touch("data/"+key, at) }, true}
}

// openLog opens a log, which the caller closes.
func openLog(t *testing.T, dir string, o wal.Options) *wal.Log {
	t.Helper()
	testrun.WaitPastHourEnd()
	o.Node = "edge-1"
	if o.SegmentSize == 0 {
		o.SegmentSize = 256 << 10 // a log reserves the space of each segment ahead, which takes time
	}
	l, err := wal.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// fill appends n records in segments of per records each.
func fill(t *testing.T, l *wal.Log, n, per int) {
	t.Helper()
	for i := range n {
		if err := l.Append(context.Background(), wal.Record{Usage: fmt.Appendf(nil, `{"n":%d}`, i)}); err != nil {
			t.Fatal(err)
		}
		if (i+1)%per == 0 {
			if err := l.Seal(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// shipRecords fills a log, ships it and closes it.
func shipRecords(t *testing.T, dir string, store bucket.Store, o wal.Options, n, per int) {
	t.Helper()
	l := openLog(t, dir, o)
	fill(t, l, n, per)
	shipAll(t, l, store)
}

// shipAll ships a log, one segment at a time, and closes it.
func shipAll(t *testing.T, l *wal.Log, store bucket.Store) {
	t.Helper()
	s, err := shipper.New(l, store, shipper.Options{SpoolDir: filepath.Join(t.TempDir(), "spool"), Limits: shipper.Limits{Concurrency: 1}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	for ctx.Err() == nil && (l.Ledger().Pending > 0 || l.Stats().LossNotes > 0) {
		step, stop := context.WithTimeout(ctx, 20*time.Millisecond) // salvage may replace a segment by others
		s.Drain(step)
		stop()
	}
	if ctx.Err() != nil {
		t.Fatalf("%d records remain: %+v", l.Ledger().Pending, s.Stats())
	}
	cancel()
	<-done
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// shipAndRetire fills a log, ships it, writes the last heartbeat and closes it.
func shipAndRetire(t *testing.T, dir string, store bucket.Store, n, per int) {
	t.Helper()
	l := openLog(t, dir, wal.Options{})
	fill(t, l, n, per)
	s, err := shipper.New(l, store, shipper.Options{SpoolDir: filepath.Join(t.TempDir(), "spool")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	if remaining := s.Drain(ctx); remaining > 0 {
		t.Fatalf("%d segments remain", remaining)
	}
	cancel()
	<-done
	s.WriteHeartbeat(context.Background(), true)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestMain(m *testing.M) { os.Exit(s3test.Main(m)) }
