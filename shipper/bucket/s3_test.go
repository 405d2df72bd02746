package bucket

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"collectord/shipper/bucket/s3test"
)

func TestStorageErrorsHaveHints(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]struct {
		status    int
		permanent bool
		hint      string
	}{
		"NoSuchBucket":                 {404, true, "create the bucket"},
		"AccessDenied":                 {403, true, "s3:PutObject"},
		"InvalidAccessKeyId":           {403, true, "the access key or its secret is wrong"},
		"SignatureDoesNotMatch":        {403, true, "the access key or its secret is wrong"},
		"ExpiredToken":                 {400, false, "have expired"},
		"RequestTimeTooSkewed":         {403, true, "clocks"},
		"AuthorizationHeaderMalformed": {400, true, "shipper.s3.region"},
		"PermanentRedirect":            {301, true, "shipper.s3.region"},
		"InvalidStorageClass":          {400, true, "shipper.s3.storage_class"},
		"KMS.DisabledException":        {400, true, "shipper.s3.sse"},
		"MethodNotAllowed":             {405, true, "shipper.s3.endpoint"},
		"SlowDown":                     {503, false, ""},
		"InternalError":                {500, false, ""},
		"ServiceUnavailable":           {503, false, ""},
		"TooManyRequests":              {429, false, ""},
		"RequestTimeout":               {400, false, ""},
		"IncompleteBody":               {400, false, ""},
		"ConditionalRequestConflict":   {409, false, ""},
		"OperationAborted":             {409, false, ""},
	} {
		t.Run(code, func(t *testing.T) {
			f, s := newFake(t)
			f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, _ *http.Request) bool { return s3test.Error(w, want.status, code) }})
			kind := code
			if strings.Contains(code, ".") {
				kind = fmt.Sprint("http_", want.status)
			}
			err := s.Put(context.Background(), testObject("a", "x"))
			var storeErr *Error
			if !errors.As(err, &storeErr) || storeErr.Permanent != want.permanent || storeErr.Kind != kind ||
				!strings.Contains(storeErr.Hint, want.hint) || storeErr.ThisObjectOnly {
				t.Errorf("%+v", err)
			}
			if strings.Contains(fmt.Sprint(err), s3test.Secret) {
				t.Error("the error contains the secret")
			}
		})
	}
}

func TestNetworkErrorsHaveHints(t *testing.T) {
	t.Parallel()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	secure.Config.ErrorLog = log.New(t.Output(), "", 0)
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	otherCA := filepath.Join(t.TempDir(), "ca.pem")
	// The CA is trusted, but its certificate is only for example.com and 127.0.0.1.
	writePEM(t, otherCA, secure.Certificate().Raw)
	_, port, _ := strings.Cut(strings.TrimPrefix(secure.URL, "https://"), ":")
	for name, c := range map[string]struct {
		endpoint, ca, kind, hint string
		permanent                bool
	}{
		"nothing listens":                {"http://127.0.0.1:1", "", "network", "nothing listens at 127.0.0.1:1", false},
		"an untrusted certificate":       {secure.URL, "", "tls", "shipper.s3.ca_file", true},
		"a certificate for another name": {"https://localhost:" + port, otherCA, "tls", "shipper.s3.ca_file", true},
		"TLS to a server without it":     {"https://" + strings.TrimPrefix(plain.URL, "http://"), "", "tls", "http://", true},
		"a server that is not S3":        {plain.URL, "", "not_a_store", "shipper.s3.endpoint", true},
		"a trusted certificate, not S3":  {secure.URL, otherCA, "not_a_store", "shipper.s3.endpoint", true},
	} {
		t.Run(name, func(t *testing.T) {
			s := testS3(t, c.endpoint, "bucket", "", func(o *S3Options) { o.CAFile = c.ca })
			err := s.Put(context.Background(), testObject("a", "x"))
			var storeErr *Error
			if !errors.As(err, &storeErr) || storeErr.Kind != c.kind || storeErr.Permanent != c.permanent || !strings.Contains(storeErr.Hint, c.hint) {
				t.Errorf("%+v", err)
			}
		})
	}
}

