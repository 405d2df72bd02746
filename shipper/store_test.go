package shipper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
)

var timeZero time.Time

const testUser, testSecret = "collectord-test", "collectord-test-secret"

// testS3 is a store for the bucket "bucket" at endpoint.
func testS3(t *testing.T, endpoint, prefix string) *s3Store {
	t.Helper()
	file := filepath.Join(t.TempDir(), "credentials")
	text := fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", testUser, testSecret)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := newS3Store("bucket", prefix, S3Options{
		Endpoint: endpoint, Region: "us-east-1", PathStyle: "on", CredentialsFile: file,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// minioBinary is where make tools puts it.
func minioBinary(t *testing.T) string {
	t.Helper()
	path := os.Getenv("TEST_MINIO")
	if path == "" {
		if cache, err := os.UserCacheDir(); err == nil {
			path = filepath.Join(cache, "collectord-tools", "bin", "minio")
		}
	}
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("ALLOW_MISSING") == "1" {
			t.Skipf("no MinIO at %s, and ALLOW_MISSING=1 is set", path)
		}
		t.Fatalf("no MinIO at %s: run make tools, or set ALLOW_MISSING=1 to go without this proof", path)
	}
	return path
}

// startMinIO runs a real MinIO on a free port until the test ends.
func startMinIO(t *testing.T) (endpoint string) {
	t.Helper()
	binary := minioBinary(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	cmd := exec.Command(binary, "server", "--quiet", "--address", addr, t.TempDir())
	cmd.Env = append(os.Environ(), "MINIO_ROOT_USER="+testUser, "MINIO_ROOT_PASSWORD="+testSecret,
		"MINIO_BROWSER=off", "MINIO_UPDATE=off")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait()
	})
	endpoint = "http://" + addr
	deadline := time.Now().Add(30 * time.Second)
	for {
		resp, err := http.Get(endpoint + "/minio/health/ready")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return endpoint
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("MinIO does not become ready")
		}
		<-time.After(20 * time.Millisecond)
	}
}

func realS3(t *testing.T) *s3Store {
	t.Helper()
	s := testS3(t, startMinIO(t), "some/prefix/")
	// MinIO says that it is ready a moment before it serves every call.
	ctx := context.Background()
	var err error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		err = s.client.MakeBucket(ctx, s.bucket, minio.MakeBucketOptions{})
		if err == nil || minio.ToErrorResponse(err).Code == minio.BucketAlreadyOwnedByYou {
			err = nil
			for _, listErr := range s.List(ctx, "") {
				err = listErr
			}
		}
		if err == nil {
			return s
		}
		<-time.After(20 * time.Millisecond)
	}
	t.Fatal(err)
	return nil
}

// unreal makes an object that is no real one, which no store minds.
func unreal(t *testing.T, key, content string) *Object {
	t.Helper()
	o := &Object{
		Key:      key,
		CRC32C:   crc32.Checksum([]byte(content), crc32.MakeTable(crc32.Castagnoli)),
		Metadata: Metadata{Format: 1, Node: "n", LogID: "1", Run: "2", FirstSeq: 3, LastSeq: 4, Records: 2, RawBytes: 9, SHA256: "ab"},
	}
	var b bytes.Buffer
	b.WriteString(content)
	if err := writeTrailer(&b, o.Metadata); err != nil {
		t.Fatal(err)
	}
	o.CRC32C = crc32.Checksum(b.Bytes(), crc32.MakeTable(crc32.Castagnoli))
	o.Size = int64(b.Len())
	o.Body = bytes.NewReader(b.Bytes())
	return o
}

func TestStores(t *testing.T) {
	t.Run("file", func(t *testing.T) {
		s, err := newFileStore(filepath.Join(t.TempDir(), "deep", "archive"))
		if err != nil {
			t.Fatal(err)
		}
		testStore(t, s)
	})
	t.Run("fake", func(t *testing.T) {
		_, s := newFakeS3(t)
		testStore(t, s)
	})
	t.Run("fake that knows no conditions", func(t *testing.T) {
		f, s := newFakeS3(t)
		f.noConditions = true
		testStoreBasics(t, s) // without them, a race can't be won
	})
	t.Run("fake that knows no CRC-32C", func(t *testing.T) {
		f, s := newFakeS3(t)
		f.noCRC32C = true
		testStore(t, s)
		if s.checksum.Load() != checksumMD5 {
			t.Error("did not fall back to MD5")
		}
	})
	t.Run("MinIO", func(t *testing.T) {
		s := realS3(t)
		testStore(t, s)
		if s.checksum.Load() != checksumCRC32C || s.unconditional.Load() {
			t.Error("MinIO verifies CRC-32C and knows conditions, but the store gave up on one")
		}
		o := unreal(t, "bad", "bytes that change on the way")
		o.CRC32C++
		if err := s.Put(context.Background(), o); err == nil {
			t.Error("a put with the wrong checksum was confirmed")
		}
	})
}

