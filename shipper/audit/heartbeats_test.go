package audit

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	"collectord/shipper/bucket"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// putObject puts an object with the key of these records, but other content.
func (b testBucket) putObject(node string, log, run, first, last uint64, hour time.Time) {
	b.t.Helper()
	k := bucket.Key{Node: node, LogID: log, Run: run, FirstSeq: first, LastSeq: last, Hour: bucket.HourOf(hour)}
	b.put(k.String(), []byte("x"), bucket.Metadata{})
}

// putHeartbeat puts a heartbeat of run 1. The storage accepts it at the heartbeat's time.
func (b testBucket) putHeartbeat(node string, log uint64, h bucket.Heartbeat) {
	b.t.Helper()
	b.putHeartbeatOf(bucket.Key{Node: node, LogID: log, Run: 1}, h)
}

func (b testBucket) putHeartbeatOf(k bucket.Key, h bucket.Heartbeat) {
	b.t.Helper()
	o, err := bucket.NewHeartbeat(k, h)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.store.Put(context.Background(), o); err != nil {
		b.t.Fatal(err)
	}
	if b.touch != nil {
		b.touch(k.HeartbeatKey(), h.At)
	}
}

// TestHeartbeatsRevealRecordsThatNeverArrived runs also in a folder, whose objects have no
// confirmed seq.
func TestHeartbeatsRevealRecordsThatNeverArrived(t *testing.T) {
	t.Parallel()
	_, fake := newFake(t)
	for name, b := range map[string]testBucket{"S3": fake, "folder": newFolder(t)} {
		hours := func(n int) time.Time { return noon.Add(time.Duration(-n) * time.Hour) }
		b.putObject("n", 7, 1, 1, 10, hours(60))
		b.putObject("n", 7, 1, 21, 30, hours(50))
		b.putHeartbeat("n", 7, bucket.Heartbeat{LastSeq: 30, ConfirmedBelow: 11, Pending: 10, OldestUnshipped: 3600, At: noon})
		b.checkFindings(Options{Now: noon}, true, "overdue 11-20") // received before the stored records

		b.putHeartbeat("n", 7, bucket.Heartbeat{LastSeq: 50, ConfirmedBelow: 31, Pending: 20, OldestUnshipped: 3600, At: noon})
		r := b.checkFindings(Options{Now: noon}, true, "missing 11-20", "not_yet 31-50")
		if r.Unconfirmed != 0 || r.Heartbeats != 1 || r.Logs[0].ConfirmedBelow != 31 || r.Logs[0].Heartbeat.LastSeq != 50 {
			t.Errorf("%s: %+v", name, r)
		}
		// The host is alive but can't ship: its heartbeat is recent, and its oldest record is
		// old.
		b.putHeartbeat("n", 7, bucket.Heartbeat{LastSeq: 50, ConfirmedBelow: 31, Pending: 20, OldestUnshipped: 30 * 3600, At: noon})
		b.checkFindings(Options{Now: noon}, true, "missing 11-20", "overdue 31-50")
		r = b.checkFindings(Options{Now: noon, Grace: 31 * time.Hour}, true, "missing 11-20", "not_yet 31-50")
		if f := r.Findings[1]; !f.Since.Equal(noon.Add(-30*time.Hour)) || !f.Heartbeat.Equal(noon) || f.Reason != "" {
			t.Errorf("%s: %+v", name, f)
		}
		// The host is dead.
		b.putHeartbeat("n", 7, bucket.Heartbeat{LastSeq: 50, ConfirmedBelow: 31, Pending: 20, OldestUnshipped: 60, At: hours(48)})
		b.checkFindings(Options{Now: noon}, true, "missing 11-20", "overdue 31-50")
		// The newest objects were deleted.
		b.putHeartbeat("n", 7, bucket.Heartbeat{LastSeq: 50, ConfirmedBelow: 41, At: noon})
		b.checkFindings(Options{Now: noon}, true, "missing 11-20", "missing 31-40", "not_yet 41-50")
	}
}

