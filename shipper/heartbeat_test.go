package shipper

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"collectord/shipper/bucket"
	"collectord/wal"
)

// heartbeatStore is a folder that counts heartbeats, and can fail puts.
type heartbeatStore struct {
	bucket.Store
	logID uint64

	mu           sync.Mutex // guards the fields below
	puts         []time.Time
	heartbeatErr error // for heartbeats
	otherErr     error // for all other objects
}

func (b *heartbeatStore) Put(ctx context.Context, o *bucket.Object) error {
	b.mu.Lock()
	refuse := b.otherErr
	if strings.HasPrefix(o.Key, bucket.HeartbeatPrefix) {
		b.puts = append(b.puts, time.Now())
		refuse = b.heartbeatErr
	}
	b.mu.Unlock()
	if refuse != nil {
		return refuse
	}
	return b.Store.Put(ctx, o)
}

func (b *heartbeatStore) failWith(heartbeatErr, otherErr error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.heartbeatErr, b.otherErr = heartbeatErr, otherErr
}

// takeCount returns the number of heartbeats since the last call.
func (b *heartbeatStore) takeCount() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n = len(b.puts)
	b.puts = nil
	return n
}

// runWithHeartbeats runs a shipper in a synctest bubble.
func runWithHeartbeats(t *testing.T, every time.Duration) (b *heartbeatStore, l *wal.Log, s *Shipper, logged *logBuffer, stop func()) {
	t.Helper()
	store, err := bucket.Open(bucket.Destination{URL: "file://" + filepath.Join(t.TempDir(), "archive")})
	if err != nil {
		t.Fatal(err)
	}
	if l, err = wal.Open(t.TempDir(), wal.Options{Node: "edge-1", SegmentSize: segmentSize, BoundsInterval: rareBounds}); err != nil {
		t.Fatal(err)
	}
	b, logged = &heartbeatStore{Store: store}, &logBuffer{}
	b.logID, _ = l.Identity()
	s, err = New(l, b, Options{SpoolDir: t.TempDir(), Version: "1.2.3", Limits: Limits{Heartbeat: every}, Logger: logged.logger()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(func() { stop(); _ = l.Close() })
	return b, l, s, logged, stop
}

func (b *heartbeatStore) readHeartbeat(t *testing.T) bucket.Heartbeat {
	t.Helper()
	h, err := bucket.ReadHeartbeat(context.Background(), b.Store, bucket.Key{Node: "edge-1", LogID: b.logID})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestHeartbeatsAreHourlyUnlessSomethingChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, l, s, _, stop := runWithHeartbeats(t, 5*time.Minute)
		written := 0
		for ; written == 0; written = store.takeCount() { // until the first one only, since the second is due at a random time
			time.Sleep(time.Millisecond)
		}
		if h := store.readHeartbeat(t); written != 1 || h.LastSeq != 0 || h.ConfirmedBelow != 1 || h.Pending != 0 || h.Version != "1.2.3" || len(h.Trouble) > 0 || h.Interval() != 5*time.Minute || h.Retired || time.Since(h.At) > 20*time.Second || h.RunSeconds < 10 || h.RunSeconds > 20 {
			t.Errorf("after the start: %+v", h)
		}
		time.Sleep(5 * time.Minute) // only the time and the free disk space change
		if h := store.readHeartbeat(t); store.takeCount() != 1 || h.Interval() != 65*time.Minute {
			t.Errorf("nothing has changed since the start, and the next heartbeat is due in %v, want 65m", h.Interval())
		}
		time.Sleep(54 * time.Minute)
		if n := store.takeCount(); n != 0 {
			t.Errorf("%d heartbeats in an hour in which nothing changed", n)
		}
		time.Sleep(11 * time.Minute)
		if h := store.readHeartbeat(t); store.takeCount() != 1 || h.Interval() != 65*time.Minute || h.DayUsages != 0 || h.DaySeconds < 3500 {
			t.Errorf("after an hour: %+v", h)
		}

		// A usage is appended, then shipped.
		if err := l.Append(context.Background(), wal.Record{Usage: []byte(`{}`)}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		if h := store.readHeartbeat(t); store.takeCount() != 1 || h.LastSeq != 1 || h.Interval() != 5*time.Minute || h.DayUsages != 1 {
			t.Errorf("after a usage: %+v", h)
		}
		time.Sleep(15 * time.Minute)
		if h := store.readHeartbeat(t); store.takeCount() > 2 || h.Interval() != 65*time.Minute || h.LastSeq != 1 || h.ConfirmedBelow != 2 || h.Pending != 0 || h.OldestUnshipped != 0 {
			t.Errorf("after it was shipped: %+v", h)
		}

		// While something changes, the interval is the configured one.
		s.SetLimits(Limits{Heartbeat: time.Minute})
		time.Sleep(10*time.Minute + 30*time.Second) // the next heartbeats are due in the middle of the minutes below
		store.takeCount()
		for range 10 {
			if err := l.Append(context.Background(), wal.Record{Usage: []byte(`{}`)}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		if n := store.takeCount(); n != 10 {
			t.Errorf("got %d heartbeats in ten minutes of changes, want 10", n)
		}
		s.SetLimits(Limits{})
		synctest.Wait()
		time.Sleep(3 * time.Hour)
		if n := store.takeCount(); n > 0 {
			t.Errorf("%d heartbeats while they are turned off", n)
		}
		s.SetLimits(Limits{Heartbeat: 5 * time.Minute})
		time.Sleep(5 * time.Minute)
		if n := store.takeCount(); n != 1 {
			t.Errorf("got %d heartbeats after they were turned on, want 1", n)
		}
		time.Sleep(25 * time.Hour)
		if h := store.readHeartbeat(t); h.DayUsages != 0 || h.DaySeconds < 24*3600 || h.DaySeconds > 25*3600 {
			t.Errorf("a day later: %+v", h)
		}
		stop()
		s.WriteHeartbeat(context.Background(), true)
		if h := store.readHeartbeat(t); !h.Retired || h.NextSeconds != 0 || h.LastSeq != 11 || h.ConfirmedBelow != 12 || s.Stats().Heartbeats < 13 {
			t.Errorf("at the end: %+v", h)
		}
	})
}

func TestHeartbeatReportsFailuresAndTheOldestRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, l, _, _, _ := runWithHeartbeats(t, 5*time.Minute)
		b.failWith(nil, &bucket.Error{Op: "put", Kind: "AccessDenied", Permanent: true, Err: io.EOF})
		for range 3 {
			if err := l.Append(context.Background(), wal.Record{Usage: []byte(`{}`)}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Hour)
		if h := b.readHeartbeat(t); h.LastSeq != 3 || h.ConfirmedBelow != 1 || h.Pending != 3 || !reflect.DeepEqual(h.Trouble, []bucket.Trouble{{Name: "shipping", Message: "AccessDenied"}}) {
			t.Errorf("%+v", h)
		}
		time.Sleep(2 * time.Hour)
		h := b.readHeartbeat(t)
		if age := time.Duration(h.OldestUnshipped) * time.Second; age < time.Hour || h.OldestAt().Before(time.Now().Add(-4*time.Hour)) {
			t.Errorf("the oldest record is %v old", age)
		}
		b.failWith(nil, nil)
		time.Sleep(11 * time.Minute)
		if h := b.readHeartbeat(t); len(h.Trouble) > 0 || h.ConfirmedBelow != 4 {
			t.Errorf("%+v", h)
		}
	})
}

// TestHeartbeatIncludesTheHostsTroublesAndClients: the host's text for a trouble replaces
// the shipper's. A change of clients alone causes no heartbeat.
func TestHeartbeatIncludesTheHostsTroublesAndClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, l, s, _, _ := runWithHeartbeats(t, 5*time.Minute)
		since := time.Now().UTC().Truncate(time.Second)
		seen := since
		s.opts.AddHostState = func(h *bucket.Heartbeat) {
			h.Trouble = []bucket.Trouble{{Name: "shipping", Since: &since, Message: "denied"}, {Name: "clock", Message: "is behind"}}
			seen = seen.Add(time.Second)
			h.ClientsKnown, h.Clients = 2, []bucket.Client{{Name: "ward-3", LastSeen: &seen, Usages: 7}, {Name: "never"}}
		}
		b.failWith(nil, &bucket.Error{Op: "put", Kind: "AccessDenied", Permanent: true, Err: io.EOF})
		if err := l.Append(context.Background(), wal.Record{Usage: []byte(`{}`)}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Minute)
		h := b.readHeartbeat(t)
		if len(h.Trouble) != 2 || h.Trouble[0].Message != "denied" || !h.Trouble[0].Since.Equal(since) || h.Trouble[1].Name != "clock" || h.Trouble[1].Since != nil {
			t.Errorf("%+v", h.Trouble)
		}
		if h.ClientsKnown != 2 || h.Clients[0].Name != "ward-3" || h.Clients[0].LastSeen.IsZero() || h.Clients[0].Usages != 7 || h.Clients[1].LastSeen != nil {
			t.Errorf("%+v", h.Clients)
		}
		b.takeCount()
		time.Sleep(30 * time.Minute)
		if n := b.takeCount(); n > 0 {
			t.Errorf("got %d heartbeats while only clients change, want 0", n)
		}
	})
}

