package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"collectord/shipper/bucket"
)

// recordingStore records the listed prefixes and opened keys, and can interrupt listings
// and bodies.
type recordingStore struct {
	bucket.Store
	mu             sync.Mutex // guards opened and broken
	listed, opened []string
	failAfter      int // keys of each first listing; 0: never
	breakAfter     int // bytes of each object's first body; 0: never
	broken         map[string]bool
	root           string
	firstLine      int // the first line of each object ends before this byte
}

func (w *recordingStore) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	w.listed = append(w.listed, prefix)
	if w.failAfter == 0 || w.broken[prefix] {
		return w.Store.List(ctx, prefix)
	}
	w.broken[prefix] = true
	return func(yield func(string, error) bool) {
		n := 0
		for key, err := range w.Store.List(ctx, prefix) {
			if n++; n > w.failAfter {
				yield("", &bucket.Error{Op: "list", Kind: "network", Err: io.ErrUnexpectedEOF})
				return
			}
			if !yield(key, err) {
				return
			}
		}
	}
}

func (w *recordingStore) Open(ctx context.Context, key string) (io.ReadCloser, bucket.Stored, error) {
	body, stored, err := w.Store.Open(ctx, key)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.opened = append(w.opened, key)
	if err != nil || w.breakAfter == 0 || w.broken[key] {
		return body, stored, err
	}
	w.broken[key] = true
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(body, int64(w.breakAfter)), brokenReader{}), body}, stored, nil
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) {
	return 0, &bucket.Error{Op: "open", Kind: "network", Err: io.ErrUnexpectedEOF}
}

