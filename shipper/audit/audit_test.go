package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"collectord/shipper/bucket"
	"collectord/shipper/bucket/s3test"
	"collectord/wal"
)

func snapshotOf(t *testing.T, dir string) (copied string) {
	t.Helper()
	copied = filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return copied
}

func TestAuditOfACompleteBucketFindsNothing(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, b testBucket) {
		dir := t.TempDir()
		for range 3 {
			shipRecords(t, dir, b.store, wal.Options{}, 40, 10)
		}
		shipRecords(t, t.TempDir(), b.store, wal.Options{}, 30, 10)
		r := b.checkFindings(Options{FromStart: true, Deep: true}, false)
		if len(r.Logs) != 2 || r.Objects != 15 || r.Read != 15 || r.Logs[0].Records+r.Logs[1].Records != 150 {
			t.Errorf("report %+v", r)
		}
		for _, l := range r.Logs {
			if l.Nodes[0] != "edge-1" || l.FirstSeq != 1 || l.LastSeq != l.Records || l.Runs != int(l.Records)/30-l.Objects/12 || time.Since(l.To) > 2*time.Hour {
				t.Errorf("log %+v", l)
			}
		}
	})
}

// TestAuditReportsEachKindOfFinding runs also without metadata: then confirmed seqs are unknown,
// and a renamed copy has no records.
func TestAuditReportsEachKindOfFinding(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, b testBucket) {
		dir := t.TempDir()
		shipRecords(t, dir, b.store, wal.Options{}, 100, 10)
		snapshot := snapshotOf(t, dir)
		shipRecords(t, dir, b.store, wal.Options{}, 20, 10)      // 101 to 120
		shipRecords(t, snapshot, b.store, wal.Options{}, 10, 10) // the seqs 101 to 110 again, with other records
		b.checkFindings(Options{FromStart: true, Deep: true}, true, "forked 101-110")

		b.remove(b.keyOfSeq(21))
		const copied, notes = "dt=2026-11-23/hour=08/a copy.ndjson.zst", "dt=2026-11-23/hour=08/notes.ndjson.zst"
		n, _ := bucket.ParseKey(b.keyOfSeq(41))
		n.Hour -= 30
		b.copyObject(b.keyOfSeq(41), n.String())
		b.copyObject(b.keyOfSeq(41), copied)
		half, m := b.get(b.keyOfSeq(61))
		b.replace(b.keyOfSeq(61), half[:len(half)/2], m)
		taken, _ := bucket.ParseKey(b.keyOfSeq(81))
		taken.Beside, taken.SHA8 = true, 0xdeadbeef
		b.copyObject(b.keyOfSeq(81), taken.String())
		b.put(notes, []byte("of somebody else"), bucket.Metadata{})
		b.put("dt=2026-11-23/hour=08/notes.txt", []byte("of somebody else"), bucket.Metadata{})

		var r *Report
		foreign := []string{notes}
		if b.metadata {
			b.checkFindings(Options{}, true, "missing 21-30", "doubled 41-50", "doubled 41-50", "forked 101-110", "conflicting 81-90", "foreign")
			r = b.checkFindings(Options{Deep: true}, true, "missing 21-30", "doubled 41-50", "doubled 41-50", "forked 101-110",
				"conflicting 81-90", "truncated 61-70", "foreign")
		} else {
			foreign = append(foreign, copied)
			b.checkFindings(Options{}, true, "doubled 41-50", "forked 101-110", "conflicting 81-90", "not_yet 21-30", "foreign", "foreign")
			r = b.checkFindings(Options{Deep: true}, true, "doubled 41-50", "forked 101-110", "conflicting 81-90", "truncated 61-70", "not_yet 21-30", "foreign", "foreign")
			if r.Unconfirmed != 1 || r.NoMetadata != r.Read-1 {
				t.Errorf("%d logs without a confirmed seq, and %d of %d objects without metadata", r.Unconfirmed, r.NoMetadata, r.Read)
			}
		}
		keys := map[Kind][]string{}
		for _, f := range r.Findings {
			keys[f.Kind] = append(keys[f.Kind], f.Keys...)
			if f.Kind != Foreign && (f.Node != "edge-1" || len(f.LogID) != 16 || len(f.Runs) == 0) {
				t.Errorf("finding %+v", f)
			}
			if f.Kind == NotYet && f.Reason != unconfirmed {
				t.Errorf("a gap in a log without metadata: %+v", f)
			}
		}
		doubled := []string{n.String()}
		if b.metadata {
			doubled = append(doubled, copied)
		}
		for kind, want := range map[Kind][]string{
			Truncated: {b.keyOfSeq(61)}, Foreign: foreign, Doubled: doubled, Conflicting: {taken.String()}, Forked: {b.keyOfSeq(101)},
		} {
			for _, k := range want {
				if !slices.Contains(keys[kind], k) {
					t.Errorf("%s names %v, not %s", kind, k, keys[kind])
				}
			}
		}
	})
}

