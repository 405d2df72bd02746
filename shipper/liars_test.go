package shipper

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"collectord/shipper/bucket"
	"collectord/shipper/bucket/s3test"
	"collectord/wal"
)

// TestALiarLosesNothingUnseen ships through a storage that lies at random. A consumer
// deletes objects, and the daemon restarts now and then. Ten times Keep after the last
// usage, the log is empty, and every record is in the bucket once or was reported as
// vanished. See forEachCondition for records that may be stored twice.
func TestALiarLosesNothingUnseen(t *testing.T) {
	forEachCondition(t, func(t *testing.T, conditions, segments int) {
		synctest.Test(t, func(t *testing.T) { testLiar(t, rand.Uint64(), conditions, segments) })
	})
}

// liar is a storage that lies in a few of its answers. It tells only lies that a look can
// detect: later losses are not noticed.
type liar struct {
	fake       *s3test.Pipe
	conditions int

	mu   sync.Mutex // guards the fields below
	rand *rand.Rand
	lies map[string]int
}

func (l *liar) draw(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rand.IntN(n)
}

func (l *liar) countLie(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lies[name]++
}

// delayBeforeLook returns a random time that ends before the look at an object that is put now.
func (l *liar) delayBeforeLook() time.Duration {
	return time.Second + time.Duration(l.draw(int(testKeep/2)))
}

// behaviourFor returns the behaviour for a request.
func (l *liar) behaviourFor(r *http.Request) s3test.Behaviour {
	b := s3test.Behaviour{Conditions: l.conditions}
	fail := func(name string, how func(w http.ResponseWriter) bool) {
		l.countLie(name)
		b.Fault = func(w http.ResponseWriter, r *http.Request) bool {
			_, _ = io.Copy(io.Discard, r.Body)
			return how(w)
		}
	}
	key, object := strings.CutPrefix(r.URL.Path, "/"+s3test.Bucket+"/")
	switch l.draw(40) { // for any request
	case 0:
		fail("500", func(w http.ResponseWriter) bool {
			return s3test.Error(w, http.StatusInternalServerError, "InternalError")
		})
		return b
	case 1:
		fail("503", func(w http.ResponseWriter) bool { return s3test.Error(w, http.StatusServiceUnavailable, "SlowDown") })
		return b
	case 2:
		fail("reset", s3test.Abort)
		return b
	}
	if !object || !strings.Contains(key, "/dt=") { // requests about the storage itself are answered truthfully
		return b
	}
	n := l.draw(60)
	if r.Method == http.MethodGet {
		if name, ok := [...]string{1: "breaks off", 2: "reads part", 3: "reads twice", 4: "reads another"}, n >= 1 && n <= 4; ok {
			l.countLie(name[n])
			b.Read = s3test.ReadLie(n)
		}
		return b
	}
	if r.Method != http.MethodPut {
		return b
	}
	switch lies := []struct {
		lie  s3test.Lie
		name string
	}{
		{s3test.ConfirmsNothing, "confirms nothing stored"},
		{s3test.ConfirmsHalf, "confirms half a body"},
		{s3test.ConfirmsTwice, "confirms a body twice"},
		{s3test.ConfirmsGarbled, "confirms changed bytes"},
		{s3test.ConfirmsOther, "confirms another body"},
		{s3test.KeepsNothing, "keeps nothing"},
		{s3test.WrongChecksum, "wrong checksum"},
		{s3test.TruncatesHonestly, "cuts off"},
		{s3test.Page, "login page"},
		{s3test.ErrorBody, "error in a 200"},
	}; {
	case n < len(lies):
		l.countLie(lies[n].name)
		b.Lie = lies[n].lie
	case n < 15:
		l.countLie("forgets")
		b.Forget = l.delayBeforeLook()
	case n < 20:
		l.countLie("answer lost")
		b.Stored = func(string) bool { return true }
	case n < 25: // the consumer
		l.countLie("consumed")
		taken := l.delayBeforeLook()
		b.Stored = func(key string) bool {
			time.AfterFunc(taken, func() { l.fake.Put(key, nil) })
			return false
		}
	}
	return b
}

