package shipper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"collectord/shipper/s3test"
)

// liars are storages that answer a put with success and do not have the object, or
// can't be known to.
func liars() map[string]struct {
	s3test.Behaviour
	kinds []string // of failures; no other may be counted
	hint  string
} {
	method := func(method string, answer func(w http.ResponseWriter) bool) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool { return r.Method == method && answer(w) }
	}
	all := func(answer func(w http.ResponseWriter) bool) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			io.Copy(io.Discard, r.Body)
			return answer(w)
		}
	}
	text := func(kind, body string) func(w http.ResponseWriter) bool {
		return func(w http.ResponseWriter) bool {
			w.Header().Set("Content-Type", kind)
			io.WriteString(w, body)
			return true
		}
	}
	reflect := func(all bool) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut {
				return false
			}
			io.Copy(io.Discard, r.Body)
			for name, v := range r.Header {
				if all || strings.HasPrefix(name, "X-Amz-") {
					w.Header()[name] = v
				}
			}
			w.Header().Del("Content-Length")
			return true
		}
	}
	noChecksumOfHead := func(_ http.ResponseWriter, r *http.Request) bool {
		r.Header.Del("X-Amz-Checksum-Mode")
		return false
	}
	const foreign = "no S3 storage answers at shipper.s3.endpoint"
	type liar = struct {
		s3test.Behaviour
		kinds []string
		hint  string
	}
	return map[string]liar{
		"a login page for every request": {s3test.Behaviour{Fault: s3test.EveryPage}, []string{notAStore}, foreign},
		"a login page for every put":     {s3test.Behaviour{Lie: s3test.Page}, []string{notAStore}, foreign},
		"a block page, 403":              {s3test.Behaviour{Fault: all(func(w http.ResponseWriter) bool { return s3test.LoginPage(w, http.StatusForbidden) })}, []string{notAStore}, foreign},
		"a page of another server, 404":  {s3test.Behaviour{Fault: all(func(w http.ResponseWriter) bool { return s3test.LoginPage(w, http.StatusNotFound) })}, []string{notAStore}, foreign},
		"a page that refuses, 501":       {s3test.Behaviour{Fault: all(func(w http.ResponseWriter) bool { return s3test.LoginPage(w, http.StatusNotImplemented) })}, []string{notAStore}, foreign},
		"a redirect to a login page": {s3test.Behaviour{Fault: all(func(w http.ResponseWriter) bool {
			w.Header().Set("Location", "http://192.0.2.1/login")
			w.WriteHeader(http.StatusFound)
			return true
		})}, []string{notAStore}, foreign},
		"a page without a type":         {s3test.Behaviour{Fault: all(text("", "\n<!-- welcome --><HTML><body>Log in.</body></HTML>"))}, []string{notAStore}, foreign},
		"a page in XHTML":               {s3test.Behaviour{Fault: all(text("application/xhtml+xml", `<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><body>Log in.</body></html>`))}, []string{notAStore}, foreign},
		"another API":                   {s3test.Behaviour{Fault: all(text("application/json", `{"ok":true}`))}, []string{notAStore}, foreign},
		"200 and nothing at all":        {s3test.Behaviour{Fault: all(func(http.ResponseWriter) bool { return true })}, []string{notAStore}, foreign},
		"the headers of each put":       {s3test.Behaviour{Fault: reflect(true)}, []string{notAStore}, foreign},
		"the headers of S3 of each put": {s3test.Behaviour{Fault: reflect(false)}, []string{notAStore}, foreign},
		"an error of S3 in the body":    {s3test.Behaviour{Lie: s3test.ErrorBody}, []string{"InternalError"}, "with an error in the body"},
		"a storage that keeps nothing":  {s3test.Behaviour{Lie: s3test.KeepsNothing}, []string{unproven}, "keeps nothing"},
		"a wrong checksum":              {s3test.Behaviour{Lie: s3test.WrongChecksum}, []string{"BadDigest", "damaged_copy"}, changedOnTheWay},
		"a wrong checksum, once":        {s3test.Behaviour{Lie: s3test.WrongChecksum, Fault: noChecksumOfHead}, []string{"BadDigest", "damaged_copy"}, changedOnTheWay},
		"a byte changed, no metadata":   {s3test.Behaviour{Lie: s3test.GarblesBare, NoMetadata: true, Fault: noChecksumOfHead}, []string{unproven, "damaged_copy"}, "it is not what was put"},
		"half of it, and no header":     {s3test.Behaviour{Lie: s3test.TruncatesBare}, []string{unproven, "damaged_copy"}, "does not keep objects whole"},
		"half of it, and it says so":    {s3test.Behaviour{Lie: s3test.TruncatesHonestly}, []string{"BadDigest", "damaged_copy"}, changedOnTheWay},
		"half of it, by its ETag alone": {s3test.Behaviour{Lie: s3test.TruncatesHonestly, NoCRC32C: true}, []string{unproven, "damaged_copy"}, "does not keep objects whole"},
		"a page for every look at it": {
			s3test.Behaviour{Lie: s3test.Bare, Fault: method(http.MethodHead, func(w http.ResponseWriter) bool { return s3test.LoginPage(w, http.StatusOK) })},
			[]string{notAStore},
			foreign,
		},
		"404 for every look at it": {
			s3test.Behaviour{Lie: s3test.Bare, Fault: method(http.MethodHead, func(w http.ResponseWriter) bool { return s3test.Error(w, http.StatusNotFound, "NoSuchKey") })},
			[]string{unproven, "contradiction"},
			"keeps nothing",
		},
		"403 for every look at it": {
			s3test.Behaviour{Lie: s3test.Bare, Fault: method(http.MethodHead, func(w http.ResponseWriter) bool { return s3test.Error(w, http.StatusForbidden, "AccessDenied") })},
			[]string{unproven, "AccessDenied"},
			"s3:GetObject",
		},
	}
}

