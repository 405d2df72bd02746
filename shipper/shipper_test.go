package shipper

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"collectord/shipper/bucket"
	"collectord/shipper/bucket/s3test"
	"collectord/wal"
)

func TestSegmentsBecomeObjectsAndAreRemoved(t *testing.T) {
	stores := map[string]func(t *testing.T) bucket.Store{
		"file":      newFolder,
		"MinIO":     func(t *testing.T) bucket.Store { return newBucket(t, s3test.MinIO(t)) },
		"versitygw": func(t *testing.T) bucket.Store { return newBucket(t, s3test.Versity(t)) },
	}
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			store := open(t)
			dir := t.TempDir()
			l := openLog(t, dir)
			fill(t, l, 100, 10)
			s := start(t, l, store)
			drain(t, s, 0)
			checkStoredOnce(t, store, 100)
			if g := l.Ledger(); g.Shipped != 100 || g.Pending != 0 {
				t.Errorf("ledger %+v", g)
			}
			if st := s.Stats(); st.Objects != 10 || st.InFlight != 0 {
				t.Errorf("stats %+v", st)
			}
			remaining, _ := filepath.Glob(filepath.Join(s.opts.SpoolDir, "*"))
			if len(remaining) > 0 {
				t.Errorf("the spool still contains %v", remaining)
			}
		})
	}
}

func TestCompressIsCalledAroundEachCompression(t *testing.T) {
	store := newFolder(t)
	l := openLog(t, t.TempDir())
	fill(t, l, 50, 10)
	var begun, ended atomic.Int64
	s := startWith(t, l, store, Options{OnCompress: func() func() {
		begun.Add(1)
		return func() { ended.Add(1) }
	}})
	drain(t, s, 0)
	if begun.Load() != 5 || ended.Load() != 5 {
		t.Errorf("compression began %d times and ended %d times, want 5", begun.Load(), ended.Load())
	}
}

func TestKeyContainsHourNodeLogRangeAndRun(t *testing.T) {
	l := openLog(t, t.TempDir())
	fill(t, l, 2, 2)
	store := newFolder(t)
	drain(t, start(t, l, store), 0)
	logID, run := l.Identity()
	want := fmt.Sprintf("edge-1-%016x-00000000000000000001-00000000000000000002-%016x.ndjson.zst", logID, run)
	for key := range store.List(context.Background(), "") {
		at, err := time.Parse("dt=2006-01-02/hour=15", key[:strings.LastIndex(key, "/")])
		if err != nil || time.Since(at) > 2*time.Hour || !strings.HasSuffix(key, "/"+want) {
			t.Errorf("key %s, want …/%s", key, want)
		}
	}
}

func TestALostAnswerMakesNoSecondObject(t *testing.T) {
	t.Parallel()
	for name, behaviour := range map[string]s3test.Behaviour{
		"S3":                                {},
		"a storage that forgets metadata":   {NoMetadata: true},
		"a storage without conditions":      {Conditions: s3test.Refuse},
		"a storage that ignores conditions": {Conditions: s3test.Ignore},
		"a storage without metadata, conditions and CRC-32C": {Conditions: s3test.RefuseAsInvalid, NoMetadata: true, NoCRC32C: true},
	} {
		t.Run(name, func(t *testing.T) {
			f, store := newFake(t)
			var mu sync.Mutex
			lost := map[string]bool{}
			behaviour.Stored = func(key string) bool {
				mu.Lock()
				defer mu.Unlock()
				first := !lost[key]
				lost[key] = true
				return first
			}
			f.Behave(behaviour)
			l := openLog(t, t.TempDir())
			fill(t, l, 20, 10)
			drainAll(t, start(t, l, store))
			checkStoredOnce(t, store, 20)
			objects := 0
			for key, puts := range f.Puts() {
				if strings.HasPrefix(key, "data/dt=") {
					if objects++; puts != 1 {
						t.Errorf("%s was stored %d times", key, puts)
					}
				}
			}
			if objects != 2 {
				t.Errorf("%d objects for 2 segments", objects)
			}
		})
	}
}