// TestEachErrorHasAHint has errors that end by themselves, too: an operator asks what to do.
func TestEachErrorHasAHint(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup // all at once, since they mostly wait; t.Parallel runs only a few
	for _, status := range []int{400, 401, 403, 404, 408, 409, 411, 412, 413, 416, 418, 425, 429, 500, 501, 502, 503, 504, 507, 599} {
		f, s := newFake(t)
		all.Go(func() {
			for _, code := range []string{"", "InternalError", "SlowDown", "RequestTimeout", "IncompleteBody", "OperationAborted", "ServiceUnavailable", "NobodyKnowsThis"} {
				f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, _ *http.Request) bool { return s3test.Error(w, status, code) }})
				var failure *Error
				if err := s.Put(t.Context(), testObject("a", "x")); errors.As(err, &failure) && failure.Hint == "" {
					t.Errorf("%d %s: %+v", status, code, failure)
				}
			}
		})
	}
	all.Wait()
	_, s := newFake(t)
	for _, err := range []error{
		&stallError{time.Minute}, &trickleError{1, time.Minute}, context.DeadlineExceeded, io.ErrUnexpectedEOF,
		&net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH}, &net.OpError{Op: "read", Err: syscall.ECONNRESET}, &net.OpError{Op: "dial", Err: syscall.ENETUNREACH},
	} {
		var failure *Error
		if !errors.As(s.fail("put", "a", &CallOptions{}, &url.Error{Op: "Put", URL: "http://a/", Err: err}), &failure) || failure.Hint == "" {
			t.Errorf("%+v", failure)
		}
	}
}

func TestANameThatCannotBeResolvedIsTransient(t *testing.T) {
	_, s := newFake(t)
	err := s.fail("put", "a", &CallOptions{}, &url.Error{Op: "Put", URL: "http://a/", Err: &net.DNSError{Err: "no such host", Name: "a", IsNotFound: true}})
	var storeErr *Error
	if !errors.As(err, &storeErr) || storeErr.Kind != "dns" || storeErr.Permanent || !strings.Contains(storeErr.Hint, "shipper.s3.endpoint") {
		t.Errorf("%+v", err)
	}
}