// testStore is what every store must do.
func testStore(t *testing.T, s Store) {
	testStoreBasics(t, s)
	t.Run("one of many racing puts wins", func(t *testing.T) {
		const racers = 16
		var wg sync.WaitGroup
		errs := make([]error, racers)
		objects := make([]*Object, racers)
		for i := range racers {
			objects[i] = unreal(t, "race", fmt.Sprint(i))
		}
		for i := range racers {
			wg.Go(func() {
				for { // a storage may ask a loser to come again
					errs[i] = s.Put(context.Background(), objects[i])
					var storeErr *StoreError
					if !errors.As(errs[i], &storeErr) || storeErr.Permanent {
						return
					}
				}
			})
		}
		wg.Wait()
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
			} else if !errors.Is(err, ErrExists) {
				t.Error(err)
			}
		}
		if won != 1 {
			t.Errorf("%d puts of one key were confirmed", won)
		}
	})
}

func testStoreBasics(t *testing.T, s Store) {
	ctx := context.Background()
	o := unreal(t, "dt=2026-11-23/hour=08/a.ndjson.zst", "content")
	if _, err := s.Stat(ctx, o.Key); !errors.Is(err, ErrNotFound) {
		t.Errorf("stat of nothing: %v", err)
	}
	if _, err := s.Open(ctx, o.Key); !errors.Is(err, ErrNotFound) {
		t.Errorf("open of nothing: %v", err)
	}
	if err := s.Put(ctx, o); err != nil {
		t.Fatal(err)
	}
	other := unreal(t, o.Key, "other content")
	if err := s.Put(ctx, other); !errors.Is(err, ErrExists) {
		t.Errorf("a put over an object: %v", err)
	}
	if m, err := s.Stat(ctx, o.Key); err != nil || m != o.Metadata {
		t.Errorf("stat: %+v, %v", m, err)
	}
	body, err := s.Open(ctx, o.Key)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(body)
	if err != nil || !strings.HasPrefix(string(got), "content") || int64(len(got)) != o.Size {
		t.Errorf("read %q, %v", got, err)
	}
	body.Close()
	if err := s.Put(ctx, unreal(t, "dt=2026-11-23/hour=09/b.ndjson.zst", "b")); err != nil {
		t.Fatal(err)
	}
	for prefix, want := range map[string]int{"": 2, "dt=2026-11-23/hour=09/": 1, "nothing/": 0} {
		var keys []string
		for key, err := range s.List(ctx, prefix) {
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, key)
		}
		if len(keys) != want || want == 2 && !slices.Contains(keys, o.Key) {
			t.Errorf("list %q: %v", prefix, keys)
		}
	}
}

func TestFileStoreKeepsKeysInside(t *testing.T) {
	s, err := newFileStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"../out", "/etc/passwd", "a/../../out", ""} {
		if err := s.Put(context.Background(), unreal(t, key, "x")); err == nil {
			t.Errorf("key %q was taken", key)
		}
	}
}

func TestErrorsOfTheStorageTellWhatToDo(t *testing.T) {
	for code, want := range map[string]struct {
		status    int
		permanent bool
		hint      string
	}{
		"NoSuchBucket":         {404, true, "create the bucket"},
		"AccessDenied":         {403, true, "s3:PutObject"},
		"InvalidAccessKeyId":   {403, true, "credentials_file"},
		"RequestTimeTooSkewed": {403, true, "clocks"},
		"SlowDown":             {503, false, ""},
		"InternalError":        {500, false, ""},
	} {
		f, s := newFakeS3(t)
		f.fault = func(w http.ResponseWriter, _ *http.Request) bool { return s3Error(w, want.status, code) }
		err := s.Put(context.Background(), unreal(t, "a", "x"))
		var storeErr *StoreError
		if !errors.As(err, &storeErr) || storeErr.Permanent != want.permanent || storeErr.Kind != code ||
			!strings.Contains(storeErr.Hint, want.hint) {
			t.Errorf("%s: %+v", code, err)
		}
		if strings.Contains(fmt.Sprint(err), testSecret) {
			t.Error("the error tells the secret")
		}
	}
	_, s := newFakeS3(t)
	s.checksummed, _ = minio.New("127.0.0.1:1", &minio.Options{Region: "us-east-1", MaxRetries: 1, TrailingHeaders: true})
	var storeErr *StoreError
	if err := s.Put(context.Background(), unreal(t, "a", "x")); !errors.As(err, &storeErr) || storeErr.Kind != "network" || storeErr.Permanent {
		t.Errorf("nobody listening: %v", err)
	}
}