// TestNoLieIsTakenForStored ships to each liar, which is there from the start or
// takes the place of the true storage: nothing is removed, the line says what to
// do, and all of it is shipped, once, as soon as the storage is true.
func TestNoLieIsTakenForStored(t *testing.T) {
	var all sync.WaitGroup // at once, which t.Parallel is not: they wait more than they work
	defer all.Wait()
	for name, liar := range liars() {
		for _, known := range []bool{false, true} {
			when := map[bool]string{false: "from the start", true: "later"}[known]
			all.Go(func() {
				t.Run(name+"/"+when, func(t *testing.T) {
					f, store := newFake(t)
					// What is known of this storage is also known of it later.
					f.Behave(s3test.Behaviour{NoCRC32C: liar.NoCRC32C})
					if known {
						if err := store.findOut(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
					f.Behave(liar.Behaviour)
					l := openLog(t, t.TempDir())
					fill(t, l, 40, 20)
					said := &saidLines{}
					s := startWith(t, l, store, Options{Logger: said.logger(), Limits: Limits{
						RetryMin: time.Millisecond, RetryMax: 2 * time.Millisecond, RetryMaxPermanent: 2 * time.Millisecond,
					}})
					failures := func() (n uint64) {
						for _, c := range s.Stats().Failures {
							n += c
						}
						return n
					}
					until(t, "several attempts failed, or it is called shipped", func() bool { return failures() >= 4 || l.Ledger().Pending == 0 })
					st := s.Stats()
					for kind, n := range st.Failures {
						if n > 0 && !slices.Contains(liar.kinds, kind) {
							t.Errorf("%d failures of kind %s", n, kind)
						}
					}
					if st.Failures[liar.kinds[0]] == 0 || !strings.Contains(said.text(), liar.hint) {
						t.Errorf("failures %v, and the hint is missing: %s", st.Failures, said.text())
					}
					if g := l.Ledger(); g.Shipped != 0 || g.Pending != 40 || st.Objects != 0 || st.Conflicts != 0 {
						t.Errorf("called shipped: %+v, %+v", g, st)
					}
					if !known && store.conditions.Load() != unknownConditions && liar.kinds[0] == notAStore && liar.Lie != s3test.Bare {
						t.Error("something was learned from it")
					}

					f.Behave(s3test.Behaviour{NoCRC32C: liar.NoCRC32C})
					drainHurriedly(t, s)
					checkOnce(t, store, 40)
					objects := 0
					for key := range f.Objects() {
						if strings.HasPrefix(key, "data/dt=") {
							objects++
						}
					}
					if g := l.Ledger(); g.Shipped != 40 || objects != 2 || s.Stats().Conflicts != 0 {
						t.Errorf("%+v, %d objects", g, objects)
					}
					if store.conditions.Load() != withConditions {
						t.Errorf("conditions %d", store.conditions.Load())
					}
				})
			})
		}
	}
}

// TestNothingIsLearnedFromALie asks a liar first what it can do.
func TestNothingIsLearnedFromALie(t *testing.T) {
	var all sync.WaitGroup
	defer all.Wait()
	for name, liar := range liars() {
		if liar.kinds[0] != notAStore && liar.Lie != s3test.KeepsNothing && liar.Lie != s3test.ErrorBody {
			continue // it is a storage, if a bad one
		}
		all.Go(func() {
			t.Run(name, func(t *testing.T) {
				f, s := newFake(t)
				f.Behave(liar.Behaviour)
				err := s.findOut(t.Context())
				if err == nil || s.conditions.Load() != unknownConditions || s.checksum.Load() != checksumCRC32C {
					t.Errorf("conditions %d, checksum %d, %v", s.conditions.Load(), s.checksum.Load(), err)
				}
			})
		})
	}
}

// TestThePageOfARegionIsNotRemembered asks a page where the bucket is.
func TestThePageOfARegionIsNotRemembered(t *testing.T) {
	f, s := newFake(t, func(o *S3Options) { o.Region = "" })
	f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Has("location") {
			io.WriteString(w, `<html>Log-in</html>`)
		}
		return r.URL.Query().Has("location")
	}})
	var storeErr *StoreError
	if err := s.Put(t.Context(), unreal(t, "a", "x")); !errors.As(err, &storeErr) || storeErr.Kind != notAStore {
		t.Errorf("a page for a region: %v", err)
	}
	scope := ""
	f.Behave(s3test.Behaviour{Fault: func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut {
			scope = r.Header.Get("Authorization")
		}
		return false
	}})
	if err := s.Put(t.Context(), unreal(t, "a", "x")); err != nil || !strings.Contains(scope, "/us-east-1/s3/") {
		t.Errorf("%v, signed for %s", err, scope)
	}
}

