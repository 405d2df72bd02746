package shipper

import (
	"context"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"collectord/shipper/audit"
	"collectord/shipper/bucket"
	"collectord/shipper/bucket/s3test"
	"collectord/wal"
)

// fillLarge appends n records that do not compress, each of about size bytes.
func fillLarge(t *testing.T, l *wal.Log, n, size int) {
	t.Helper()
	for i := range n {
		if err := l.Append(context.Background(), largeRecord(i, size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Seal(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// largeRecord returns a record of about size bytes that does not compress.
func largeRecord(i, size int) wal.Record {
	x := make([]byte, size*3/4)
	_, _ = rand.NewChaCha8([32]byte{byte(i)}).Read(x)
	rec := wal.Record{Usage: fmt.Appendf(nil, `{"n":%d,"x":%q}`, i, base64.StdEncoding.EncodeToString(x))}
	if i%3 == 0 {
		rec.Client = "clinic"
	}
	return rec
}

func TestASegmentThatIsTooLargeIsShippedInPieces(t *testing.T) {
	t.Parallel()
	for name, refuse := range s3test.Refusals() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, store := newFake(t)
			const limit = 100 << 10
			f.Behave(s3test.Behaviour{Fault: refuse.Above(s3test.Limit(limit))})
			l := openLog(t, t.TempDir())
			fillLarge(t, l, 20, 20<<10)
			var logged logBuffer
			s := startWith(t, l, store, Options{Logger: logged.logger(), Limits: Limits{RetryMin: time.Hour, RetryMax: time.Hour, RetryMaxPermanent: time.Hour}})
			until(t, "all records are shipped", func() bool { return l.Ledger().Pending == 0 })
			drain(t, s, 0)
			checkStoredOnce(t, store, 20)
			for key, o := range f.Objects() {
				if len(o.Body) > limit {
					t.Errorf("%s has %d bytes", key, len(o.Body))
				}
			}
			checkAudit(t, store)
			if st := s.Stats(); st.Failures[bucket.TooLarge] != 7 || st.Objects != 8 || len(f.Puts()) != 9 { // 20 = 10 + 10 = 4 * 5 = 4 * (2 + 3)
				t.Errorf("%+v, %d puts", st, len(f.Puts()))
			}
			if n := strings.Count(logged.text(), "trouble=too_large"); n != 7 || strings.Count(logged.text(), "\n") != n || !strings.Contains(logged.text(), "client_max_body_size") {
				t.Errorf("the log:\n%s", logged.text())
			}
			if l.Stats().LossNotes > 0 {
				t.Error("a loss was noted")
			}
		})
	}
}

func checkAudit(t *testing.T, store bucket.Store) {
	t.Helper()
	report, err := audit.Run(context.Background(), store, audit.Options{Deep: true, FromStart: true})
	if err != nil || report.Wrong() {
		t.Errorf("audit: %+v, %v", report, err)
	}
}

// A frame is a single request, and its records are stored in a single object.
func TestAFrameThatIsTooLargeDoesNotDelayOthers(t *testing.T) {
	t.Parallel()
	f, store := newFake(t)
	limit := s3test.Limit(90 << 10)
	f.Behave(s3test.Behaviour{Fault: s3test.Refusals()["nginx"].Above(limit)})
	l := openLog(t, t.TempDir())
	fillLarge(t, l, 1, 200<<10)
	var logged logBuffer
	s := startWith(t, l, store, Options{Logger: logged.logger(), Limits: Limits{RetryMin: time.Millisecond, RetryMax: time.Millisecond, RetryMaxPermanent: time.Millisecond}})
	until(t, "several attempts were refused", func() bool { return s.Stats().Failures[bucket.TooLarge] > 3 })
	for i := 1; i < 4; i++ {
		if err := l.Append(context.Background(), wal.Record{Usage: fmt.Appendf(nil, `{"n":%d}`, i)}); err != nil {
			t.Fatal(err)
		}
		if err := l.Seal(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the other records are shipped", func() bool { return l.Ledger().Pending == 1 })
	if text := logged.text(); !strings.Contains(text, "trouble=segment") || !strings.Contains(text, "its segment is a single commit") || strings.Contains(text, "trouble=too_large") {
		t.Errorf("the log:\n%s", text)
	}
	limit.Store(1 << 20)
	drainAll(t, s)
	if got := storedLines(t, store); len(got) != 4 {
		t.Errorf("got %d records, want 4", len(got))
	}
	checkAudit(t, store)
}

func TestASegmentIsSplitDownToOneFrame(t *testing.T) {
	t.Parallel()
	f, store := newFake(t)
	f.Behave(s3test.Behaviour{Fault: s3test.Refusals()["no body"].Above(s3test.Limit(3 << 10))})
	l := openLog(t, t.TempDir())
	fillLarge(t, l, 20, 2<<10)
	s := startWith(t, l, store, Options{Limits: Limits{RetryMin: time.Hour, RetryMax: time.Hour, RetryMaxPermanent: time.Hour}})
	until(t, "all records are shipped", func() bool { return l.Ledger().Pending == 0 })
	drain(t, s, 0)
	if n := s.Stats().Objects; n != 20 {
		t.Errorf("got %d objects, want 20", n)
	}
	checkStoredOnce(t, store, 20)
	checkAudit(t, store)
}

// A storage that refuses every put has no size limit, so splitting would be useless.
func TestSmallSegmentsAreNotSplitWhileAllPutsAreRejected(t *testing.T) {
	t.Parallel()
	f, store := newFake(t)
	probeStore(t, store)
	limit := s3test.Limit(0)
	f.Behave(s3test.Behaviour{Fault: s3test.Refusals()["no body"].Above(limit)})
	l := openLog(t, t.TempDir())
	fillLarge(t, l, 100, 2<<10)
	s := startWith(t, l, store, Options{Limits: Limits{RetryMin: time.Millisecond, RetryMax: time.Millisecond, RetryMaxPermanent: time.Millisecond}})
	until(t, "many attempts were refused", func() bool { return s.Stats().Failures[bucket.TooLarge] > 50 })
	if segments, _ := l.Sealed(); len(segments) != 4 {
		t.Errorf("200 KiB were split into %d segments, want 4", len(segments))
	}
	limit.Store(1 << 20)
	drainAll(t, s)
	checkStoredOnce(t, store, 100)
}

// The storage has stored the whole object without an answer when its limit is lowered.
func TestASegmentThatIsStoredIsNotSplit(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		restart, beside, noMetadata bool
	}{
		"the answer was lost": {}, "by an earlier process": {restart: true}, "beside other content": {beside: true},
		"without its metadata": {noMetadata: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, store := newFake(t)
			dir := t.TempDir()
			l := openLog(t, dir)
			fillLarge(t, l, 8, 20<<10)
			if key := keyOfSealed(t, l, 0); c.beside {
				f.Put("data/"+key, []byte("something else"))
			}
			limit, refuse := s3test.Limit(1<<20), s3test.Refusals()["nginx"]
			f.Behave(s3test.Behaviour{
				NoMetadata: c.noMetadata, Fault: refuse.Above(limit),
				Stored: func(key string) bool {
					if strings.Contains(key, "dt=") {
						limit.Store(100 << 10)
					}
					return strings.Contains(key, "dt=")
				},
			})
			o := Options{Limits: Limits{RetryMin: time.Millisecond, RetryMax: time.Millisecond, RetryMaxPermanent: time.Millisecond}}
			if c.restart {
				ctx, cancel := context.WithCancel(context.Background())
				o := o
				o.SpoolDir = t.TempDir()
				s, err := New(l, store, o)
				if err != nil {
					t.Fatal(err)
				}
				go s.Run(ctx)
				until(t, "the object is stored", func() bool { return len(f.Objects()) > 1 })
				cancel()
				until(t, "the shipper has ended", func() bool { return s.lastTurn.Load() == nil })
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				l = openLog(t, dir)
			}
			s := startWith(t, l, store, o)
			drainAll(t, s)
			if c.beside {
				f.Put("data/"+keyWithBody(t, f, "something else"), nil)
			}
			checkStoredOnce(t, store, 8)
			if !c.beside { // the audit would report the other content
				checkAudit(t, store)
			}
		})
	}
}

func keyWithBody(t *testing.T, f *s3test.Server, body string) string {
	t.Helper()
	for key, o := range f.Objects() {
		if string(o.Body) == body {
			return strings.TrimPrefix(key, "data/")
		}
	}
	t.Fatal("no such object")
	return ""
}

// Without read permission, it is unknown whether the whole object is stored.
func TestASegmentIsNotSplitWithoutReadPermission(t *testing.T) {
	t.Parallel()
	f, store := newFake(t)
	refuse := s3test.Refusals()["S3"].Above(s3test.Limit(100 << 10))
	var mayRead atomic.Bool
	f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut && !mayRead.Load() {
			return s3test.Error(w, http.StatusForbidden, "AccessDenied")
		}
		return refuse(w, r)
	}})
	l := openLog(t, t.TempDir())
	fillLarge(t, l, 8, 20<<10)
	var logged logBuffer
	s := startWith(t, l, store, Options{Logger: logged.logger(), Limits: Limits{RetryMin: time.Millisecond, RetryMax: time.Millisecond, RetryMaxPermanent: time.Millisecond}})
	until(t, "several attempts were refused", func() bool { return s.Stats().Failures[bucket.TooLarge] > 3 })
	if segments, _ := l.Sealed(); len(segments) != 1 || !strings.Contains(logged.text(), "grant s3:GetObject and s3:ListBucket") {
		t.Errorf("%d segments; the log:\n%s", len(segments), logged.text())
	}
	mayRead.Store(true)
	drainAll(t, s)
	checkStoredOnce(t, store, 8)
	checkAudit(t, store)
}