func TestAuditSeparatesNotedLosses(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, b testBucket) {
		dir := t.TempDir()
		shipRecords(t, dir, b.store, wal.Options{}, 10, 10)
		l := openLog(t, dir, wal.Options{})
		fill(t, l, 30, 10) // 11 to 40
		files, _ := filepath.Glob(filepath.Join(dir, "wal", "00000000000000000021-*", "*"))
		content, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(content, []byte(`{"n":14}`)) // seq 25, since fill counts from 0 again
		content[at] ^= 1
		if err := os.WriteFile(files[0], content, 0o600); err != nil {
			t.Fatal(err)
		}
		shipAll(t, l, b.store)

		l, err = wal.Open(dir, wal.Options{Node: "edge-1", MaxBytes: 256 << 10, SegmentSize: 16 << 10, WhenFull: wal.DropOldest})
		if err != nil {
			t.Fatal(err)
		}
		rec := wal.Record{Usage: fmt.Appendf(nil, `{"n":"%s"}`, strings.Repeat("x", 9<<10))}
		for range 100 { // from 41, in segments of 1
			for {
				err := l.Append(context.Background(), rec)
				if err == nil {
					break
				}
				if !errors.Is(err, wal.ErrFull) {
					t.Fatal(err)
				}
			}
			if err := l.Seal(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		evicted := l.Ledger().Evicted
		if evicted == 0 {
			t.Fatal("no record was evicted")
		}
		shipAll(t, l, b.store)
		r, err := Run(context.Background(), b.store, Options{FromStart: true, Deep: true})
		if err != nil {
			t.Fatal(err)
		}
		var damaged, gone uint64
		for _, f := range r.Findings {
			switch {
			case f.Kind != Lost:
				t.Errorf("found %+v", f)
			case f.Reason == wal.LossDamaged && f.FirstSeq <= 25 && f.LastSeq >= 25:
				damaged += f.Records()
			case f.Reason == wal.LossEvicted && f.FirstSeq >= 41:
				gone += f.Records()
			default:
				t.Errorf("found %+v", f)
			}
		}
		if r.Wrong() || damaged != 1 || gone < evicted || gone+damaged+r.Logs[0].Records != 140 {
			t.Errorf("%d damaged, %d evicted, want %d; %+v", damaged, gone, evicted, r.Logs)
		}
		// Without its note, a loss is an unexplained gap.
		for _, k := range b.keys(bucket.LossPrefix) {
			b.remove(k)
		}
		kind := NotYet
		if b.metadata {
			kind = Missing
		}
		if lines, r := b.findings(Options{}); r.Wrong() != b.metadata || !slices.Contains(lines, string(kind)+" 25-25") {
			t.Errorf("without notes, the findings are %s", lines)
		}
	})
}

func TestAuditSeparatesMissingFromNotYetUploaded(t *testing.T) {
	_, b := newFake(t)
	f := newFolder(t)
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	object := func(run, first, last, confirmed uint64, hour time.Time) {
		k := bucket.Key{Node: "n", LogID: 7, Run: run, FirstSeq: first, LastSeq: last, Hour: bucket.HourOf(hour)}
		m := bucket.Metadata{
			Format: 1, Node: k.Node, LogID: bucket.HexID(k.LogID), Run: bucket.HexID(run),
			FirstSeq: first, LastSeq: last, Records: last - first + 1, SHA256: "ab", ConfirmedBelow: confirmed,
		}
		b.put(k.String(), []byte("x"), m)
		f.put(k.String(), []byte("x"), m)
	}
	object(1, 11, 20, 11, now.Add(-50*time.Hour)) // 1 to 10 have expired, or were never sent
	object(1, 31, 40, 21, now.Add(-49*time.Hour)) // 21 to 30 were still in flight
	object(2, 51, 60, 21, now.Add(-3*time.Hour))
	b.checkFindings(Options{Now: now}, true, "overdue 21-30", "not_yet 41-50", "earlier 1-10")
	b.checkFindings(Options{Now: now, Grace: 72 * time.Hour}, false, "not_yet 21-30", "not_yet 41-50", "earlier 1-10")
	b.checkFindings(Options{Now: now, Grace: time.Hour}, true, "overdue 21-30", "overdue 41-50", "earlier 1-10")
	r := b.checkFindings(Options{Now: now, Grace: 72 * time.Hour, FromStart: true}, true, "missing 1-10", "not_yet 21-30", "not_yet 41-50")
	if r.Unconfirmed != 0 || r.Logs[0].ConfirmedBelow != 21 {
		t.Errorf("confirmed seq: %+v", r)
	}
	object(2, 71, 80, 46, now.Add(-2*time.Hour)) // a confirmed seq in the middle of a gap splits it
	b.checkFindings(Options{Now: now}, true, "missing 21-30", "missing 41-45", "not_yet 46-50", "not_yet 61-70", "earlier 1-10")

	// In a folder, confirmed seqs are unknown, so that no record counts as missing.
	r = f.checkFindings(Options{Now: now, FromStart: true}, true, "overdue 1-10", "overdue 21-30", "not_yet 41-50", "not_yet 61-70")
	if r.Unconfirmed != 1 || r.Logs[0].ConfirmedBelow != 0 {
		t.Errorf("confirmed seq: %+v", r)
	}
	f.checkFindings(Options{Now: now, Grace: 72 * time.Hour}, false, "not_yet 21-30", "not_yet 41-50", "not_yet 61-70", "earlier 1-10")
}

