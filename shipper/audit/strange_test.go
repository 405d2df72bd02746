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

// checkJSON fails if a report can't be encoded as JSON.
func checkJSON(t *testing.T, r *Report) {
	t.Helper()
	for _, all := range []any{r.Findings, r.Logs} {
		if _, err := json.Marshal(all); err != nil {
			t.Error(err)
		}
	}
}

func TestObjectsOfTheLastHourAreReported(t *testing.T) {
	b := newFolder(t)
	b.putObject("n", 7, 1, 1, 10, time.Date(9999, 12, 31, 23, 0, 0, 0, time.UTC))
	b.putObject("n", 7, 1, 21, 30, time.Date(9999, 12, 31, 23, 0, 0, 0, time.UTC))
	_, r := b.findings(Options{Now: noon})
	checkJSON(t, r)
}

func TestAnObjectOfNoHourIsReported(t *testing.T) {
	_, b := newFake(t)
	shipRecords(t, t.TempDir(), b.store, wal.Options{}, 30, 10)
	b.copyObject(b.keyOfSeq(1), "dt=old/copy.ndjson.zst")
	b.remove(b.keyOfSeq(1))
	_, r := b.findings(Options{})
	checkJSON(t, r)
}

func TestARetiredLogWithALossNoteIsNotMissing(t *testing.T) {
	b := newFolder(t)
	b.putObject("other", 8, 1, 1, 10, noon)
	o, err := bucket.NewLossNote(bucket.Key{Node: "n", LogID: 7, Run: 1, FirstSeq: 11, LastSeq: 20}, "damaged", noon, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.store.Put(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	b.putHeartbeat("n", 7, bucket.Heartbeat{LastSeq: 50, ConfirmedBelow: 51, Retired: true, At: noon})
	_, r := b.findings(Options{Now: noon})
	if r.Tallies[Missing].Findings > 0 {
		t.Errorf("%+v", r.Findings)
	}
}

func TestARetiredLogThatIsGoneIsMissingFromTheStart(t *testing.T) {
	b := newFolder(t)
	b.putObject("other", 8, 1, 1, 10, noon)
	b.putHeartbeat("n", 7, bucket.Heartbeat{LastSeq: 50, ConfirmedBelow: 51, Retired: true, At: noon})
	_, r := b.findings(Options{Now: noon, FromStart: true})
	if !r.Wrong() {
		t.Errorf("%+v", r.Findings)
	}
}

func TestANodeInOneOfSeveralDestinationsIsFound(t *testing.T) {
	one, other := newFolder(t), newFolder(t)
	one.putObject("n", 7, 1, 1, 10, noon)
	other.putObject("m", 8, 1, 1, 10, noon)
	r, err := RunAll(context.Background(), []bucket.Store{one.store, other.store}, Options{Now: noon, Node: "n"})
	if err != nil || r.Wrong() {
		t.Errorf("%v, %+v", err, r)
	}
}

type changingPages struct {
	bucket.Store
	afterPage func(key string)
}

func (s changingPages) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if prefix != bucket.DataPrefix {
			s.Store.List(ctx, prefix)(yield)
			return
		}
		// Two pages: the first day, then the second.
		for _, p := range []string{"dt=2026-11-23/", "dt=2026-11-24/"} {
			for k, err := range s.Store.List(ctx, p) {
				if !yield(k, err) {
					return
				}
			}
			s.afterPage(p)
		}
	}
}

func TestObjectsPutDuringTheListingAreNotMissing(t *testing.T) {
	_, b := newFake(t)
	put := func(first, last, confirmed uint64, at time.Time) {
		k := bucket.Key{Node: "n", LogID: 7, Run: 1, FirstSeq: first, LastSeq: last, Hour: bucket.HourOf(at)}
		b.put(k.String(), []byte("x"), bucket.Metadata{Format: bucket.Format, Node: "n", LogID: bucket.HexID(7), Run: bucket.HexID(1), FirstSeq: first, LastSeq: last, Records: last - first + 1, ConfirmedBelow: confirmed, SHA256: strings.Repeat("0", 64), RawBytes: 1})
	}
	put(1, 10, 1, noon.Add(-30*time.Hour))
	n := 0
	s := changingPages{b.store, func(string) {
		if n++; n == 1 { // meanwhile a backlog is shipped in order
			put(11, 20, 11, noon.Add(-29*time.Hour))
			put(21, 30, 21, noon)
		}
	}}
	r, err := Run(context.Background(), s, Options{Now: noon})
	if err != nil || n < 2 || r.Tallies[Missing].Findings > 0 {
		t.Errorf("%v after %d pages, %+v", err, n, r)
	}
}

func TestADamagedObjectHidesNoFailure(t *testing.T) {
	one, other := newFolder(t), newFolder(t)
	for _, b := range []testBucket{one, other} {
		shipRecords(t, t.TempDir(), b.store, wal.Options{}, 30, 10)
	}
	half, m := one.get(one.keyOfSeq(1))
	one.replace(one.keyOfSeq(1), half[:len(half)/2], m)
	stop := errors.New("NO SPACE LEFT")
	calls := 0
	err := (Selection{}).RecordsOfAll(context.Background(), []bucket.Store{one.store, other.store}, func(int) {}, func([]byte) error {
		if calls++; calls == 2 {
			return stop
		}
		return nil
	})
	var damaged *DamagedError
	if !errors.Is(err, stop) || !errors.As(err, &damaged) || calls != 2 {
		t.Errorf("%v after %d calls", err, calls)
	}
}
