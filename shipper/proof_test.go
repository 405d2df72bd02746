package shipper

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"collectord/shipper/bucket"
	"collectord/shipper/bucket/s3test"
)

// TestNoFalseSuccessCountsAsStored ships to each liar. The storage lies from the start, or after
// it has worked truthfully. No segment is removed, and the log line has the hint. Once the
// storage tells the truth, each segment is shipped once.
func TestNoFalseSuccessCountsAsStored(t *testing.T) {
	var all sync.WaitGroup // all at once, since they mostly wait; t.Parallel runs only a few
	defer all.Wait()
	for name, liar := range s3test.Liars() {
		for _, known := range []bool{false, true} {
			when := map[bool]string{false: "from the start", true: "later"}[known]
			all.Go(func() {
				t.Run(name+"/"+when, func(t *testing.T) {
					f, store := newFake(t)
					// The capabilities that the probe found stay valid.
					f.Behave(s3test.Behaviour{NoCRC32C: liar.NoCRC32C})
					if known {
						probeStore(t, store)
					}
					f.Behave(liar.Behaviour)
					l := openLog(t, t.TempDir())
					fill(t, l, 40, 20)
					segments, _ := l.Sealed() // a change of the hour makes one more
					logged := &logBuffer{}
					s := startWith(t, l, store, Options{Logger: logged.logger(), Limits: Limits{
						RetryMin: time.Millisecond, RetryMax: 2 * time.Millisecond, RetryMaxPermanent: 2 * time.Millisecond,
					}})
					failures := func() (n uint64) {
						for _, c := range s.Stats().Failures {
							n += c
						}
						return n
					}
					until(t, "some attempts have failed, or the records count as shipped", func() bool { return failures() >= 4 || l.Ledger().Pending == 0 })
					st := s.Stats()
					for kind, n := range st.Failures {
						if n > 0 && !slices.Contains(liar.Kinds, kind) {
							t.Errorf("%d failures of kind %s", n, kind)
						}
					}
					if st.Failures[liar.Kinds[0]] == 0 || !strings.Contains(logged.text(), liar.Hint) {
						t.Errorf("failures %v, and the hint was not logged: %s", st.Failures, logged.text())
					}
					if g := l.Ledger(); g.Shipped != 0 || g.Pending != 40 || st.Objects != 0 || st.Conflicts != 0 {
						t.Errorf("records count as shipped: %+v, %+v", g, st)
					}

					f.Behave(s3test.Behaviour{NoCRC32C: liar.NoCRC32C})
					drainAll(t, s)
					objects := 0
					for key, o := range f.Objects() {
						if !strings.HasPrefix(key, "data/dt=") {
							continue
						}
						if objects++; o.Header.Get("If-None-Match") != "*" && s.Stats().Failures[kindDamaged] == 0 {
							t.Errorf("%s was put without a condition", key)
						}
						// Without metadata, a damaged object can't be identified, so the segment
						// is stored beside it.
						if plain, _, beside := strings.Cut(key, "~"); beside && liar.NoMetadata {
							f.Put(plain+bucket.Suffix, nil)
							objects--
						}
					}
					checkStoredOnce(t, store, 40)
					if g := l.Ledger(); g.Shipped != 40 || objects != len(segments) || s.Stats().Conflicts != 0 {
						t.Errorf("%+v, %d objects", g, objects)
					}
				})
			})
		}
	}
}

// TestLossNotesAreProvenToo: a note is the only trace of lost records.
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
	until(t, "there is a note and some attempts have failed, or all notes count as stored", func() bool {
		notes := l.Stats().LossNotes
		return notes > 0 && s.Stats().Failures[bucket.Unproven] > 10 || notes == 0 && l.Ledger().Pending == 0
	})
	notes, err := l.Losses()
	if err != nil || len(notes) != 1 {
		t.Fatalf("%v, %v: the note counts as stored, but the storage kept nothing", notes, err)
	}
	key := "data/" + lossKey(notes[0]).LossKey()
	f.Put(key, []byte(`{"format":1,"reason":"another"}`))
	f.Behave(s3test.Behaviour{})
	until(t, "the key of the note is taken by other content", func() bool { return s.Stats().Failures["conflict"] > 0 })
	if l.Stats().LossNotes != 1 {
		t.Error("the note counts as stored, but other content has its key")
	}
	f.Put(key, nil)
	drainAll(t, s)
	if got := string(f.Objects()[key].Body); !strings.Contains(got, `"reason":"damaged"`) {
		t.Errorf("the stored note is %s", got)
	}
	// After a crash, the same note may already be stored.
	if err := s.shipLoss(t.Context(), notes[0]); err != nil || f.Puts()[key] != 1 {
		t.Errorf("the note was not accepted again: %v", err)
	}
}

// withoutLength removes Content-Length from the header of an answer.
type withoutLength struct{ http.ResponseWriter }

func (w withoutLength) WriteHeader(status int) {
	w.Header().Del("Content-Length")
	w.ResponseWriter.WriteHeader(status)
}

// TestAProxyThatHidesTheSizeIsAccepted: without a size, the object is read back.
func TestAProxyThatHidesTheSizeIsAccepted(t *testing.T) {
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
			store := testS3(t, proxy.URL, s3test.Bucket+"/data")
			l := openLog(t, t.TempDir())
			fill(t, l, 40, 20)
			if exists { // an earlier attempt stored it before a crash
				segments, _ := l.Sealed()
				c, err := newCompressor(zstd.SpeedDefault)
				if err != nil {
					t.Fatal(err)
				}
				spool := openSpool(t.TempDir(), nil, slog.New(slog.DiscardHandler))
				o, done, err := spool.compress(t.Context(), c, segments[0])
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
			until(t, "all records are shipped, or some attempts have failed", func() bool { return l.Ledger().Pending == 0 || s.Stats().Failures[bucket.Unproven] > 10 })
			for kind, n := range s.Stats().Failures {
				if n > 0 {
					t.Errorf("%s, exists %v: %d failures of kind %s", name, exists, n, kind)
				}
			}
			checkStoredOnce(t, direct, 40)
		}
	}
}