// TestRejectedHeartbeatsLogOneWarningAndDelayNoUpload checks that uploads continue.
func TestRejectedHeartbeatsLogOneWarningAndDelayNoUpload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, l, s, logged, _ := runWithHeartbeats(t, time.Minute)
		b.failWith(&bucket.Error{Op: "put", Kind: "AccessDenied", Permanent: true, Err: errors.New("refused")}, nil)
		for range 20 {
			if err := l.Append(context.Background(), wal.Record{Usage: []byte(`{}`)}); err != nil {
				t.Fatal(err)
			}
			if err := l.Seal(context.Background()); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if n := l.Ledger().Pending; n != 0 {
				t.Fatalf("%d records are pending, although only heartbeats fail", n)
			}
			time.Sleep(time.Minute)
		}
		st := s.Stats()
		if n := strings.Count(logged.text(), "level=WARN"); n != 1 || !strings.Contains(logged.text(), "no heartbeat was written") || strings.Contains(logged.text(), "level=ERROR") {
			t.Errorf("%d warnings: %s", n, logged.text())
		}
		if st.HeartbeatFailures < 18 || st.Heartbeats != 0 || st.Objects != 20 || slices.ContainsFunc([]string{"AccessDenied", "local", "other"}, func(k string) bool { return st.Failures[k] > 0 }) {
			t.Errorf("%+v", st)
		}
		b.failWith(nil, nil)
		time.Sleep(2 * time.Minute)
		if h := b.readHeartbeat(t); len(h.Trouble) > 0 || strings.Count(logged.text(), "heartbeats are written again") != 1 {
			t.Errorf("%+v: %s", h, logged.text())
		}
	})
}

