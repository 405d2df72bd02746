package shipper

import (
	"log/slog"
	"os"
	"testing"

	"collectord/shipper/bucket"
	"collectord/shipper/bucket/s3test"
)

// testS3 opens a prefix of a bucket.
func testS3(t *testing.T, endpoint, destination string, change ...func(*bucket.S3Options)) bucket.Store {
	t.Helper()
	o := bucket.S3Options{
		Endpoint: endpoint, Region: "us-east-1", PathStyle: "on", CredentialsFile: s3test.KeysFile(t, s3test.User, s3test.Secret, ""),
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	for _, c := range change {
		c(&o)
	}
	return openStore(t, bucket.Destination{URL: "s3://" + destination, S3: o})
}

func openStore(t *testing.T, d bucket.Destination) bucket.Store {
	t.Helper()
	s, err := bucket.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newFolder opens a new folder.
func newFolder(t *testing.T) bucket.Store {
	t.Helper()
	return openStore(t, bucket.Destination{URL: "file://" + t.TempDir()})
}

// newFake runs a fake S3 until the test ends.
func newFake(t *testing.T) (*s3test.Server, bucket.Store) {
	t.Helper()
	f, err := s3test.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f, testS3(t, f.URL, s3test.Bucket+"/data")
}

// newBucket opens a new bucket on a real server.
func newBucket(t *testing.T, endpoint string) bucket.Store {
	t.Helper()
	return testS3(t, endpoint, s3test.MakeBucket(t, endpoint, false)+"/some/prefix")
}

// probeStore makes the store probe the storage before the test changes its behaviour.
func probeStore(t *testing.T, store bucket.Store) {
	t.Helper()
	if err := store.Put(t.Context(), bucket.NewObject("probed", nil)); err != nil {
		t.Fatal(err)
	}
}

func TestMain(m *testing.M) { os.Exit(s3test.Main(m)) }