// newArchive makes a folder of objects: for each hour one of each of two nodes, with two
// records.
func newArchive(t *testing.T, hours ...time.Time) (*recordingStore, []string) {
	t.Helper()
	root := t.TempDir()
	w := &recordingStore{root: root, Store: openStore(t, bucket.Destination{URL: "file://" + root}), broken: map[string]bool{}}
	var all []string
	seq := uint64(1)
	for _, hour := range hours {
		for i, node := range []string{"edge-1", "edge-2"} {
			var object bytes.Buffer
			enc, err := zstd.NewWriter(&object)
			if err != nil {
				t.Fatal(err)
			}
			for m := range 2 {
				at := hour.Add(time.Duration(m) * 30 * time.Minute)
				id := bucket.ID{6: 0x70, 8: 0x80, 14: byte(i), 15: byte(seq) + byte(m)}
				millis := uint64(at.UnixMilli())
				for b := range 6 {
					id[b] = byte(millis >> (40 - 8*b))
				}
				line, err := new(bucket.LineEncoder).Append(nil, &bucket.Record{ID: id, ReceivedAt: at.UnixMicro(), Via: "http", Client: `a",usage":`, Usage: fmt.Appendf(nil, `{"at":"%s %s","usage":{}}`, node, at.Format("02T15:04"))})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := enc.Write(line); err != nil {
					t.Fatal(err)
				}
				if err := enc.Flush(); err != nil { // one zstd block per line
					t.Fatal(err)
				}
				all = append(all, string(line))
				if m == 0 {
					w.firstLine = max(w.firstLine, object.Len())
				}
			}
			k := bucket.Key{Node: node, LogID: uint64(i + 1), Run: 9, FirstSeq: seq, LastSeq: seq + 1, Hour: bucket.HourOf(hour)}
			path := filepath.Join(root, k.String())
			if err := errors.Join(enc.Close(), os.MkdirAll(filepath.Dir(path), 0o750), os.WriteFile(path, object.Bytes(), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		seq += 2
	}
	return w, all
}

func selectRecords(t *testing.T, s Selection, store bucket.Store) (usages []string, lines []string) {
	t.Helper()
	err := s.Records(context.Background(), store, func(int) {}, func(some []byte) error {
		for line := range bytes.Lines(some) {
			lines = append(lines, string(line))
			usages = append(usages, string(bucket.Line(line).Usage()))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return usages, lines
}

func TestSelectionReadsOnlyTheHoursItNeeds(t *testing.T) {
	day := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	hours := []time.Time{day.Add(-240 * time.Hour), day, day.Add(time.Hour), day.Add(2 * time.Hour), day.Add(30 * time.Hour)}
	store, all := newArchive(t, hours...)
	if _, lines := selectRecords(t, Selection{}, store); !slices.Equal(lines, all) {
		t.Errorf("without a filter: %q", lines)
	}
	store = &recordingStore{root: store.root, Store: store.Store}
	got, _ := selectRecords(t, Selection{From: day.Add(30 * time.Minute), To: day.Add(2*time.Hour + time.Microsecond), Node: "edge-2"}, store)
	want := []string{`{"at":"edge-2 23T00:30","usage":{}}`, `{"at":"edge-2 23T01:00","usage":{}}`, `{"at":"edge-2 23T01:30","usage":{}}`, `{"at":"edge-2 23T02:00","usage":{}}`}
	if !slices.Equal(got, want) {
		t.Errorf("some hours of a node: %q", got)
	}
	if len(store.opened) != 3 || !slices.Equal(store.listed, []string{"dt=2026-11-23/hour=00/", "dt=2026-11-23/hour=01/", "dt=2026-11-23/hour=02/"}) {
		t.Errorf("listed %v, opened %v", store.listed, store.opened)
	}
	store = &recordingStore{root: store.root, Store: store.Store}
	if got, _ := selectRecords(t, Selection{From: day.Add(-time.Hour), To: day.Add(50 * time.Hour)}, store); len(got) != 16 ||
		!slices.Equal(store.listed, []string{"dt=2026-11-22/", "dt=2026-11-23/", "dt=2026-11-24/", "dt=2026-11-25/"}) {
		t.Errorf("%d records of four days, listed %v", len(got), store.listed)
	}
	store = &recordingStore{root: store.root, Store: store.Store}
	if got, _ := selectRecords(t, Selection{To: day}, store); len(got) != 4 || len(store.opened) != 2 {
		t.Errorf("%d records before the day, opened %v", len(got), store.opened)
	}
}

func TestAnIDIsSearchedInTheHoursOfItsTime(t *testing.T) {
	day := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	store, all := newArchive(t, day, day.Add(5*time.Hour), day.Add(6*time.Hour), day.Add(9*time.Hour))
	id, ok := bucket.Line(all[6]).ID()
	if !ok {
		t.Fatal(all[6])
	}
	if _, lines := selectRecords(t, Selection{IDs: []bucket.ID{id}}, store); !slices.Equal(lines, all[6:7]) ||
		!slices.Equal(store.listed, []string{"dt=2026-11-23/hour=04/", "dt=2026-11-23/hour=05/"}) {
		t.Errorf("found %q, listed %v", lines, store.listed)
	}
	none := func([]byte) error { return nil }
	id[15]++
	err := Selection{IDs: []bucket.ID{id}}.Records(context.Background(), store, func(int) {}, none)
	if !errors.Is(err, ErrNoSuchID) || !strings.Contains(err.Error(), id.String()) || !strings.Contains(err.Error(), "dt=2026-11-23/hour=06") {
		t.Errorf("a missing id: %v", err)
	}
	id[6] = 0x80 // version 8, which contains no time
	store = &recordingStore{root: store.root, Store: store.Store}
	err = Selection{IDs: []bucket.ID{id}}.Records(context.Background(), store, func(int) {}, none)
	if !errors.Is(err, ErrNoSuchID) || len(store.opened) != 8 {
		t.Errorf("an id without a time: %v, opened %v", err, store.opened)
	}
}

func TestReadingResumesAfterAnInterruption(t *testing.T) {
	t.Parallel()
	day := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	store, all := newArchive(t, day, day.Add(5*time.Hour))
	store.breakAfter = store.firstLine + 3
	if _, lines := selectRecords(t, Selection{}, store); !slices.Equal(lines, all) || len(store.opened) != 8 {
		t.Errorf("%q, opened %v", lines, store.opened)
	}
	for n := 1; n < 5; n++ {
		store = &recordingStore{root: store.root, Store: store.Store, failAfter: n, broken: map[string]bool{}}
		if _, lines := selectRecords(t, Selection{}, store); !slices.Equal(lines, all) {
			t.Errorf("after a listing that broke after %d keys: %q", n, lines)
		}
	}
}

func TestRecentIDsForgetsOnlyTheOldest(t *testing.T) {
	const capacity = 3000
	s := NewRecentIDs(capacity)
	ids := make([]bucket.ID, 10*capacity)
	for i := range ids {
		ids[i] = bucket.ID{0: 1, 6: 0x70, 14: byte(i >> 8), 15: byte(i)}
		if i%2 == 1 {
			for b := range ids[i] {
				ids[i][b] = byte(rand.Uint32())
			}
			ids[i][12], ids[i][13], ids[i][14] = 1, byte(i>>8), byte(i)
		}
	}
	for i, id := range ids {
		if !s.Add(id) {
			t.Fatalf("id %d is not new", i)
		}
		if back := ids[max(0, i-capacity+1)]; s.Add(back) || s.Add(id) {
			t.Fatalf("at %d, the id %d before counts as new", i, min(i, capacity-1))
		}
	}
	if !s.HasForgotten() || !s.Add(ids[0]) {
		t.Error("the oldest id was not forgotten")
	}
	if got := len(s.current.slots) + len(s.previous.slots); got > 8*capacity {
		t.Errorf("%d slots for %d ids", got, capacity)
	}
}

func TestADamagedObjectDoesNotStopReading(t *testing.T) {
	day := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	store, all := newArchive(t, day, day.Add(time.Hour))
	root := store.root
	objects, _ := filepath.Glob(filepath.Join(root, "dt=*", "*", "edge-1*"))
	for _, o := range objects {
		if err := os.WriteFile(o, []byte("of somebody else"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var lines []string
	err := Selection{}.Records(context.Background(), store, func(int) {}, func(some []byte) error {
		for line := range bytes.Lines(some) {
			lines = append(lines, string(line))
		}
		return nil
	})
	var damaged *DamagedError
	if !errors.As(err, &damaged) || damaged.Objects != 2 || !strings.Contains(err.Error(), "edge-1") || !slices.Equal(lines, append(all[2:4:4], all[6:8]...)) {
		t.Errorf("%v, got %q", err, lines)
	}
}