func TestALogWhoseObjectsAreAllGoneIsReported(t *testing.T) {
	t.Parallel()
	b := newFolder(t)
	b.putObject("other", 8, 1, 1, 10, noon)
	b.putHeartbeat("n", 7, bucket.Heartbeat{LastSeq: 50, ConfirmedBelow: 41, Pending: 10, At: noon})
	r := b.checkFindings(Options{Now: noon}, true, "gone 1-40", "not_yet 41-50")
	if f := r.Findings[0]; f.Node != "n" || f.LogID != "0000000000000007" || !f.Heartbeat.Equal(noon) {
		t.Errorf("%+v", f)
	}
	// Nothing of the log was ever shipped.
	b.putHeartbeat("n", 7, bucket.Heartbeat{LastSeq: 50, ConfirmedBelow: 1, Pending: 50, OldestUnshipped: 25 * 3600, At: noon})
	b.checkFindings(Options{Now: noon}, true, "overdue 1-50")
	// The log has no records yet.
	b.putHeartbeat("n", 7, bucket.Heartbeat{ConfirmedBelow: 1, At: noon})
	b.checkFindings(Options{Now: noon}, false)
	// The host was retired long ago, and all its objects have expired.
	b.putHeartbeat("n", 7, bucket.Heartbeat{LastSeq: 50, ConfirmedBelow: 51, Retired: true, At: noon})
	b.checkFindings(Options{Now: noon}, false, "earlier 1-50")
}

func TestAHeartbeatDescribesOnlyItsRun(t *testing.T) {
	t.Parallel()
	b := newFolder(t)
	for run := range uint64(2) {
		b.putObject("n", 7, 1+run, 1, 10, noon)
		b.putObject("n", 7, 1+run, 21, 30, noon)
	}
	b.putHeartbeat("n", 7, bucket.Heartbeat{LastSeq: 30, ConfirmedBelow: 31, At: noon}) // from run 1
	_, r := b.findings(Options{Now: noon})
	var got []string
	for _, f := range r.Findings {
		got = append(got, fmt.Sprint(f.Kind, " ", f.FirstSeq, " ", f.Runs))
	}
	want := "[missing 11 [0000000000000001] forked 1 [0000000000000001 0000000000000002] not_yet 11 [0000000000000002]]"
	if fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
}

func TestADamagedHeartbeatIsReportedAndIgnored(t *testing.T) {
	t.Parallel()
	b := newFolder(t)
	b.putObject("n", 7, 1, 1, 10, noon)
	b.putHeartbeat("n", 7, bucket.Heartbeat{LastSeq: 50, ConfirmedBelow: 41, At: noon})
	key := bucket.Key{Node: "n", LogID: 7}.HeartbeatKey()
	b.replace(key, []byte(`{"last_seq":9999}`), bucket.Metadata{})
	b.put(bucket.HeartbeatPrefix+"notes.txt", []byte("of somebody else"), bucket.Metadata{})
	if r := b.checkFindings(Options{Now: noon}, false, "foreign"); r.Heartbeats != 0 || r.Findings[0].Keys[0] != key || r.Findings[0].Reason == "" {
		t.Errorf("%+v", r)
	}
}

func TestAnEmptyAuditIsWrong(t *testing.T) {
	t.Parallel()
	b := newFolder(t)
	if r := b.checkFindings(Options{}, true, "nothing"); !strings.Contains(r.Findings[0].Reason, b.store.String()) {
		t.Errorf("%+v", r.Findings)
	}
	b.put("dt=2026-11-23/hour=08/notes.ndjson.zst", []byte("of somebody else"), bucket.Metadata{})
	b.putHeartbeat("n", 7, bucket.Heartbeat{ConfirmedBelow: 1, At: noon})
	b.checkFindings(Options{}, true, "nothing", "foreign")
	b.putObject("n", 7, 1, 1, 10, noon)
	b.putObject("other", 8, 1, 11, 20, noon)
	b.checkFindings(Options{}, false, "earlier 1-10", "foreign")
	if r := b.checkFindings(Options{Node: "n"}, false); r.Objects != 1 || len(r.Logs) != 1 {
		t.Errorf("%+v", r)
	}
	b.checkFindings(Options{Node: "other"}, false, "earlier 1-10")
	b.checkFindings(Options{Node: "othr"}, true, "nothing") // a filter without a match
}

