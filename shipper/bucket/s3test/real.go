package s3test

import (
	"context"
	"errors"
	"fmt"
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
	"github.com/minio/minio-go/v7/pkg/credentials"

	"collectord/collectord/testrun"
)

// Credentials of the real storages.
const (
	User   = "collectord-test"
	Secret = "collectord-test-secret"
)

// real is the process of a real storage. All tests of a package share one of each kind.
type real struct {
	once     sync.Once
	endpoint string
	err      error
	cmd      *exec.Cmd
	ended    chan struct{}
	dir      string
}

var minioServer, versityServer real

// onDisk is a directory for the data of real storages, for which tmpfs is not sufficient.
var onDisk = os.TempDir()

// Main runs the tests of a package, for its TestMain, and stops the storages they started.
// It moves the temporary files of tests into memory if possible, since no test is about
// the disk and each would wait for it.
func Main(m *testing.M) (status int) {
	const memory = "/dev/shm"
	if f, err := os.CreateTemp(memory, "collectord-"); err == nil {
		f.Close()
		os.Remove(f.Name())
		if os.Getenv("TMPDIR") == "" {
			os.Setenv("TMPDIR", memory)
		}
	}
	testrun.LimitParallel()
	status = testrun.Run(m.Run)
	for _, s := range []*real{&minioServer, &versityServer} {
		if s.cmd != nil && s.cmd.Process != nil {
			s.cmd.Process.Kill()
			<-s.ended
			os.RemoveAll(s.dir)
		}
	}
	return status
}

// Tool returns the path where make tools installs a program. Without the program the test
// fails, or is skipped with ALLOW_MISSING=1.
func Tool(t testing.TB, variable, name string) string {
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

// start runs the server once. It replaces ADDR and DIR in args.
func (s *real) start(t testing.TB, binary, health string, env []string, args ...string) string {
	t.Helper()
	s.once.Do(func() { s.err = s.run(binary, health, env, args) })
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.endpoint
}

// run starts the server on a free port. If the server exits, run tries another port, since
// another process may have bound the first one meanwhile.
func (s *real) run(binary, health string, env, args []string) (err error) {
	if s.dir, err = os.MkdirTemp(onDisk, "collectord-s3-"); err != nil {
		return err
	}
	for range 5 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		addr := ln.Addr().String()
		ln.Close()
		s.cmd, s.ended = exec.Command(binary), make(chan struct{})
		for _, a := range args {
			s.cmd.Args = append(s.cmd.Args, strings.NewReplacer("ADDR", addr, "DIR", s.dir).Replace(a))
		}
		s.cmd.Env = append(os.Environ(), env...)
		if err := s.cmd.Start(); err != nil {
			return err
		}
		go func() { _ = s.cmd.Wait(); close(s.ended) }()
		s.endpoint = "http://" + addr
		if s.ready(health) {
			return nil
		}
	}
	return errors.New(binary + " does not become ready")
}

// testLimit is how long a test waits for an event. It is much longer than a busy machine
// needs.
const testLimit = 2 * time.Minute

// ready waits until the server is ready, and returns false if it exits or the limit
// passes.
func (s *real) ready(health string) bool {
	for deadline := time.Now().Add(testLimit); time.Now().Before(deadline); {
		resp, err := http.Get(s.endpoint + health)
		if err == nil {
			resp.Body.Close()
		}
		select {
		case <-s.ended:
			return false
		case <-time.After(20 * time.Millisecond):
		}
		if err == nil && resp.StatusCode == http.StatusOK {
			return true
		}
	}
	return false
}

// MinIO starts MinIO and returns its endpoint.
func MinIO(t testing.TB) (endpoint string) {
	t.Helper()
	return minioServer.start(t, Tool(t, "TEST_MINIO", "minio"), "/minio/health/ready", []string{
		"MINIO_ROOT_USER=" + User, "MINIO_ROOT_PASSWORD=" + Secret, "MINIO_BROWSER=off", "MINIO_UPDATE=off",
		"MINIO_KMS_SECRET_KEY=a-key:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
	}, "server", "--quiet", "--address", "ADDR", "DIR")
}

// Versity starts versitygw and returns its endpoint.
func Versity(t testing.TB) (endpoint string) {
	t.Helper()
	return versityServer.start(t, Tool(t, "TEST_VERSITYGW", "versitygw"), "/health", []string{
		"ROOT_ACCESS_KEY=" + User, "ROOT_SECRET_KEY=" + Secret,
	}, "--port", "ADDR", "--health", "/health", "posix", "DIR")
}

// Client returns a client that accesses a real storage independently of the code under
// test.
func Client(t testing.TB, endpoint string) *minio.Client {
	t.Helper()
	c, err := minio.New(strings.TrimPrefix(endpoint, "http://"), &minio.Options{
		Creds: credentials.NewStaticV4(User, Secret, ""), Region: "us-east-1", BucketLookup: minio.BucketLookupPath,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var buckets struct {
	sync.Mutex
	n int
}

// MakeBucket creates a new bucket on a real storage, with or without object lock.
func MakeBucket(t testing.TB, endpoint string, lock bool) (name string) {
	t.Helper()
	buckets.Lock()
	buckets.n++
	name = fmt.Sprintf("bucket-%d", buckets.n)
	buckets.Unlock()
	// A server may report that it is ready before it serves every call.
	ctx, c := context.Background(), Client(t, endpoint)
	var err error
	for deadline := time.Now().Add(testLimit); time.Now().Before(deadline); <-time.After(20 * time.Millisecond) {
		err = c.MakeBucket(ctx, name, minio.MakeBucketOptions{ObjectLocking: lock})
		if err == nil || minio.ToErrorResponse(err).Code == minio.BucketAlreadyOwnedByYou {
			err = nil
			for o := range c.ListObjectsIter(ctx, name, minio.ListObjectsOptions{Recursive: true}) {
				err = o.Err
			}
		}
		if err == nil {
			return name
		}
	}
	t.Fatal(err)
	return ""
}

// KeysFile writes a new credentials file and returns its path.
func KeysFile(t testing.TB, key, secret, token string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "credentials")
	WriteKeys(t, path, key, secret, token)
	return path
}

// WriteKeys writes credentials in the format of the AWS command line.
func WriteKeys(t testing.TB, path, key, secret, token string) {
	t.Helper()
	text := fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", key, secret)
	if token != "" {
		text += "aws_session_token = " + token + "\n"
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