func testLiar(t *testing.T, seed uint64, conditions, segments int) {
	const recordsPerSegment = 2
	l := &liar{fake: s3test.NewPipe(), conditions: conditions, rand: rand.New(rand.NewPCG(seed, 0)), lies: map[string]int{}}
	fail := func(format string, args ...any) {
		t.Helper()
		t.Errorf("seed %d: %s", seed, fmt.Sprintf(format, args...))
	}
	l.fake.Behave(s3test.Behaviour{Each: l.behaviourFor})
	store := testS3(t, l.fake.URL, s3test.Bucket+"/data", func(o *bucket.S3Options) { o.Dial, o.Logger = l.fake.Dial, slog.New(slog.DiscardHandler) })
	dir := t.TempDir()
	var logged logBuffer
	var log *wal.Log
	var ship *Shipper
	var reshipped, vanished uint64
	var stop func()
	start := func() {
		var err error
		if log, err = wal.Open(dir, wal.Options{Node: "edge-1", SealAfter: time.Hour, SegmentSize: 1 << 20, BoundsInterval: rareBounds}); err != nil {
			t.Fatal(err)
		}
		ship, err = New(log, store, Options{SpoolDir: filepath.Join(dir, "spool"), Logger: logged.logger(), Limits: Limits{Keep: testKeep, Concurrency: 4}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() { defer close(ended); ship.Run(ctx) }()
		stop = func() {
			cancel()
			<-ended
			st := ship.Stats()
			reshipped, vanished = reshipped+st.Reshipped, vanished+st.Vanished
			if n := log.Stats().KeptCutShort; n > 0 { // a segment that is removed early is not looked at
				fail("%d segments were removed early: the disk of the test has no room", n)
			}
			if err := log.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	start()
	for i := range segments {
		for j := range recordsPerSegment {
			if err := log.Append(t.Context(), wal.Record{Usage: fmt.Appendf(nil, `{"n":%d}`, recordsPerSegment*i+j)}); err != nil {
				t.Fatal(err)
			}
		}
		if err := log.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(l.draw(200)) * time.Millisecond)
		if l.draw(segments) < 4 {
			stop()
			start()
		}
	}
	time.Sleep(10 * testKeep)
	synctest.Wait()
	l.fake.Behave(s3test.Behaviour{})
	if s, g := log.Stats(), log.Ledger(); s.SealedSegments+s.KeptSegments+s.LossNotes > 0 || g.Pending > 0 || len(ship.keeper.waiting) > 0 {
		fail("the log is not empty: %d sealed, %d kept, %d pending; %v", s.SealedSegments, s.KeptSegments, g.Pending, ship.Stats().Failures)
	}
	stop()
	reported := reportedVanished(t, logged.text())
	if uint64(len(reported)) < vanished*recordsPerSegment {
		fail("only %d vanished records were reported, for %d segments", len(reported), vanished)
	}
	keyOfSeq := map[uint64]string{}
	damagedObjects, doubledRecords, replaces := 0, 0, conditions == s3test.Honour || conditions == s3test.Ignore
	for key := range l.fake.Objects() {
		k, ok := bucket.ParseKey(strings.TrimPrefix(key, "data/"))
		if !ok {
			continue
		}
		if problemOf(t, store, k) != "" { // only readable objects count
			damagedObjects++
			continue
		}
		for seq := k.FirstSeq; seq <= k.LastSeq; seq++ {
			if other, ok := keyOfSeq[seq]; ok {
				if replaces || !reportedBeside(logged.text(), key) {
					fail("seq %d is in both %s and %s", seq, other, key)
				}
				doubledRecords++
			}
			keyOfSeq[seq] = key
		}
	}
	for seq := uint64(1); seq <= uint64(recordsPerSegment*segments); seq++ {
		if keyOfSeq[seq] == "" && !reported[seq] {
			about := ""
			for line := range strings.Lines(logged.text()) {
				if strings.Contains(line, fmt.Sprintf("-%020d-", seq)) {
					about += line
				}
			}
			fail("seq %d is not in the bucket and was not reported; the log:\n%s", seq, about)
		}
	}
	l.fake.Close()
	t.Logf("seed %d: %d segments, %d requests, shipped again %d, vanished %d, damaged objects %d, records in a reported second copy %d; lies %v; failures of the last run %v",
		seed, segments, l.fake.Requests(), reshipped, vanished, damagedObjects, doubledRecords, l.lies, ship.Stats().Failures)
}

// reportedVanished returns the seqs that were logged as vanished.
func reportedVanished(t *testing.T, logged string) map[uint64]bool {
	t.Helper()
	all := map[uint64]bool{}
	for line := range strings.Lines(logged) {
		if !strings.Contains(line, "trouble=vanished") || !strings.Contains(line, "level=WARN") {
			continue
		}
		k, ok := bucket.ParseKey(vanishedKey.FindStringSubmatch(line)[1])
		if !ok {
			t.Errorf("the line has no key: %s", line)
		}
		for seq := k.FirstSeq; seq <= k.LastSeq; seq++ {
			all[seq] = true
		}
	}
	return all
}

var vanishedKey = regexp.MustCompile(`key="?([^" ]+)`)

// reportedBeside reports whether a damaged copy of the object, and another one beside it,
// were logged.
func reportedBeside(logged, key string) bool {
	name, _, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(key, "data/"), bucket.Suffix), "~")
	for line := range strings.Lines(logged) {
		if strings.Contains(line, "trouble=damaged") && strings.Contains(line, "stored beside it") && strings.Contains(line, name+"~") {
			return true
		}
	}
	return false
}

// problemOf returns why an object contradicts its key; empty if it does not.
func problemOf(t *testing.T, store bucket.Store, k bucket.Key) string {
	t.Helper()
	v, err := bucket.NewVerifier()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	c, err := v.Read(t.Context(), store, k.String())
	if err != nil {
		t.Fatal(err)
	}
	return c.Problem(k)
}
