package bucket

import (
	"bufio"
	"errors"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"collectord/shipper/bucket/s3test"
)

// TestHintsForRecordedAnswers replays each file of testdata/answers: recorded answers of
// S3Mock 4.11.0, s3proxy 3.1.0 and Swift 2.30.1 (s3api).
func TestHintsForRecordedAnswers(t *testing.T) {
	t.Parallel()
	type request = *http.Request
	all := func(request) bool { return true }
	having := func(header string) func(request) bool {
		return func(r request) bool { return r.Header.Get(header) != "" }
	}
	inClass, encrypted := having("X-Amz-Storage-Class"), having("X-Amz-Server-Side-Encryption")
	class := func(o *S3Options) { o.StorageClass = "NOSUCH" }
	encrypt := func(o *S3Options) { o.SSE = "s3" }
	const (
		noBucket     = "create the bucket bucket, or correct shipper.destination"
		wrongKeys    = "the access key or its secret is wrong"
		noClass      = "the storage does not know this shipper.s3.storage_class"
		noEncryption = "the storage can't encrypt as shipper.s3.sse requests: it has no encryption"
	)
	cases := map[string]struct {
		change     func(*S3Options)
		answers    func(request) bool // selects the requests with this answer
		kind, hint string
	}{
		"s3mock-bucket":  {nil, all, "NoSuchBucket", noBucket},
		"s3proxy-bucket": {nil, all, "NoSuchBucket", noBucket},
		"swift-bucket":   {nil, all, "NoSuchBucket", noBucket},
		"s3proxy-key":    {nil, all, "InvalidAccessKeyId", wrongKeys},
		"s3proxy-secret": {nil, all, "SignatureDoesNotMatch", wrongKeys},
		"swift-key":      {nil, all, "SignatureDoesNotMatch", wrongKeys},
		"swift-secret":   {nil, all, "SignatureDoesNotMatch", wrongKeys},
		"s3proxy-token": {
			func(o *S3Options) { o.CredentialsFile = s3test.KeysFile(t, s3test.User, s3test.Secret, "stale") }, having("X-Amz-Security-Token"),
			"NotImplemented", "the storage knows no session tokens: remove aws_session_token",
		},
		"s3mock-region": {
			func(o *S3Options) { o.Region = "" }, func(r request) bool { return r.URL.Query().Has("location") },
			"NoSuchKey", "set shipper.s3.region",
		},
		"swift-region": {
			func(o *S3Options) { o.Region = "eu-central-7" }, func(r request) bool { return strings.Contains(r.Header.Get("Authorization"), "eu-central-7") },
			"AuthorizationHeaderMalformed", "correct shipper.s3.region or shipper.s3.endpoint; the storage names us-east-1",
		},
		"s3mock-class":       {class, inClass, "http_400", noClass}, // a server that is not S3 may answer this, too
		"s3proxy-class":      {class, inClass, "http_400", noClass}, // without a body
		"swift-class":        {class, inClass, "InvalidStorageClass", noClass},
		"s3proxy-encryption": {encrypt, encrypted, "NotImplemented", noEncryption},
		"swift-encryption":   {encrypt, encrypted, "NotImplemented", noEncryption},
		"s3mock-kms-key":     {func(o *S3Options) { o.SSE = "kms:nokey" }, encrypted, "http_400", "its KMS does not know this key"},
	}
	files, err := filepath.Glob("testdata/answers/*.http")
	if err != nil || len(files) != len(cases) {
		t.Fatalf("%d files, %d cases: %v", len(files), len(cases), err)
	}
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		c := cases[name]
		f, s := newFake(t, func(o *S3Options) {
			if c.change != nil {
				c.change(o)
			}
		})
		f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
			return c.answers(r) && replay(t, w, r, name)
		}})
		var e *Error
		if err := s.Put(t.Context(), testObject("a", "x")); !errors.As(err, &e) || e.Kind != c.kind || !e.Permanent || e.ThisObjectOnly || !strings.Contains(e.Hint, c.hint) {
			t.Errorf("%s: %+v", name, err)
		}
	}
}

// replay sends a recorded answer. It returns true, so that a Fault can return its result.
func replay(t *testing.T, w http.ResponseWriter, r *http.Request, name string) bool {
	f, err := os.Open("testdata/answers/" + name + ".http")
	if err != nil {
		t.Error(err)
		return false
	}
	defer f.Close()
	resp, err := http.ReadResponse(bufio.NewReader(f), r)
	if err != nil {
		t.Error(name, err)
		return false
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, r.Body)
	maps.Copy(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	if _, err := io.Copy(w, resp.Body); err != nil {
		t.Error(name, err)
	}
	return true
}