func TestTroubleIsRetriedAndNothingIsDropped(t *testing.T) {
	f, store := newFake(t)
	var requests atomic.Int64
	f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, _ *http.Request) bool {
		switch requests.Add(1) % 4 {
		case 1:
			return s3test.Error(w, http.StatusServiceUnavailable, "SlowDown")
		case 2:
			return s3test.Error(w, http.StatusForbidden, "AccessDenied")
		}
		return false
	}})
	l := openLog(t, t.TempDir())
	fill(t, l, 30, 10)
	s := start(t, l, store)
	drainAll(t, s)
	f.Behave(s3test.Behaviour{})
	checkStoredOnce(t, store, 30)
	if st := s.Stats(); st.Failures["SlowDown"] == 0 || st.Failures["AccessDenied"] == 0 {
		t.Errorf("failures %v", st.Failures)
	}
}

func TestADamagedSegmentIsSalvagedAndItsLossNoted(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	fill(t, l, 30, 10)
	files, _ := filepath.Glob(filepath.Join(dir, "wal", "00000000000000000011-*", "*"))
	if len(files) != 1 {
		t.Fatal(files)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(files[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	missing, _ := filepath.Glob(filepath.Join(dir, "wal", "00000000000000000021-*", "*"))
	if err := os.Remove(missing[0]); err != nil {
		t.Fatal(err)
	}
	store := newFolder(t)
	s := start(t, l, store)
	for l.Stats().LossNotes > 0 || l.Ledger().Pending > 0 {
		drain(t, s, 0)
	}
	lines := storedLines(t, store)
	if len(lines) != 19 || s.Stats().Salvaged != 2 {
		t.Errorf("got %d records, want 19; stats %+v", len(lines), s.Stats())
	}
	if g := l.Ledger(); g.Shipped != 19 || g.Quarantined != 11 {
		t.Errorf("ledger %+v", g)
	}
	lost := map[uint64]bool{}
	for key, err := range store.List(context.Background(), "_collectord/lost/") {
		if err != nil {
			t.Fatal(err)
		}
		body, _, err := store.Open(context.Background(), key)
		if err != nil {
			t.Fatal(err)
		}
		var n bucket.LossNote
		err = json.NewDecoder(body).Decode(&n)
		body.Close()
		if err != nil || n.Node != "edge-1" || n.Reason != wal.LossDamaged || n.Records != n.LastSeq-n.FirstSeq+1 {
			t.Errorf("%s: %+v, %v", key, n, err)
		}
		for seq := n.FirstSeq; seq <= n.LastSeq; seq++ {
			lost[seq] = true
		}
	}
	if len(lost) != 11 {
		t.Errorf("the loss notes name %v, want 11 records", lost)
	}
	for _, line := range lines {
		if lost[uint64(line.Usage.N)+1] {
			t.Errorf("usage %d is both stored and noted as lost", line.Usage.N)
		}
	}
}

func TestIDsAreCheapOnceCompressed(t *testing.T) {
	l := openLog(t, t.TempDir())
	recs := make([]wal.Record, 20_000)
	for i := range recs {
		recs[i].Usage = []byte(`{}`)
	}
	for i := 0; i < len(recs); i += 100 {
		if err := l.Append(context.Background(), recs[i:i+100]...); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Seal(context.Background()); err != nil {
		t.Fatal(err)
	}
	segments, _ := l.Sealed()
	c, err := newCompressor(zstd.SpeedDefault)
	if err != nil {
		t.Fatal(err)
	}
	o := compressWith(t, c, segments[0])
	perRecord := float64(o.Size) / float64(len(recs))
	t.Logf("%.2f bytes a record", perRecord)
	if perRecord > 6 { // id, time and the constant parts
		t.Errorf("%.2f bytes a record", perRecord)
	}
}

func TestRunReturnsWheneverItsContextEnds(t *testing.T) {
	store := newFolder(t)
	s, err := New(openLog(t, t.TempDir()), store, Options{SpoolDir: filepath.Join(t.TempDir(), "spool")})
	if err != nil {
		t.Fatal(err)
	}
	for range 5_000 {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); s.Run(ctx) }()
		go cancel()
		select {
		case <-done:
		case <-time.After(testLimit):
			t.Fatal("Run did not return")
		}
	}
}
