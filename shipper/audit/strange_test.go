package audit

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"strings"
	"testing"
	"time"

	"collectord/shipper/bucket"
	"collectord/wal"
)

func TestAHeartbeatOfAnyYearIsReported(t *testing.T) {
	b := newFolder(t)
	b.object("n", 7, 1, 1, 10, time.Date(9999, 12, 31, 23, 0, 0, 0, time.UTC))
	b.object("n", 7, 1, 21, 30, time.Date(9999, 12, 31, 23, 0, 0, 0, time.UTC))
	_, r := b.findings(Options{Now: noon})
	for _, f := range r.Findings {
		_, err := json.Marshal(f)
		t.Logf("finding %v %v since %v: %v", f.Kind, f.FirstSeq, f.Since, err)
	}
	for _, f := range r.Logs {
		_, err := json.Marshal(f)
		t.Log("log ", f.From, err)
	}
}

func TestAnObjectOfNoHourIsReported(t *testing.T) {
	_, b := newFake(t)
	shipped(t, t.TempDir(), b.store, wal.Options{}, 30, 10)
	b.copied(b.key(1), "dt=old/copy.ndjson.zst")
	b.remove(b.key(1))
	_, r := b.findings(Options{})
	t.Log(r.Findings)
	for _, f := range r.Logs {
		_, err := json.Marshal(f)
		t.Log("log ", f.From, err)
	}
}

func TestARetiredLogWithALossNoteIsNotMissing(t *testing.T) {
	b := newFolder(t)
	b.object("other", 8, 1, 1, 10, noon)
	o, err := bucket.NewLossNote(bucket.Key{Node: "n", LogID: 7, Run: 1, FirstSeq: 11, LastSeq: 20}, "damaged", noon, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.store.Put(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	b.beat("n", 7, bucket.Heartbeat{LastSeq: 50, ConfirmedBelow: 51, Retired: true, At: noon})
	_, r := b.findings(Options{Now: noon})
	t.Log("retired+note", r.Wrong())
	for _, f := range r.Findings {
		t.Log(f.Kind, f.FirstSeq, f.LastSeq)
	}
}

func TestARetiredLogThatIsGoneIsMissingFromTheStart(t *testing.T) {
	b := newFolder(t)
	b.object("other", 8, 1, 1, 10, noon)
	b.beat("n", 7, bucket.Heartbeat{LastSeq: 50, ConfirmedBelow: 51, Retired: true, At: noon})
	_, r := b.findings(Options{Now: noon, FromStart: true})
	t.Log("retired, from start: wrong", r.Wrong())
	for _, f := range r.Findings {
		t.Log(f.Kind, f.FirstSeq, f.LastSeq)
	}
}

func TestANodeOfOneOfSeveralDestinationsIsFound(t *testing.T) {
	one, other := newFolder(t), newFolder(t)
	one.object("n", 7, 1, 1, 10, noon)
	other.object("m", 8, 1, 1, 10, noon)
	r, err := RunAll(context.Background(), []bucket.Store{one.store, other.store}, Options{Now: noon, Node: "n"})
	t.Log(err, r.Wrong(), r.Findings)
}

type racing struct {
	bucket.Store
	then func(key string)
}

func (s racing) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if prefix != bucket.DataPrefix {
			s.Store.List(ctx, prefix)(yield)
			return
		}
		// two pages: the first day, then the second
		for _, p := range []string{"dt=2026-11-23/", "dt=2026-11-24/"} {
			for k, err := range s.Store.List(ctx, p) {
				if !yield(k, err) {
					return
				}
			}
			s.then(p)
		}
	}
}

func TestWhatIsPutWhileTheBucketIsListedIsNotMissing(t *testing.T) {
	_, b := newFake(t)
	put := func(first, last, confirmed uint64, at time.Time) {
		k := bucket.Key{Node: "n", LogID: 7, Run: 1, FirstSeq: first, LastSeq: last, Hour: bucket.HourOf(at)}
		b.put(k.String(), []byte("x"), bucket.Metadata{Format: bucket.Format, Node: "n", LogID: bucket.HexID(7), Run: bucket.HexID(1), FirstSeq: first, LastSeq: last, Records: last - first + 1, ConfirmedBelow: confirmed, SHA256: strings.Repeat("0", 64), RawBytes: 1})
	}
	put(1, 10, 1, noon.Add(-30*time.Hour))
	n := 0
	s := racing{b.store, func(p string) {
		if n++; n == 1 { // a backlog is drained meanwhile, in order
			put(11, 20, 11, noon.Add(-29*time.Hour))
			put(21, 30, 21, noon)
		}
	}}
	r, err := Run(context.Background(), s, Options{Now: noon})
	t.Log(err, r.Wrong())
	for _, f := range r.Findings {
		t.Log(f.Kind, f.FirstSeq, f.LastSeq)
	}
}

type breaks struct{ bucket.Store }

func (s breaks) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		n := 0
		for k, err := range s.Store.List(ctx, prefix) {
			if n++; n > 1 {
				yield("", &bucket.Error{Op: "list", Kind: "AccessDenied", Permanent: true, Err: errors.New("LISTING FAILED")})
				return
			}
			if !yield(k, err) {
				return
			}
		}
	}
}

func TestADamagedObjectHidesNoFailure(t *testing.T) {
	one, other := newFolder(t), newFolder(t)
	for _, b := range []tamper{one, other} {
		shipped(t, t.TempDir(), b.store, wal.Options{}, 30, 10)
	}
	half, m := one.get(one.key(1))
	one.replace(one.key(1), half[:len(half)/2], m)
	stop := errors.New("NO SPACE LEFT")
	calls := 0
	err := (Selection{}).RecordsOfAll(context.Background(), []bucket.Store{one.store, other.store}, func(int) {}, func(lines []byte) error {
		if calls++; calls == 2 {
			return stop
		}
		return nil
	})
	t.Logf("calls %d; is stop: %v; %v", calls, errors.Is(err, stop), err)
	err = (Selection{}).RecordsOfAll(context.Background(), []bucket.Store{one.store}, func(int) {}, func(lines []byte) error { return stop })
	t.Logf("one store: is stop: %v", errors.Is(err, stop))
}
