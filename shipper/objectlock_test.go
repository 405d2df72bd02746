package shipper

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"collectord/shipper/bucket/s3test"
	"collectord/wal"
)

// TestADamagedCopyIsReplacedUnderObjectLock uses a MinIO that keeps every version for a
// day: the damaged version stays, and the object gets a new one.
func TestADamagedCopyIsReplacedUnderObjectLock(t *testing.T) {
	t.Parallel()
	ctx, endpoint := t.Context(), s3test.MinIO(t)
	name, client := s3test.MakeBucket(t, endpoint, true), s3test.Client(t, endpoint)
	mode, days, unit := minio.Compliance, uint(1), minio.Days
	if err := client.SetBucketObjectLockConfig(ctx, name, &mode, &days, &unit); err != nil {
		t.Fatal(err)
	}
	l := openLog(t, t.TempDir())
	s := startWith(t, l, testS3(t, endpoint, name+"/data"), Options{Limits: Limits{Keep: time.Hour}})
	if err := l.Append(ctx, wal.Record{Usage: []byte(`{"n":1}`)}); err != nil {
		t.Fatal(err)
	}
	if err := l.Seal(ctx); err != nil {
		t.Fatal(err)
	}
	until(t, "the segment is shipped and kept", func() bool { return l.Stats().KeptSegments == 1 })

	object := onlyObject(t, client, name)
	whole := objectBody(t, client, name, object.Key)
	stat, err := client.StatObject(ctx, name, object.Key, minio.StatObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	half := whole[:len(whole)/2]
	if _, err := client.PutObject(ctx, name, object.Key, bytes.NewReader(half), int64(len(half)), minio.PutObjectOptions{UserMetadata: stat.UserMetadata}); err != nil {
		t.Fatal(err)
	}
	s.SetLimits(Limits{Keep: time.Millisecond})
	until(t, "the object is replaced, and the segment removed after a look", func() bool { return l.Stats().KeptSegments == 0 && s.Stats().Reshipped == 1 })
	drain(t, s, 0)

	if now := objectBody(t, client, name, object.Key); !bytes.Equal(now, whole) {
		t.Errorf("the newest version has %d bytes that differ from those shipped (%d bytes)", len(now), len(whole))
	}
	sizes := ""
	for v := range client.ListObjectsIter(ctx, name, minio.ListObjectsOptions{Prefix: object.Key, WithVersions: true}) {
		if v.Err != nil {
			t.Fatal(v.Err)
		}
		sizes += fmt.Sprint(v.Size, " ")
	}
	if want := fmt.Sprint(len(whole), " ", len(half), " ", len(whole), " "); sizes != want {
		t.Errorf("versions have %s bytes, want %s", sizes, want)
	}
	onlyObject(t, client, name) // no object was stored beside it
}

// onlyObject returns the only data object in a bucket.
func onlyObject(t *testing.T, c *minio.Client, name string) (object minio.ObjectInfo) {
	t.Helper()
	n := 0
	for o := range c.ListObjectsIter(t.Context(), name, minio.ListObjectsOptions{Recursive: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		if strings.Contains(o.Key, "/dt=") {
			object, n = o, n+1
		}
	}
	if n != 1 {
		t.Fatalf("got %d objects, want 1", n)
	}
	return object
}

func objectBody(t *testing.T, c *minio.Client, name, key string) []byte {
	t.Helper()
	o, err := c.GetObject(t.Context(), name, key, minio.GetObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	b, err := io.ReadAll(o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