// TestAnInventoryOfMillionsOfObjectsIsSmall uses a listing without objects.
func TestAnInventoryOfMillionsOfObjectsIsSmall(t *testing.T) {
	const objects = 100_000
	keys := make([]string, objects) // made once, since they are listed several times
	for i := range uint64(objects) {
		keys[i] = bucket.Key{Node: "edge-1", LogID: 1 + i%10, Run: i / 10_000, FirstSeq: 1 + i/10*1000, LastSeq: i/10*1000 + 1000, Hour: int64(490_000 + i/400)}.String()
	}
	store := &listingStore{keys: slices.Values(keys)}
	before := heapBytes()
	v, err := takeInventory(context.Background(), &objectCalls{store: store}, nil)
	if err != nil {
		t.Fatal(err)
	}
	took := float64(heapBytes()-before) / objects
	t.Logf("%.1f bytes an object", took)
	if v.objects != objects || len(v.logs) != 10 || took > 26 {
		t.Errorf("%d objects in %d logs take %.1f bytes each", v.objects, len(v.logs), took)
	}
	r, err := Run(context.Background(), store, Options{FromStart: true})
	if err != nil || r.Wrong() || len(r.Findings) > 0 || r.Logs[9].Records != objects/10*1000 {
		t.Errorf("report %+v, %v", r, err)
	}
}

func TestAuditRetriesAndNamesUnreadableObjects(t *testing.T) {
	t.Parallel()
	f, b := newFake(t)
	shipRecords(t, t.TempDir(), b.store, wal.Options{}, 60, 10)
	forbidden := b.keyOfSeq(31)
	var requests atomic.Int64
	f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
		if requests.Add(1)%5 == 0 {
			return s3test.Error(w, http.StatusServiceUnavailable, "SlowDown")
		}
		return strings.HasSuffix(r.URL.Path, forbidden) && s3test.Error(w, http.StatusForbidden, "AccessDenied")
	}})
	for _, workers := range []int{1, 4} {
		r, err := Run(context.Background(), b.store, Options{Deep: true, Workers: workers})
		if err != nil || len(r.Findings) != 1 || r.Findings[0].Kind != Unreadable || r.Findings[0].Keys[0] != forbidden || !strings.Contains(r.Findings[0].Reason, "s3:GetObject") {
			t.Errorf("%+v, %v", r, err)
		}
	}
	f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
		return strings.Contains(r.URL.Path, "dt=") && s3test.Error(w, http.StatusForbidden, "AccessDenied")
	}})
	if r, err := Run(context.Background(), b.store, Options{Deep: true}); err != nil || r.Tallies[Unreadable].Findings != 6 || !r.Wrong() {
		t.Errorf("%+v, %v", r, err)
	}
	// An audit ends when its context does, whatever is running.
	ctx, cancel := context.WithCancel(context.Background())
	f.Behave(s3test.Behaviour{Fault: func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "dt=") {
			cancel()
		}
		return false
	}})
	if _, err := Run(ctx, b.store, Options{Deep: true}); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context, Run returned %v", err)
	}
}

// TestAnAnswerThatIsNoListingIsAnError: an audit would otherwise take the answer for an empty
// bucket.
func TestAnAnswerThatIsNoListingIsAnError(t *testing.T) {
	t.Parallel()
	f, b := newFake(t)
	f.Behave(s3test.Behaviour{Fault: s3test.EveryPage})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if r, err := Run(ctx, b.store, Options{}); err == nil {
		t.Errorf("the audit of a login page returned %+v", r)
	}
}
