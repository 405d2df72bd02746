package bucket

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"collectord/shipper/bucket/s3test"
)

// TestProbeLearnsNothingFromFalseAnswers asks a liar first what it can do.
func TestProbeLearnsNothingFromFalseAnswers(t *testing.T) {
	var all sync.WaitGroup
	defer all.Wait()
	for name, liar := range s3test.Liars() {
		if liar.Kinds[0] != NotAStore && liar.Lie != s3test.KeepsNothing && liar.Lie != s3test.ErrorBody {
			continue // it is a storage, if a bad one
		}
		all.Go(func() {
			t.Run(name, func(t *testing.T) {
				f, s := newFake(t)
				f.Behave(liar.Behaviour)
				if err := s.Probe(t.Context()); err == nil || s.current.Load() != nil || s.Capabilities() != (Capabilities{}) {
					t.Errorf("%+v, %v", s.Capabilities(), err)
				}
			})
		})
	}
}

// TestAPageInPlaceOfARegionIsNotCached asks a page where the bucket is.
func TestAPageInPlaceOfARegionIsNotCached(t *testing.T) {
	f, s := newFake(t, func(o *S3Options) { o.Region = "" })
	f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Has("location") {
			io.WriteString(w, `<html>Log-in</html>`)
		}
		return r.URL.Query().Has("location")
	}})
	var storeErr *Error
	if err := s.Put(t.Context(), testObject("a", "x")); !errors.As(err, &storeErr) || storeErr.Kind != NotAStore {
		t.Errorf("a page for a region: %v", err)
	}
	scope := ""
	f.Behave(s3test.Behaviour{Fault: func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut {
			scope = r.Header.Get("Authorization")
		}
		return false
	}})
	if err := s.Put(t.Context(), testObject("a", "x")); err != nil || !strings.Contains(scope, "/us-east-1/s3/") {
		t.Errorf("%v, signed for %s", err, scope)
	}
}

// TestBytesChangedInTheSpoolAreDetected: one of the changed bytes would be right for
// them, and so would the storage's answer.
func TestBytesChangedInTheSpoolAreDetected(t *testing.T) {
	for _, checksum := range []string{"auto", "crc32c", "md5", "sha256", "off"} {
		t.Run(checksum, func(t *testing.T) {
			_, s := newFake(t, func(o *S3Options) { o.Checksum = checksum })
			o := testObject("changed", "content")
			o.Body = strings.NewReader(strings.Repeat("x", int(o.Size)))
			var storeErr *Error
			if err := s.Put(t.Context(), o); !errors.As(err, &storeErr) || storeErr.Kind != "BadDigest" {
				t.Error(err)
			}
		})
	}
}

