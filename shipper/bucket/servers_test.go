package bucket

import (
	"log/slog"
	"os"
	"testing"

	"collectord/shipper/bucket/s3test"
)

// testS3 returns a store for a bucket at endpoint.
func testS3(t *testing.T, endpoint, bucket, prefix string, change ...func(*S3Options)) *s3Store {
	t.Helper()
	o := S3Options{
		Endpoint: endpoint, Region: "us-east-1", PathStyle: "on", CredentialsFile: s3test.KeysFile(t, s3test.User, s3test.Secret, ""),
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	for _, c := range change {
		c(&o)
	}
	s, err := newS3Store(bucket, prefix, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// setCapabilities skips the probe.
func (s *s3Store) setCapabilities(c checksum, conditional bool) {
	s.current.Store(&capabilities{checksum: c, conditional: conditional})
}

// newFake runs a fake S3 until the test ends.
func newFake(t *testing.T, change ...func(*S3Options)) (*s3test.Server, *s3Store) {
	t.Helper()
	f, err := s3test.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f, testS3(t, f.URL, s3test.Bucket, "data/", change...)
}

// newBucket makes a new bucket on a real server.
func newBucket(t *testing.T, endpoint string, lock bool, change ...func(*S3Options)) *s3Store {
	t.Helper()
	return testS3(t, endpoint, s3test.MakeBucket(t, endpoint, lock), "some/prefix/", change...)
}

func TestMain(m *testing.M) { os.Exit(s3test.Main(m)) }
