package shipper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"collectord/collectord/testrun"
	"collectord/shipper/s3test"
)

const testUser, testSecret = "collectord-test", "collectord-test-secret"

// testS3 is a store for a bucket at endpoint.
func testS3(t *testing.T, endpoint, bucket, prefix string, change ...func(*S3Options)) *s3Store {
	t.Helper()
	o := S3Options{
		Endpoint: endpoint, Region: "us-east-1", PathStyle: "on", CredentialsFile: keysFile(t, testUser, testSecret, ""),
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

func keysFile(t *testing.T, key, secret, token string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "credentials")
	writeKeys(t, path, key, secret, token)
	return path
}

func writeKeys(t *testing.T, path, key, secret, token string) {
	t.Helper()
	text := fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", key, secret)
	if token != "" {
		text += "aws_session_token = " + token + "\n"
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
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

// tool is where make tools puts a program.
func tool(t *testing.T, variable, name string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		if cache, err := os.UserCacheDir(); err == nil {
			path = filepath.Join(cache, "collectord-tools", "bin", name)
		}
	}
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("ALLOW_MISSING") == "1" {
			t.Skipf("no %s at %s, and ALLOW_MISSING=1 is set", name, path)
		}
		t.Fatalf("no %s at %s: run make tools, or set ALLOW_MISSING=1 to go without this proof", name, path)
	}
	return path
}

// realServer is a real storage. One of each kind serves all tests.
type realServer struct {
	once     sync.Once
	endpoint string
	err      error
	cmd      *exec.Cmd
	dir      string
}

var minioServer, versityServer realServer

// onDisk is for what tmpfs is not good enough for.
var onDisk = os.TempDir()

// TestMain puts what tests write into memory where it can: none of them is about
// the disk, and all of them wait for it.
func TestMain(m *testing.M) {
	const memory = "/dev/shm"
	if f, err := os.CreateTemp(memory, "collectord-"); err == nil {
		f.Close()
		os.Remove(f.Name())
		if os.Getenv("TMPDIR") == "" {
			os.Setenv("TMPDIR", memory)
		}
	}
	testrun.ManyAtOnce()
	status := testrun.Run(m.Run)
	for _, s := range []*realServer{&minioServer, &versityServer} {
		if s.cmd != nil && s.cmd.Process != nil {
			s.cmd.Process.Kill()
			s.cmd.Wait()
			os.RemoveAll(s.dir)
		}
	}
	os.Exit(status)
}

// start runs the server, once. In args, ADDR and DIR are replaced.
func (s *realServer) start(t *testing.T, binary, health string, env []string, args ...string) string {
	t.Helper()
	s.once.Do(func() {
		var ln net.Listener
		if ln, s.err = net.Listen("tcp", "127.0.0.1:0"); s.err != nil {
			return
		}
		addr := ln.Addr().String()
		ln.Close()
		if s.dir, s.err = os.MkdirTemp(onDisk, "collectord-s3-"); s.err != nil {
			return
		}
		for i := range args {
			args[i] = strings.NewReplacer("ADDR", addr, "DIR", s.dir).Replace(args[i])
		}
		s.cmd = exec.Command(binary, args...)
		s.cmd.Env = append(os.Environ(), env...)
		if s.err = s.cmd.Start(); s.err != nil {
			return
		}
		s.endpoint = "http://" + addr
		for deadline := time.Now().Add(30 * time.Second); ; <-time.After(20 * time.Millisecond) {
			resp, err := http.Get(s.endpoint + health)
			if err == nil {
				resp.Body.Close()
				if resp.StatusCode == http.StatusOK {
					return
				}
			}
			if time.Now().After(deadline) {
				s.err = errors.New(binary + " does not become ready")
				return
			}
		}
	})
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.endpoint
}

func startMinIO(t *testing.T) (endpoint string) {
	t.Helper()
	return minioServer.start(t, tool(t, "TEST_MINIO", "minio"), "/minio/health/ready", []string{
		"MINIO_ROOT_USER=" + testUser, "MINIO_ROOT_PASSWORD=" + testSecret, "MINIO_BROWSER=off", "MINIO_UPDATE=off",
		"MINIO_KMS_SECRET_KEY=a-key:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
	}, "server", "--quiet", "--address", "ADDR", "DIR")
}

func startVersity(t *testing.T) (endpoint string) {
	t.Helper()
	return versityServer.start(t, tool(t, "TEST_VERSITYGW", "versitygw"), "/health", []string{
		"ROOT_ACCESS_KEY=" + testUser, "ROOT_SECRET_KEY=" + testSecret,
	}, "--port", "ADDR", "--health", "/health", "posix", "DIR")
}

var buckets = struct {
	sync.Mutex
	n int
}{}

// newBucket makes a bucket of its own on a real server.
func newBucket(t *testing.T, endpoint string, lock bool, change ...func(*S3Options)) *s3Store {
	t.Helper()
	buckets.Lock()
	buckets.n++
	name := fmt.Sprintf("bucket-%d", buckets.n)
	buckets.Unlock()
	s := testS3(t, endpoint, name, "some/prefix/", change...)
	// A server says that it is ready a moment before it serves every call.
	ctx := context.Background()
	var err error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); <-time.After(20 * time.Millisecond) {
		err = s.client.MakeBucket(ctx, s.bucket, minio.MakeBucketOptions{ObjectLocking: lock})
		if err == nil || minio.ToErrorResponse(err).Code == minio.BucketAlreadyOwnedByYou {
			err = nil
			for _, listErr := range s.List(ctx, "") {
				err = listErr
			}
		}
		if err == nil {
			return s
		}
	}
	t.Fatal(err)
	return nil
}