// TestFolderRejectsChangedOrShortObjects: what the spool has lost on the way is not stored.
func TestFolderRejectsChangedOrShortObjects(t *testing.T) {
	dir := t.TempDir()
	s, err := newFolder(dir, testOwner)
	if err != nil {
		t.Fatal(err)
	}
	short, changed := testObject("short", "content"), testObject("changed", "content")
	short.Body = strings.NewReader("con")
	changed.Body = strings.NewReader(strings.Repeat("x", int(changed.Size)))
	for _, o := range []*Object{short, changed} {
		var storeErr *Error
		if err := s.Put(t.Context(), o); !errors.As(err, &storeErr) || storeErr.Kind != "BadDigest" {
			t.Errorf("%s: %v", o.Key, err)
		}
		if _, err := os.Stat(filepath.Join(dir, o.Key)); err == nil {
			t.Errorf("%s is there", o.Key)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(s.tempDir(), "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// countRequests stands between a store and a server.
func countRequests(t *testing.T, endpoint string) (through string, count *atomic.Int64) {
	t.Helper()
	to, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	count = &atomic.Int64{}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host // which is signed
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		count.Add(1)
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL, count
}

// TestProofCostsNoRequest: where the answer is a proof, an object is one request.
func TestProofCostsNoRequest(t *testing.T) {
	t.Parallel()
	for name, endpoint := range map[string]func(*testing.T) *s3Store{
		"fake":      func(t *testing.T) *s3Store { _, s := newFake(t); return s },
		"MinIO":     func(t *testing.T) *s3Store { return newBucket(t, s3test.MinIO(t), false) },
		"versitygw": func(t *testing.T) *s3Store { return newBucket(t, s3test.Versity(t), false) },
	} {
		for checksum, maxRequests := range map[string]int64{"auto": 1, "md5": 1, "off": 1} {
			t.Run(name+" with checksum "+checksum, func(t *testing.T) {
				direct := endpoint(t)
				through, count := countRequests(t, direct.client.EndpointURL().String())
				s := testS3(t, through, direct.bucket, direct.prefix, func(o *S3Options) { o.Checksum = checksum })
				if err := s.Probe(t.Context()); err != nil {
					t.Fatal(err)
				}
				before := count.Load()
				for i := range 5 {
					if err := s.Put(t.Context(), testObject(fmt.Sprintf("dt=2026-11-23/hour=08/%d", i), strings.Repeat("x", 1<<i))); err != nil {
						t.Fatal(err)
					}
				}
				if n := count.Load() - before; n != 5*maxRequests {
					t.Errorf("5 objects took %d requests", n)
				}
			})
		}
	}
}

// TestProofOffNeedsOneReadOfTheProbe and no other.
func TestProofOffNeedsOneReadOfTheProbe(t *testing.T) {
	noHead := func(w http.ResponseWriter, r *http.Request) bool {
		return r.Method == http.MethodHead && s3test.Error(w, http.StatusForbidden, "AccessDenied")
	}
	f, s := newFake(t, func(o *S3Options) { o.Proof = "off" })
	f.Behave(s3test.Behaviour{Lie: s3test.Bare, Fault: noHead})
	if err := s.Put(t.Context(), testObject("a", "x")); err != nil || f.Puts()["data/a"] != 1 {
		t.Errorf("a bare answer of a storage that gave the probe back: %v", err)
	}
	// A page is no answer, and the storage after it is another until it is asked.
	f.Behave(s3test.Behaviour{Lie: s3test.Page})
	var storeErr *Error
	if err := s.Put(t.Context(), testObject("b", "x")); !errors.As(err, &storeErr) || storeErr.Kind != NotAStore {
		t.Errorf("a page: %v", err)
	}
	f.Put("data/"+probeKey, nil)
	f.Behave(s3test.Behaviour{Lie: s3test.KeepsNothing})
	if err := s.Put(t.Context(), testObject("c", "x")); !errors.As(err, &storeErr) || storeErr.Kind != Unproven {
		t.Errorf("a storage that does not give the probe back: %v", err)
	}
	f.Behave(s3test.Behaviour{Lie: s3test.Bare, Fault: func(w http.ResponseWriter, r *http.Request) bool {
		return r.Method != http.MethodPut && s3test.Error(w, http.StatusForbidden, "AccessDenied")
	}})
	if err := s.Put(t.Context(), testObject("d", "x")); !errors.As(err, &storeErr) || storeErr.Kind != Unproven || !strings.Contains(err.Error(), "grant s3:GetObject on it") {
		t.Errorf("a probe that may not be read: %v", err)
	}
}

// TestAnAnswerThatIsNoListingIsAnError: an empty bucket is what an audit calls fine.
func TestAnAnswerThatIsNoListingIsAnError(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(w http.ResponseWriter){
		"a login page":     func(w http.ResponseWriter) { s3test.LoginPage(w, http.StatusOK) },
		"a page, by XHTML": func(w http.ResponseWriter) { io.WriteString(w, `<html><body></body></html>`) },
		"an error":         func(w http.ResponseWriter) { s3test.Error(w, http.StatusOK, "InternalError") },
		"another document": func(w http.ResponseWriter) {
			io.WriteString(w, `<?xml version="1.0"?><ListAllMyBucketsResult></ListAllMyBucketsResult>`)
		},
		"nothing": func(http.ResponseWriter) {},
		"half of a page": func(w http.ResponseWriter) {
			io.WriteString(w, `<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>data/a</Key>`)
		},
		"more without a token": func(w http.ResponseWriter) {
			io.WriteString(w, `<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>`)
		},
		"keys of others": func(w http.ResponseWriter) {
			io.WriteString(w, `<ListBucketResult><Contents><Key>x</Key><LastModified>2026-11-23T08:00:00Z</LastModified></Contents></ListBucketResult>`)
		},
	} {
		f, s := newFake(t)
		f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, _ *http.Request) bool { fault(w); return true }})
		var err error
		for _, err = range s.List(t.Context(), "dt=") {
		}
		var storeErr *Error
		if !errors.As(err, &storeErr) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
