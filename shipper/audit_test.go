package shipper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"collectord/shipper/s3test"
	"collectord/wal"
)

// tamper is what others can do to a bucket.
type tamper struct {
	t     *testing.T
	store Store
}

func (b tamper) keys(prefix string) (keys []string) {
	b.t.Helper()
	for key, err := range b.store.List(context.Background(), prefix) {
		if err != nil {
			b.t.Fatal(err)
		}
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// key is that of the object that begins with seq.
func (b tamper) key(seq uint64) string {
	b.t.Helper()
	for _, k := range b.keys("dt=") {
		if n, ok := parseKey(k); ok && n.first == seq {
			return k
		}
	}
	b.t.Fatalf("no object begins with %d", seq)
	return ""
}

func (b tamper) get(key string) []byte {
	b.t.Helper()
	body, err := b.store.Open(context.Background(), key)
	if err != nil {
		b.t.Fatal(err)
	}
	defer body.Close()
	content, err := io.ReadAll(body)
	if err != nil {
		b.t.Fatal(err)
	}
	return content
}

func (b tamper) put(key string, content []byte) {
	b.t.Helper()
	if err := b.store.Put(context.Background(), bytesObject(key, content)); err != nil {
		b.t.Fatal(err)
	}
}

func (b tamper) remove(key string) {
	b.t.Helper()
	var err error
	switch s := b.store.(type) {
	case *fileStore:
		err = os.Remove(filepath.Join(s.root, key))
	case *s3Store:
		err = s.client.RemoveObject(context.Background(), s.bucket, s.prefix+key, minio.RemoveObjectOptions{})
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b tamper) replace(key string, content []byte) {
	b.t.Helper()
	b.remove(key)
	b.put(key, content)
}

// findings audits and returns a line for each finding.
func (b tamper) findings(o AuditOptions) (lines []string, r *Report) {
	b.t.Helper()
	r, err := Audit(context.Background(), b.store, o)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, f := range r.Findings {
		line := string(f.Kind)
		if f.FirstSeq > 0 {
			line += fmt.Sprintf(" %d-%d", f.FirstSeq, f.LastSeq)
		}
		if f.Kind == Lost {
			line += " " + f.Reason
		}
		lines = append(lines, line)
	}
	return lines, r
}

func (b tamper) want(o AuditOptions, wrong bool, want ...string) *Report {
	b.t.Helper()
	got, r := b.findings(o)
	if !slices.Equal(got, want) || r.Wrong() != wrong {
		b.t.Errorf("audit %+v finds, wrong: %v\n  %s\nwant\n  %s", o, r.Wrong(), strings.Join(got, "\n  "), strings.Join(want, "\n  "))
		for _, f := range r.Findings {
			b.t.Logf("%+v", f)
		}
	}
	return r
}

// everyStore runs a test on a folder and on a real server.
func everyStore(t *testing.T, test func(t *testing.T, store Store)) {
	t.Run("folder", func(t *testing.T) {
		s, err := newFileStore(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		test(t, s)
	})
	t.Run("MinIO", func(t *testing.T) { test(t, newBucket(t, startMinIO(t), false)) })
}

// shipped fills a log, ships all of it and closes it.
func shipped(t *testing.T, dir string, store Store, o wal.Options, n, per int) {
	t.Helper()
	o.Node = "edge-1"
	l, err := wal.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, l, n, per)
	shipAll(t, l, store)
}

// shipAll ships all of a log, one segment after the other, and closes it.
func shipAll(t *testing.T, l *wal.Log, store Store) {
	t.Helper()
	s, err := New(l, store, Options{SpoolDir: filepath.Join(t.TempDir(), "spool"), Limits: Limits{Concurrency: 1}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	drainHurriedly(t, s)
	cancel()
	<-done
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

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
	everyStore(t, func(t *testing.T, store Store) {
		dir := t.TempDir()
		for range 3 {
			shipped(t, dir, store, wal.Options{}, 40, 10)
		}
		shipped(t, t.TempDir(), store, wal.Options{}, 30, 10)
		b := tamper{t, store}
		r := b.want(AuditOptions{FromStart: true, Deep: true}, false)
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

func TestAuditNamesWhatBecameOfEachRecord(t *testing.T) {
	t.Parallel()
	everyStore(t, func(t *testing.T, store Store) {
		b := tamper{t, store}
		dir := t.TempDir()
		shipped(t, dir, store, wal.Options{}, 100, 10)
		snapshot := snapshotOf(t, dir)
		shipped(t, dir, store, wal.Options{}, 20, 10)      // 101 to 120
		shipped(t, snapshot, store, wal.Options{}, 10, 10) // 101 to 110 again, and others
		b.want(AuditOptions{FromStart: true, Deep: true}, true, "forked 101-110")

		b.remove(b.key(21))
		b.want(AuditOptions{}, true, "missing 21-30", "forked 101-110")

		original := b.get(b.key(41))
		n, _ := parseKey(b.key(41))
		n.hour -= 30
		b.put(n.key(), original)
		b.put("dt=2026-11-23/hour=08/a copy.ndjson.zst", original)
		b.want(AuditOptions{Deep: true}, true, "missing 21-30", "doubled 41-50", "doubled 41-50", "forked 101-110")

		half := b.get(b.key(61))
		b.replace(b.key(61), half[:len(half)/2])
		b.want(AuditOptions{}, true, "missing 21-30", "doubled 41-50", "doubled 41-50", "forked 101-110")
		b.want(AuditOptions{Deep: true}, true, "missing 21-30", "doubled 41-50", "doubled 41-50", "forked 101-110", "truncated 61-70")

		taken, _ := parseKey(b.key(81))
		taken.beside, taken.sha8 = true, 0xdeadbeef
		b.put(taken.key(), b.get(b.key(81)))
		b.put("dt=2026-11-23/hour=08/notes.ndjson.zst", []byte("of somebody else"))
		b.put("dt=2026-11-23/hour=08/notes.txt", []byte("of somebody else"))
		r := b.want(AuditOptions{Deep: true}, true, "missing 21-30", "doubled 41-50", "doubled 41-50", "forked 101-110",
			"conflicting 81-90", "truncated 61-70", "foreign")
		keys := map[Kind][]string{}
		for _, f := range r.Findings {
			keys[f.Kind] = append(keys[f.Kind], f.Keys...)
			if f.Kind != Foreign && (f.Node != "edge-1" || len(f.LogID) != 16 || len(f.Runs) == 0) {
				t.Errorf("finding %+v", f)
			}
		}
		for kind, want := range map[Kind][]string{
			Truncated: {b.key(61)}, Foreign: {"dt=2026-11-23/hour=08/notes.ndjson.zst"},
			Doubled: {n.key(), "dt=2026-11-23/hour=08/a copy.ndjson.zst"}, Conflicting: {taken.key()}, Forked: {b.key(101)},
		} {
			for _, k := range want {
				if !slices.Contains(keys[kind], k) {
					t.Errorf("%s does not name %s but %v", kind, k, keys[kind])
				}
			}
		}
	})
}

func TestAuditTellsKnownLossesApart(t *testing.T) {
	t.Parallel()
	everyStore(t, func(t *testing.T, store Store) {
		dir := t.TempDir()
		shipped(t, dir, store, wal.Options{}, 10, 10)
		l := openLog(t, dir)
		fill(t, l, 30, 10) // 11 to 40
		files, _ := filepath.Glob(filepath.Join(dir, "wal", "00000000000000000021-*", "*"))
		content, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(content, []byte(`{"n":14}`)) // seq 25: fill counts anew
		content[at] ^= 1
		if err := os.WriteFile(files[0], content, 0o600); err != nil {
			t.Fatal(err)
		}
		shipAll(t, l, store)

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
			t.Fatal("nothing was evicted")
		}
		shipAll(t, l, store)
		b := tamper{t, store}
		r, err := Audit(context.Background(), store, AuditOptions{FromStart: true, Deep: true})
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
		// A note that is taken away leaves a hole that nothing explains.
		for _, k := range b.keys(lostPrefix) {
			b.remove(k)
		}
		if lines, r := b.findings(AuditOptions{}); !r.Wrong() || !slices.Contains(lines, "missing 25-25") {
			t.Errorf("without notes: %s", lines)
		}
	})
}

func TestAuditTellsWhatIsMissingFromWhatIsOnItsWay(t *testing.T) {
	store, err := newFileStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b := tamper{t, store}
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	object := func(run, first, last, confirmed uint64, hour time.Time) {
		n := name{node: "n", logID: 7, run: run, first: first, last: last, hour: hour.Unix() / 3600}
		o := unreal(t, n.key(), "x")
		o.Metadata.ConfirmedBelow = confirmed
		var text bytes.Buffer
		if err := writeTrailer(&text, o.Metadata); err != nil {
			t.Fatal(err)
		}
		b.put(n.key(), text.Bytes())
	}
	object(1, 11, 20, 11, now.Add(-50*time.Hour)) // before it: expired, or never sent
	object(1, 31, 40, 21, now.Add(-49*time.Hour)) // 21 to 30 was still under way
	object(2, 51, 60, 21, now.Add(-3*time.Hour))
	b.want(AuditOptions{Now: now}, true, "overdue 21-30", "not_yet 41-50")
	b.want(AuditOptions{Now: now, Grace: 72 * time.Hour}, false, "not_yet 21-30", "not_yet 41-50")
	b.want(AuditOptions{Now: now, Grace: time.Hour}, true, "overdue 21-30", "overdue 41-50")
	b.want(AuditOptions{Now: now, Grace: 72 * time.Hour, FromStart: true}, true, "missing 1-10", "not_yet 21-30", "not_yet 41-50")
	object(2, 71, 80, 46, now.Add(-2*time.Hour)) // a confirmation in the middle of a hole splits it
	b.want(AuditOptions{Now: now}, true, "missing 21-30", "missing 41-45", "not_yet 46-50", "not_yet 61-70")
}

func TestDeepAuditFindsWhatIsNotWhatItSays(t *testing.T) {
	store, err := newFileStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	shipped(t, dir, store, wal.Options{}, 100, 10)
	other, err := newFileStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	shipped(t, t.TempDir(), other, wal.Options{}, 10, 10)
	b := tamper{t, store}
	stranger := tamper{t, other}.get(tamper{t, other}.key(1))
	for seq, change := range map[uint64]struct {
		how    func(object []byte) []byte
		kind   Kind
		reason string
	}{
		1:  {func([]byte) []byte { return nil }, Truncated, "empty"},
		11: {func(o []byte) []byte { return o[:len(o)-1] }, Truncated, "cut off after 10 records"},
		21: {func(o []byte) []byte { return o[:bytes.Index(o, []byte("*M\x18"))-1] }, Damaged, "no metadata"},
		31: {func(o []byte) []byte { o[40] ^= 4; return o }, Damaged, "does not check out"},
		41: {func([]byte) []byte { return []byte("of somebody else") }, Damaged, "does not check out"},
		51: {func([]byte) []byte { return stranger }, Damaged, "another object"},
		61: {func(o []byte) []byte { return append(bytes.Clone(o), o...) }, Damaged, "the id of line 11"},
		71: {func(o []byte) []byte { return bytes.Replace(o, []byte(`"records":10`), []byte(`"records":11`), 1) }, Damaged, "not those of its metadata"},
		81: {func(o []byte) []byte {
			at := bytes.Index(o, []byte(`"sha256":"`)) + 10
			return append(append(o[:at:at], bytes.Repeat([]byte("0"), 64)...), o[at+64:]...)
		}, Damaged, "SHA-256"},
	} {
		key := b.key(seq)
		good := b.get(key)
		b.replace(key, change.how(bytes.Clone(good)))
		for _, workers := range []int{0, 1} {
			_, r := b.findings(AuditOptions{Deep: true, Workers: workers})
			if len(r.Findings) != 1 || r.Findings[0].Kind != change.kind || !strings.Contains(r.Findings[0].Reason, change.reason) ||
				r.Findings[0].FirstSeq != seq || r.Findings[0].Keys[0] != key {
				t.Errorf("seq %d: found %+v, want %s: %s", seq, r.Findings, change.kind, change.reason)
			}
		}
		b.replace(key, good)
	}
	b.want(AuditOptions{Deep: true}, false)
}

func TestDeepAuditFindsIDsThatFallFromObjectToObject(t *testing.T) {
	store, err := newFileStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	shipped(t, t.TempDir(), store, wal.Options{}, 30, 10)
	b := tamper{t, store}
	// An object that is whole, and says that it comes before another.
	e, err := newExaminer()
	if err != nil {
		t.Fatal(err)
	}
	defer e.close()
	last := b.get(b.key(21))
	c, err := e.examine(bytes.NewReader(last))
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(last, []byte("*M\x18")) - 1
	m := c.metadata
	m.FirstSeq, m.LastSeq = 1, 10
	var forged bytes.Buffer
	forged.Write(last[:at])
	if err := writeTrailer(&forged, m); err != nil {
		t.Fatal(err)
	}
	b.replace(b.key(1), forged.Bytes())
	_, r := b.findings(AuditOptions{Deep: true})
	if len(r.Findings) != 1 || r.Findings[0].FirstSeq != 11 || !strings.Contains(r.Findings[0].Reason, "not above the last one of the object before") ||
		!slices.Equal(r.Findings[0].Keys, []string{b.key(11), b.key(1)}) {
		t.Errorf("found %+v", r.Findings)
	}
}

func TestLongAndShortLinesAreCountedHoweverTheyArrive(t *testing.T) {
	id := func(n int) string { return fmt.Sprintf(`{"id":"01a20a8b-0000-7000-8000-%012x","received_at":`, n) }
	text := id(1) + "\n" + id(2) + strings.Repeat("x", 1000) + "\n" + strings.Replace(id(0), "-7000-", "-8000-", 1) + "\n" + id(3) + "\n"
	for size := 1; size <= len(text); size++ {
		var l lineScanner
		for chunk := range slices.Chunk([]byte(text), size) {
			l.scan(chunk)
		}
		if l.records != 4 || l.problem != "" || l.inLine || string(l.first[:]) != id(1)[idAt:idEnd] || string(l.last[:]) != id(3)[idAt:idEnd] {
			t.Fatalf("in chunks of %d: %+v", size, l)
		}
	}
	for text, problem := range map[string]string{
		id(2) + "\n" + id(1) + "\n": "line 2 is not above",
		id(2) + "\n" + id(2) + "\n": "line 2 is not above",
		id(2) + "\n{}\n":            "line 2 is no record",
		"\n":                        "line 1 is no record",
	} {
		var l lineScanner
		if l.scan([]byte(text)); !strings.Contains(l.problem, problem) {
			t.Errorf("%q: %q", text, l.problem)
		}
	}
}

// TestAnInventoryOfMillionsOfObjectsIsSmall lists a bucket that exists in its
// listing alone.
func TestAnInventoryOfMillionsOfObjectsIsSmall(t *testing.T) {
	const objects = 100_000
	store := &listed{keys: func(yield func(string) bool) {
		for i := range uint64(objects) {
			n := name{node: "edge-1", logID: 1 + i%10, run: i / 10_000, first: 1 + i/10*1000, last: i/10*1000 + 1000, hour: int64(490_000 + i/400)}
			if !yield(n.key()) {
				return
			}
		}
	}}
	before := heap()
	v, err := takeInventory(context.Background(), store, nil)
	if err != nil {
		t.Fatal(err)
	}
	took := float64(heap()-before) / objects
	t.Logf("%.1f bytes an object", took)
	if v.objects != objects || len(v.logs) != 10 || took > 48 {
		t.Errorf("%d objects of %d logs take %.1f bytes each", v.objects, len(v.logs), took)
	}
	r, err := Audit(context.Background(), store, AuditOptions{FromStart: true})
	if err != nil || r.Wrong() || len(r.Findings) > 0 || r.Logs[9].Records != objects/10*1000 {
		t.Errorf("report %+v, %v", r, err)
	}
}

func TestAuditIsPatientWithTheStorageAndSaysWhatItDoesNotGive(t *testing.T) {
	t.Parallel()
	f, store := newFake(t)
	shipped(t, t.TempDir(), store, wal.Options{}, 60, 10)
	b := tamper{t, store}
	forbidden := b.key(31)
	var requests atomic.Int64
	f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
		if requests.Add(1)%5 == 0 {
			return s3test.Error(w, http.StatusServiceUnavailable, "SlowDown")
		}
		return strings.HasSuffix(r.URL.Path, forbidden) && s3test.Error(w, http.StatusForbidden, "AccessDenied")
	}})
	for _, workers := range []int{1, 4} {
		r, err := Audit(context.Background(), store, AuditOptions{Deep: true, Workers: workers})
		if err != nil || len(r.Findings) != 1 || r.Findings[0].Kind != Unreadable || r.Findings[0].Keys[0] != forbidden || !strings.Contains(r.Findings[0].Reason, "s3:GetObject") {
			t.Errorf("%+v, %v", r, err)
		}
	}
	f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
		return strings.Contains(r.URL.Path, "dt=") && s3test.Error(w, http.StatusForbidden, "AccessDenied")
	}})
	if r, err := Audit(context.Background(), store, AuditOptions{Deep: true}); err != nil || r.Tallies[Unreadable].Findings != 6 || !r.Wrong() {
		t.Errorf("%+v, %v", r, err)
	}
	// It ends when told to, whatever is under way.
	ctx, cancel := context.WithCancel(context.Background())
	f.Behave(s3test.Behaviour{Fault: func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "dt=") {
			cancel()
		}
		return false
	}})
	if _, err := Audit(ctx, store, AuditOptions{Deep: true}); !errors.Is(err, context.Canceled) {
		t.Errorf("told to stop, it returns %v", err)
	}
}