func writePEM(t *testing.T, path string, certificate []byte) {
	t.Helper()
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestObjectsGoOverTLSWithAConfiguredCA(t *testing.T) {
	f, _ := newFake(t)
	secure := httptest.NewTLSServer(f)
	t.Cleanup(secure.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	writePEM(t, ca, secure.Certificate().Raw)
	text, err := os.ReadFile(ca)
	if err == nil {
		err = os.WriteFile(ca, append([]byte("\ufeff"), text...), 0o600) // as programs on Windows write it
	}
	if err != nil {
		t.Fatal(err)
	}
	s := testS3(t, secure.URL, s3test.Bucket, "", func(o *S3Options) { o.CAFile = ca })
	testStoreBasics(t, s, true)
}

func TestObjectsAreEncryptedAndClassedAsConfigured(t *testing.T) {
	for sse, want := range map[string][2]string{"": {}, "s3": {"AES256"}, "kms": {"aws:kms"}, "kms:a-key": {"aws:kms", "a-key"}} {
		f, s := newFake(t, func(o *S3Options) { o.SSE, o.StorageClass = sse, "STANDARD_IA" })
		if err := s.Put(context.Background(), testObject("a", "x")); err != nil {
			t.Fatal(err)
		}
		h := f.Objects()["data/a"].Header
		got := [2]string{h.Get("X-Amz-Server-Side-Encryption"), h.Get("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id")}
		if got != want || h.Get("X-Amz-Storage-Class") != "STANDARD_IA" {
			t.Errorf("sse %q sends %q and class %q", sse, got, h.Get("X-Amz-Storage-Class"))
		}
		if sse == "kms" {
			continue // MinIO requires the name of a key
		}
		real := newBucket(t, s3test.MinIO(t), false, func(o *S3Options) { o.SSE = sse })
		if err := real.Put(context.Background(), testObject("a", "x")); err != nil {
			t.Fatalf("sse %q: %v", sse, err)
		}
		info, err := real.client.StatObject(context.Background(), real.bucket, real.prefix+"a", minio.StatObjectOptions{})
		if got := info.Metadata.Get("X-Amz-Server-Side-Encryption"); err != nil || got != want[0] {
			t.Errorf("sse %q: MinIO returns encryption %q, %v", sse, got, err)
		}
	}
	if _, err := newS3Store("bucket", "", S3Options{SSE: "kms:"}); err == nil {
		t.Error("kms: without a key was accepted")
	}
}

func TestABucketWithObjectLockAcceptsObjects(t *testing.T) {
	for _, checksum := range []string{"auto", "md5"} {
		s := newBucket(t, s3test.MinIO(t), true, func(o *S3Options) { o.Checksum = checksum })
		mode, days, unit := minio.Governance, uint(1), minio.Days
		if err := s.client.SetBucketObjectLockConfig(context.Background(), s.bucket, &mode, &days, &unit); err != nil {
			t.Fatal(err)
		}
		testStoreBasics(t, s, true)
		kept, until, err := s.client.GetObjectRetention(context.Background(), s.bucket, s.prefix+"dt=2026-11-23/hour=08/a.ndjson.zst", "")
		if err != nil || *kept != mode || time.Until(*until) < 20*time.Hour {
			t.Errorf("the object is not locked: %v", err)
		}
	}
}

func TestKeysAreReadAgainWhenTheFileChanges(t *testing.T) {
	f, s := newFake(t)
	used, revoked := "", "revoked"
	f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
		_, rest, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
		used, _, _ = strings.Cut(rest, "/")
		return used == revoked && s3test.Error(w, http.StatusForbidden, "InvalidAccessKeyId")
	}})
	file := s.provider.file
	put := func(key string) error { return s.Put(context.Background(), testObject(key, "x")) }
	if err := put("a"); err != nil || used != s3test.User {
		t.Fatalf("%v with %q", err, used)
	}
	s3test.WriteKeys(t, file, "revoked", "x", "")
	if err := put("b"); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("revoked keys: %v", err)
	}
	// An incomplete file, as an editor may leave for a moment, does not replace the keys.
	s3test.WriteKeys(t, file, "second", "a-secret", "")
	if err := put("c"); err != nil || used != "second" {
		t.Errorf("%v with %q", err, used)
	}
	if err := os.WriteFile(file, []byte("[default]\naws_access_key_id = thi"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := put("d"); err != nil || used != "second" {
		t.Errorf("%v with %q", err, used)
	}
	revoked = "second"
	if err := put("e"); err == nil || !strings.Contains(err.Error(), file+", from which no new keys can be read (a key and its secret are needed") {
		t.Errorf("revoked keys, and a file without new ones: %v", err)
	}
	s3test.WriteKeys(t, file, "third", "a-secret", "")
	if err := put("f"); err != nil || used != "third" {
		t.Errorf("%v with %q", err, used)
	}
}

func TestKeysComeFromTheFirstSourceThatHasThem(t *testing.T) {
	for _, name := range []string{
		"CREDENTIALS_DIRECTORY", "AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_SESSION_TOKEN",
		"AWS_SHARED_CREDENTIALS_FILE", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
	} {
		t.Setenv(name, "")
	}
	var requests []string
	expires := time.Now().Add(time.Hour)
	imds := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests = append(requests, r.Method+" "+r.URL.Path)
		switch {
		case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token" && r.Header.Get("X-aws-ec2-metadata-token-ttl-seconds") != "":
			fmt.Fprint(w, "a-token")
		case r.Header.Get("X-aws-ec2-metadata-token") != "a-token":
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/latest/meta-data/iam/security-credentials/":
			fmt.Fprint(w, "a-role")
		case r.URL.Path == "/latest/meta-data/iam/security-credentials/a-role":
			fmt.Fprintf(w, `{"Code":"Success","AccessKeyId":"role-key","SecretAccessKey":"s","Token":"session","Expiration":%q}`, expires.UTC().Format(time.RFC3339))
		}
	}))
	t.Cleanup(imds.Close)
	f, _ := newFake(t)
	used, token := "", ""
	f.Behave(s3test.Behaviour{Fault: func(_ http.ResponseWriter, r *http.Request) bool {
		_, rest, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
		used, _, _ = strings.Cut(rest, "/")
		token = r.Header.Get("X-Amz-Security-Token")
		return false
	}})
	n := 0
	try := func(file, want string) {
		t.Helper()
		n++
		s := testS3(t, f.URL, s3test.Bucket, "", func(o *S3Options) { o.CredentialsFile = file })
		if err := s.Put(context.Background(), testObject(fmt.Sprint(n), "x")); err != nil || used != want {
			t.Errorf("%v with key %q, want %q", err, used, want)
		}
	}
	// Without keys, only the metadata service of the instance is asked.
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1")
	s := testS3(t, f.URL, s3test.Bucket, "", func(o *S3Options) { o.CredentialsFile = "" })
	var storeErr *Error
	if err := s.Put(context.Background(), testObject("0", "x")); !errors.As(err, &storeErr) || storeErr.Kind != "credentials" || !storeErr.Permanent {
		t.Errorf("no credentials: %v", err)
	}
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds.URL+"/")
	try("", "role-key")
	if token != "session" || len(requests) != 3 {
		t.Errorf("session token %q, requests to the instance: %q", token, requests)
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", s3test.KeysFile(t, "shared-key", "s", ""))
	try("", "shared-key")
	t.Setenv("AWS_ACCESS_KEY_ID", "environment-key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s")
	try("", "environment-key")
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	try("", "environment-key")
	s3test.WriteKeys(t, filepath.Join(dir, "s3-credentials"), "systemd-key", "s", "")
	try("", "systemd-key")
	try(s3test.KeysFile(t, "file-key", "s", ""), "file-key")
	// A missing configured file is an error.
	s = testS3(t, f.URL, s3test.Bucket, "", func(o *S3Options) { o.CredentialsFile = "/no/such/file" })
	if err := s.Put(context.Background(), testObject("x", "x")); !errors.As(err, &storeErr) || storeErr.Kind != "credentials" || !strings.Contains(err.Error(), "/no/such/file") {
		t.Errorf("a missing file: %v", err)
	}
}