// TestTwoHostsThatShareANameDetectThatTheyShareALog lets a copy of the host write the
// heartbeat for a while. An old heartbeat from a cache does not count as another host's.
func TestTwoHostsThatShareANameDetectThatTheyShareALog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, l, s, logged, stop := runWithHeartbeats(t, 5*time.Minute)
		writeHeartbeat := func(run uint64, at time.Time) {
			t.Helper()
			o, err := bucket.NewHeartbeat(bucket.Key{Node: "edge-1", LogID: b.logID, Run: run}, bucket.Heartbeat{ConfirmedBelow: 1, At: at})
			if err == nil {
				err = b.Store.Put(t.Context(), o)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		appendUsage := func() {
			t.Helper()
			if err := l.Append(context.Background(), wal.Record{Usage: []byte(`{}`)}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Minute)
		}
		expect := func(when string, cloned bool, warned, over int) {
			t.Helper()
			text := logged.text()
			if h := b.readHeartbeat(t); h.Cloned != cloned || strings.Count(text, "another host writes this log, too") != warned || strings.Count(text, "no other host writes this log") != over {
				t.Errorf("%s: cloned %v, %s", when, h.Cloned, text)
			}
		}
		before := time.Now().Add(-time.Hour)
		writeHeartbeat(1, before)
		time.Sleep(20 * time.Second)
		appendUsage()
		expect("after the start", false, 0, 0)
		writeHeartbeat(1, before)
		appendUsage()
		expect("the previous run's heartbeat, from a cache", false, 0, 0)
		writeHeartbeat(2, time.Now())
		appendUsage()
		expect("a copy", true, 1, 0)
		appendUsage()
		expect("the copy writes no more", true, 1, 0)
		writeHeartbeat(1, time.Now())
		appendUsage()
		expect("a copy of the previous run", true, 2, 0)
		time.Sleep(2 * clonedFor)
		appendUsage()
		expect("the copy is gone", false, 2, 1)
		stop()
		s.WriteHeartbeat(t.Context(), true)
		expect("retired", false, 2, 1)
	})
}