// TestAFolderIsGivenWholeObjects: what the spool has lost on the way is not stored.
func TestAFolderIsGivenWholeObjects(t *testing.T) {
	dir := t.TempDir()
	s, err := newFileStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	short, changed := unreal(t, "short", "content"), unreal(t, "changed", "content")
	short.Body = strings.NewReader("con")
	changed.Body = strings.NewReader(strings.Repeat("x", int(changed.Size)))
	for _, o := range []*Object{short, changed} {
		var storeErr *StoreError
		if err := s.Put(t.Context(), o); !errors.As(err, &storeErr) || storeErr.Kind != "BadDigest" {
			t.Errorf("%s: %v", o.Key, err)
		}
		if _, err := os.Stat(filepath.Join(dir, o.Key)); err == nil {
			t.Errorf("%s is there", o.Key)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(s.temp(), "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestLossNotesAreProvenToo: a note is the only sign of what is lost.
func TestLossNotesAreProvenToo(t *testing.T) {
	f, store := newFake(t)
	f.Behave(s3test.Behaviour{Lie: s3test.KeepsNothing})
	dir := t.TempDir()
	l := openLog(t, dir)
	fill(t, l, 20, 10)
	files, err := filepath.Glob(filepath.Join(dir, "wal", "00000000000000000001-*", "*"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(files[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	s := startWith(t, l, store, Options{Limits: Limits{RetryMin: time.Millisecond, RetryMax: 2 * time.Millisecond, RetryMaxPermanent: 2 * time.Millisecond}})
	until(t, "there is a note, and attempts failed, or all is called stored", func() bool {
		notes := l.Stats().LossNotes
		return notes > 0 && s.Stats().Failures[unproven] > 10 || notes == 0 && l.Ledger().Pending == 0
	})
	notes, err := l.Losses()
	if err != nil || len(notes) != 1 {
		t.Fatalf("%v, %v: called stored where nothing is kept", notes, err)
	}
	key := "data/" + lossKey(notes[0])
	f.Put(key, []byte(`{"format":1,"reason":"another"}`))
	f.Behave(s3test.Behaviour{})
	until(t, "the name is found to be taken by something else", func() bool { return s.Stats().Failures["conflict"] > 0 })
	if l.Stats().LossNotes != 1 {
		t.Error("called stored where something else has its name")
	}
	f.Put(key, nil)
	drainHurriedly(t, s)
	if got := string(f.Objects()[key].Body); !strings.Contains(got, `"reason":"damaged"`) {
		t.Errorf("the note in the bucket: %s", got)
	}
	// The same note, from before a crash, is fine.
	if err := s.shipLoss(t.Context(), notes[0]); err != nil || f.Puts()[key] != 1 {
		t.Errorf("the note again: %v", err)
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
		"MinIO":     func(t *testing.T) *s3Store { return newBucket(t, startMinIO(t), false) },
		"versitygw": func(t *testing.T) *s3Store { return newBucket(t, startVersity(t), false) },
	} {
		for checksum, most := range map[string]int64{"auto": 1, "md5": 1, "off": 1} {
			t.Run(name+" with checksum "+checksum, func(t *testing.T) {
				direct := endpoint(t)
				through, count := countRequests(t, direct.client.EndpointURL().String())
				s := testS3(t, through, direct.bucket, direct.prefix, func(o *S3Options) { o.Checksum = checksum })
				if err := s.findOut(t.Context()); err != nil {
					t.Fatal(err)
				}
				before := count.Load()
				for i := range 5 {
					if err := s.Put(t.Context(), unreal(t, fmt.Sprintf("dt=2026-11-23/hour=08/%d", i), strings.Repeat("x", 1<<i))); err != nil {
						t.Fatal(err)
					}
				}
				if n := count.Load() - before; n != 5*most {
					t.Errorf("5 objects took %d requests", n)
				}
			})
		}
	}
}

// TestProofOffBelievesAStorageThatGaveTheProbeBack and no other.
func TestProofOffBelievesAStorageThatGaveTheProbeBack(t *testing.T) {
	noHead := func(w http.ResponseWriter, r *http.Request) bool {
		return r.Method == http.MethodHead && s3test.Error(w, http.StatusForbidden, "AccessDenied")
	}
	f, s := newFake(t, func(o *S3Options) { o.Proof = "off" })
	f.Behave(s3test.Behaviour{Lie: s3test.Bare, Fault: noHead})
	if err := s.Put(t.Context(), unreal(t, "a", "x")); err != nil || f.Puts()["data/a"] != 1 {
		t.Errorf("a bare answer of a storage that gave the probe back: %v", err)
	}
	// A page is no answer, and the storage after it is another until it is asked.
	f.Behave(s3test.Behaviour{Lie: s3test.Page})
	var storeErr *StoreError
	if err := s.Put(t.Context(), unreal(t, "b", "x")); !errors.As(err, &storeErr) || storeErr.Kind != notAStore {
		t.Errorf("a page: %v", err)
	}
	f.Put("data/"+probeKey, nil)
	f.Behave(s3test.Behaviour{Lie: s3test.KeepsNothing})
	if err := s.Put(t.Context(), unreal(t, "c", "x")); !errors.As(err, &storeErr) || storeErr.Kind != unproven {
		t.Errorf("a storage that does not give the probe back: %v", err)
	}
	f.Behave(s3test.Behaviour{Lie: s3test.Bare, Fault: func(w http.ResponseWriter, r *http.Request) bool {
		return r.Method != http.MethodPut && s3test.Error(w, http.StatusForbidden, "AccessDenied")
	}})
	if err := s.Put(t.Context(), unreal(t, "d", "x")); !errors.As(err, &storeErr) || storeErr.Kind != unproven || !strings.Contains(err.Error(), "grant s3:GetObject on it") {
		t.Errorf("a probe that may not be read: %v", err)
	}
}

// withoutLength sends the header of an answer to HEAD without Content-Length.
type withoutLength struct{ http.ResponseWriter }

func (w withoutLength) WriteHeader(status int) {
	w.Header().Del("Content-Length")
	w.ResponseWriter.WriteHeader(status)
}

// TestAProxyThatHidesTheSizeIsNoLie: then the object is read.
func TestAProxyThatHidesTheSizeIsNoLie(t *testing.T) {
	for name, behaviour := range map[string]s3test.Behaviour{
		"metadata":    {Lie: s3test.AnyETag, NoCRC32C: true},
		"no metadata": {Lie: s3test.AnyETag, NoCRC32C: true, NoMetadata: true},
	} {
		for _, exists := range []bool{false, true} {
			f, direct := newFake(t)
			f.Behave(behaviour)
			proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodHead {
					w = withoutLength{w}
				}
				f.ServeHTTP(w, r)
			}))
			t.Cleanup(proxy.Close)
			store := testS3(t, proxy.URL, s3test.Bucket, "data/")
			l := openLog(t, t.TempDir())
			fill(t, l, 40, 20)
			if exists { // from before a crash
				segments, _ := l.Sealed()
				c, err := newCompressor(zstd.SpeedDefault)
				if err != nil {
					t.Fatal(err)
				}
				spool := openSpool(t.TempDir(), nil, slog.New(slog.DiscardHandler))
				o, done, err := spool.object(t.Context(), c, segments[0], 0)
				if err != nil {
					t.Fatal(err)
				}
				if err := direct.Put(t.Context(), o); err != nil {
					t.Fatal(err)
				}
				done()
			}
			s := startWith(t, l, store, Options{Limits: Limits{
				RetryMin: time.Millisecond, RetryMax: 2 * time.Millisecond, RetryMaxPermanent: 2 * time.Millisecond,
			}})
			until(t, "all is shipped, or attempts failed", func() bool { return l.Ledger().Pending == 0 || s.Stats().Failures[unproven] > 10 })
			for kind, n := range s.Stats().Failures {
				if n > 0 {
					t.Errorf("%s, exists %v: %d failures of kind %s", name, exists, n, kind)
				}
			}
			checkOnce(t, direct, 40)
		}
	}
}

// TestAListingThatIsNoneIsAnError: an empty bucket is what an audit calls fine.
func TestAListingThatIsNoneIsAnError(t *testing.T) {
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
		var storeErr *StoreError
		if !errors.As(err, &storeErr) {
			t.Errorf("%s: %v", name, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if report, err := Audit(ctx, s, AuditOptions{}); err == nil {
			t.Errorf("%s: an audit found %d objects and nothing wrong: %v", name, report.Objects, report.Wrong())
		}
		cancel()
	}
}
