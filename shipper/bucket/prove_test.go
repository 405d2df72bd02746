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

// TestProbeLearnsNothingFromFalseAnswers probes servers that are no storage.
func TestProbeLearnsNothingFromFalseAnswers(t *testing.T) {
	var all sync.WaitGroup
	defer all.Wait()
	for name, liar := range s3test.Liars() {
		if liar.Kinds[0] != NotAStore && liar.Lie != s3test.KeepsNothing && liar.Lie != s3test.ErrorBody {
			continue // a storage, although a faulty one
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

// TestAPageInPlaceOfARegionIsNotCached answers the request for the region with a page.
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
		t.Errorf("a page in place of the region: %v", err)
	}
	scope := ""
	f.Behave(s3test.Behaviour{Fault: func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut {
			scope = r.Header.Get("Authorization")
		}
		return false
	}})
	if err := s.Put(t.Context(), testObject("a", "x")); err != nil || !strings.Contains(scope, "/us-east-1/s3/") {
		t.Errorf("%v, signed with scope %s", err, scope)
	}
}

// TestBytesChangedInTheSpoolAreDetected: a checksum of the changed bytes would match the bytes
// and the storage's answer.
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

// TestFolderRejectsChangedOrShortObjects: the spool's disk may change or lose bytes.
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
			t.Errorf("%s was stored", o.Key)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(s.tempDir(), "*")); len(left) > 0 {
		t.Errorf("temporary files are left: %v", left)
	}
}

// countRequests starts a proxy that counts requests.
func countRequests(t *testing.T, endpoint string) (through string, count *atomic.Int64) {
	t.Helper()
	to, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	count = &atomic.Int64{}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host // the signature covers Host
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		count.Add(1)
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL, count
}

// TestProofCostsNoRequest has storages whose answer to the put is a proof.
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

// TestProofOffNeedsOneReadOfTheProbe: only after this read is a bare 200 trusted.
func TestProofOffNeedsOneReadOfTheProbe(t *testing.T) {
	noHead := func(w http.ResponseWriter, r *http.Request) bool {
		return r.Method == http.MethodHead && s3test.Error(w, http.StatusForbidden, "AccessDenied")
	}
	f, s := newFake(t, func(o *S3Options) { o.Proof = "off" })
	f.Behave(s3test.Behaviour{Lie: s3test.Bare, Fault: noHead})
	if err := s.Put(t.Context(), testObject("a", "x")); err != nil || f.Puts()["data/a"] != 1 {
		t.Errorf("a bare 200, after the probe was read back: %v", err)
	}
	// After a page, the storage is probed again.
	f.Behave(s3test.Behaviour{Lie: s3test.Page})
	var storeErr *Error
	if err := s.Put(t.Context(), testObject("b", "x")); !errors.As(err, &storeErr) || storeErr.Kind != NotAStore {
		t.Errorf("a page: %v", err)
	}
	f.Put("data/"+probeKey, nil)
	f.Behave(s3test.Behaviour{Lie: s3test.KeepsNothing})
	if err := s.Put(t.Context(), testObject("c", "x")); !errors.As(err, &storeErr) || storeErr.Kind != Unproven {
		t.Errorf("a storage that does not return the probe: %v", err)
	}
	f.Behave(s3test.Behaviour{Lie: s3test.Bare, Fault: func(w http.ResponseWriter, r *http.Request) bool {
		return r.Method != http.MethodPut && s3test.Error(w, http.StatusForbidden, "AccessDenied")
	}})
	if err := s.Put(t.Context(), testObject("d", "x")); !errors.As(err, &storeErr) || storeErr.Kind != Unproven || !strings.Contains(err.Error(), "grant s3:GetObject on it") {
		t.Errorf("a probe that can't be read: %v", err)
	}
}

// TestAnAnswerThatIsNoListingIsAnError: an audit would otherwise take the answer for an empty
// bucket.
func TestAnAnswerThatIsNoListingIsAnError(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(w http.ResponseWriter){
		"a login page":    func(w http.ResponseWriter) { s3test.LoginPage(w, http.StatusOK) },
		"a page as XHTML": func(w http.ResponseWriter) { io.WriteString(w, `<html><body></body></html>`) },
		"an error":        func(w http.ResponseWriter) { s3test.Error(w, http.StatusOK, "InternalError") },
		"another document": func(w http.ResponseWriter) {
			io.WriteString(w, `<?xml version="1.0"?><ListAllMyBucketsResult></ListAllMyBucketsResult>`)
		},
		"an empty body": func(http.ResponseWriter) {},
		"half of a page of keys": func(w http.ResponseWriter) {
			io.WriteString(w, `<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>data/a</Key>`)
		},
		"truncated without a token": func(w http.ResponseWriter) {
			io.WriteString(w, `<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>`)
		},
		"keys outside of the prefix": func(w http.ResponseWriter) {
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
