package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"collectord/collectord/testrun"
)

// testLimit is the time that a test waits for an expected event. It is much longer than
// a busy machine needs.
const testLimit = 2 * time.Minute

// rareBounds is BoundsInterval for tests that simulate a long time, of which these
// measurements would be most of the work. With TEST_ALL=1 it is the default.
var rareBounds = time.Duration(testrun.OneIn(60)) * boundsInterval

// usage returns usage number i.
func usage(i int) []byte { return fmt.Appendf(nil, `{"patientId":"%d"}`, i) }

func openLog(t *testing.T, dir string, o Options) *Log {
	t.Helper()
	testrun.WaitPastHourEnd()
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	if o.SegmentSize == 0 {
		o.SegmentSize = 32 << 10 // writing zeros ahead takes time
	}
	l, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil && !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
	return l
}

func mustAppend(t *testing.T, l *Log, recs ...Record) {
	t.Helper()
	if err := l.Append(context.Background(), recs...); err != nil {
		t.Fatal(err)
	}
}

func mustClose(t *testing.T, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func mustSeal(t *testing.T, l *Log) {
	t.Helper()
	if err := l.Seal(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// readAll returns copies of all sealed records. It checks that their seqs have no gap
// and that their ids rise within each run.
func readAll(t *testing.T, l *Log) (all []Record) {
	t.Helper()
	segments, _ := l.Sealed()
	var lastID ID
	var lastRun uint64
	for _, s := range segments {
		h, err := s.Header()
		if err != nil {
			t.Fatal(err)
		}
		if h.Run != lastRun {
			lastRun, lastID = h.Run, ID{}
		}
		n := 0
		for r, err := range s.Records() {
			if err != nil {
				t.Fatal(err)
			}
			if len(all) > 0 && r.Seq != all[len(all)-1].Seq+1 {
				t.Fatalf("seq %d follows %d", r.Seq, all[len(all)-1].Seq)
			}
			if r.ID[6]>>4 == 7 {
				if bytes.Compare(r.ID[:], lastID[:]) <= 0 {
					t.Fatalf("id %s follows %s", r.ID, lastID)
				}
				lastID = r.ID
			}
			c := *r
			c.Usage = bytes.Clone(r.Usage)
			all = append(all, c)
			n++
		}
		if n != s.Count() {
			t.Fatalf("segment %s has %d records", s, n)
		}
	}
	return all
}

// checkLedger asserts the three identities of the ledger.
func checkLedger(t *testing.T, l *Log) Ledger {
	t.Helper()
	g := l.Ledger()
	sum := func(m map[string]uint64) (n uint64) {
		for _, v := range m {
			n += v
		}
		return n
	}
	var appended uint64
	for s, d := range g.BySource {
		if d.Received != d.Accepted+sum(d.Rejected) {
			t.Errorf("%s: received does not balance: %+v", Source(s), d)
		}
		if d.Accepted != d.Appended+d.Repeated+sum(d.Dropped)+d.Waiting {
			t.Errorf("%s: accepted does not balance: %+v", Source(s), d)
		}
		appended += d.Appended
	}
	if appended+g.Recovered != g.Pending+g.Shipped+g.Quarantined+g.Evicted {
		t.Errorf("appended does not balance: %+v", g)
	}
	return g
}

// until waits until done returns true.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(testLimit)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting until %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}