func TestADamagedCopyThatIsTooLargeToReplaceKeepsTheSegment(t *testing.T) {
	t.Parallel()
	f, store := newFake(t)
	probeStore(t, store)
	l := openLog(t, t.TempDir())
	fillLarge(t, l, 8, 20<<10)
	segments, _ := l.Sealed()
	o := compressCopy(t, segments[0])
	if err := store.Put(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	body := f.Objects()["data/"+o.Key].Body
	body = append([]byte(nil), body...)
	body[len(body)/2] ^= 1
	f.Put("data/"+o.Key, body)
	f.Behave(s3test.Behaviour{Fault: s3test.Refusals()["nginx"].Above(s3test.Limit(100 << 10))})
	var logged logBuffer
	s := startWith(t, l, store, Options{Logger: logged.logger(), Limits: Limits{RetryMin: time.Millisecond, RetryMax: time.Millisecond, RetryMaxPermanent: time.Millisecond}})
	until(t, "several attempts were refused", func() bool { return s.Stats().Failures[bucket.TooLarge] > 3 })
	if segments, _ := l.Sealed(); len(segments) != 1 || !strings.Contains(logged.text(), "delete that copy") {
		t.Errorf("%d segments; the log:\n%s", len(segments), logged.text())
	}
	f.Put("data/"+o.Key, nil)
	drainAll(t, s)
	checkStoredOnce(t, store, 8)
}

// Readers ignore bytes after the last record, but a split accepts only intact segments.
func TestADamagedSegmentThatIsTooLargeIsSalvagedFirst(t *testing.T) {
	t.Parallel()
	f, store := newFake(t)
	f.Behave(s3test.Behaviour{Fault: s3test.Refusals()["nginx"].Above(s3test.Limit(100 << 10))})
	dir := t.TempDir()
	l := openLog(t, dir)
	fillLarge(t, l, 8, 20<<10)
	segments, _ := l.Sealed()
	path := filepath.Join(dir, "wal", segments[0].String(), fmt.Sprintf("%020d", 1))
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString("something"); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	s := startWith(t, l, store, Options{Limits: Limits{RetryMin: time.Hour, RetryMax: time.Hour, RetryMaxPermanent: time.Hour}})
	until(t, "all records are shipped", func() bool { return l.Ledger().Pending == 0 })
	drain(t, s, 0)
	checkStoredOnce(t, store, 8)
	checkAudit(t, store)
	if st := s.Stats(); st.Salvaged != 1 {
		t.Errorf("%+v", st)
	}
}