func TestExpectedNodesMustHaveObjectsOrRecentHeartbeats(t *testing.T) {
	t.Parallel()
	b := newFolder(t)
	b.putObject("quiet", 7, 1, 1, 10, noon) // heartbeats are turned off there
	b.putObject("well", 8, 1, 1, 10, noon)
	b.putHeartbeat("well", 8, bucket.Heartbeat{LastSeq: 10, ConfirmedBelow: 11, At: noon.Add(-time.Hour)})
	b.putHeartbeat("new", 9, bucket.Heartbeat{ConfirmedBelow: 1, At: noon})
	b.putObject("dead", 10, 1, 1, 10, noon)
	b.putHeartbeat("dead", 10, bucket.Heartbeat{LastSeq: 10, ConfirmedBelow: 11, At: noon.Add(-4 * time.Hour)})
	b.putHeartbeat("retired", 11, bucket.Heartbeat{ConfirmedBelow: 1, Retired: true, At: noon.Add(-4 * time.Hour)})
	b.putHeartbeat("ahead", 12, bucket.Heartbeat{ConfirmedBelow: 1, At: noon.Add(40 * time.Hour)})
	b.putHeartbeat("renamed", 13, bucket.Heartbeat{ConfirmedBelow: 1, At: noon.Add(-5 * time.Hour)})
	b.putHeartbeat("another", 13, bucket.Heartbeat{ConfirmedBelow: 1, At: noon})
	_, r := b.findings(Options{Now: noon})
	if r.Wrong() {
		t.Fatalf("%+v", r.Findings)
	}
	r.Expect([]string{"quiet", "well", "new", "another"}, 3*time.Hour, noon)
	if r.Wrong() {
		t.Errorf("%+v", r.Findings)
	}
	for node, want := range map[string]struct {
		kind   Kind
		reason string
	}{
		"nobody": {Absent, "no heartbeat"}, "dead": {Silent, "away"}, "retired": {Silent, "retired"}, "ahead": {Silent, "ahead"}, "renamed": {Silent, "away"},
	} {
		_, r := b.findings(Options{Now: noon})
		r.Expect([]string{"well", node}, 3*time.Hour, noon)
		if f := r.Findings[0]; len(r.Findings) != 1 || f.Kind != want.kind || f.Node != node || !strings.Contains(f.Reason, want.reason) || !r.Wrong() {
			t.Errorf("%s: %+v", node, r.Findings)
		}
	}
}

// TestHeartbeatsOfRealHosts ships from a log, and evaluates its last heartbeat.
func TestHeartbeatsOfRealHosts(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, b testBucket) {
		dir := t.TempDir()
		shipAndRetire(t, dir, b.store, 40, 10)
		r := b.checkFindings(Options{FromStart: true, Deep: true}, false)
		if h := r.Logs[0].Heartbeat; r.Heartbeats != 1 || !h.Retired || h.LastSeq != 40 || h.ConfirmedBelow != 41 || h.Node != "edge-1" {
			t.Errorf("%+v", h)
		}
		b.remove(b.keyOfSeq(11))
		b.remove(b.keyOfSeq(31))
		b.checkFindings(Options{}, true, "missing 11-20", "missing 31-40")
		b.remove(b.keyOfSeq(1))
		b.remove(b.keyOfSeq(21))
		b.checkFindings(Options{}, true, "nothing", "earlier 1-40") // expired, since the host was retired
	})
}

// changingStore is a store that changes while it is listed.
type changingStore struct {
	bucket.Store
	meanwhile func()
}

func (b *changingStore) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for key, err := range b.Store.List(ctx, prefix) {
			if !yield(key, err) {
				return
			}
		}
		if prefix == bucket.DataPrefix {
			b.meanwhile()
		}
	}
}

func TestRecordsShippedDuringAnAuditAreNotMissing(t *testing.T) {
	t.Parallel()
	b := newFolder(t)
	b.putObject("n", 7, 1, 1, 10, noon)
	b.putHeartbeat("n", 7, bucket.Heartbeat{LastSeq: 10, ConfirmedBelow: 11, At: noon})
	r, err := Run(context.Background(), &changingStore{b.store, func() {
		b.putObject("n", 7, 1, 11, 20, noon)
		b.putHeartbeat("n", 7, bucket.Heartbeat{LastSeq: 20, ConfirmedBelow: 21, At: noon})
	}}, Options{Now: noon})
	if err != nil || len(r.Findings) > 0 {
		t.Errorf("%+v, %v", r.Findings, err)
	}
}
