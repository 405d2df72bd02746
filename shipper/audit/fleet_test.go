package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"collectord/shipper/bucket"
	"collectord/shipper/bucket/s3test"
	"collectord/wal"
)

// hostLines returns a line for each host of a fleet. It consists of everything that is wrong, or
// otherwise the state, then node and log.
func hostLines(f *Fleet) (lines []string) {
	for _, h := range f.Hosts {
		state := string(h.State)
		for i, k := range h.Wrong {
			if i > 0 {
				state += "+" + string(k)
			}
		}
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %s %s", state, h.Node, strings.TrimLeft(h.LogID, "0"))))
	}
	return lines
}

func checkFleet(t *testing.T, stores []bucket.Store, o FleetOptions, wrong bool, want ...string) *Fleet {
	t.Helper()
	o.Now = noon
	f, err := RunFleet(context.Background(), stores, o)
	if err != nil {
		t.Fatal(err)
	}
	if got := hostLines(f); !slices.Equal(got, want) || f.Wrong() != wrong {
		t.Errorf("%+v: wrong: %v\n  %s\nwant\n  %s", o, f.Wrong(), strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
	for _, h := range f.Hosts {
		if _, err := json.Marshal(h); err != nil || len(h.Wrong) > 0 != h.State.Wrong() {
			t.Errorf("%+v: %v", h, err)
		}
	}
	return f
}

func ago(d time.Duration) time.Time { return noon.Add(-d) }

const days = 24 * time.Hour

var logFull = []bucket.Trouble{{Name: "log", Message: "full"}}

func TestHeartbeatsDetermineTheStatesOfAFleet(t *testing.T) {
	t.Parallel()
	_, fake := newFake(t)
	for name, b := range map[string]testBucket{"S3": fake, "folder": newFolder(t)} {
		t.Run(name, func(t *testing.T) {
			b.t = t
			well := bucket.Heartbeat{LastSeq: 10, ConfirmedBelow: 11, Version: "1.2", At: ago(time.Minute)}
			b.putHeartbeat("well", 10, well)
			stores := []bucket.Store{b.store}
			checkFleet(t, stores, FleetOptions{}, false, "fine well a")

			b.putHeartbeat("silent", 2, bucket.Heartbeat{LastSeq: 10, ConfirmedBelow: 11, At: ago(4 * time.Hour)})
			b.putHeartbeat("ahead", 3, bucket.Heartbeat{ConfirmedBelow: 1, At: ago(-4 * time.Hour)})
			b.putHeartbeat("troubled", 4, bucket.Heartbeat{ConfirmedBelow: 1, Trouble: logFull, At: noon})
			b.putHeartbeat("waits", 5, bucket.Heartbeat{LastSeq: 20, ConfirmedBelow: 11, Pending: 10, OldestUnshipped: 23 * 3600, At: ago(time.Minute)})
			b.putHeartbeat("overdue", 6, bucket.Heartbeat{LastSeq: 20, ConfirmedBelow: 11, Pending: 10, OldestUnshipped: 24 * 3600, At: ago(time.Hour)})
			b.putHeartbeat("dead", 7, bucket.Heartbeat{LastSeq: 20, ConfirmedBelow: 11, Pending: 10, Trouble: logFull, At: ago(40 * days)})
			b.putHeartbeat("retired", 8, bucket.Heartbeat{ConfirmedBelow: 1, Retired: true, At: ago(4 * days)})
			b.putHeartbeat("away", 9, bucket.Heartbeat{LastSeq: 10, ConfirmedBelow: 11, Trouble: logFull, At: ago(31 * days)})
			b.putHeartbeat("well", 1, bucket.Heartbeat{LastSeq: 10, ConfirmedBelow: 11, Trouble: logFull, At: ago(5 * time.Hour)}) // written before data_dir was made again
			b.putHeartbeat("well", 11, bucket.Heartbeat{LastSeq: 10, ConfirmedBelow: 11, At: ago(-50 * time.Hour)})                // written while its clock was ahead
			b.putHeartbeat("well", 14, bucket.Heartbeat{ConfirmedBelow: 1, At: ago(31 * days)})
			b.putHeartbeat("renamed", 12, bucket.Heartbeat{ConfirmedBelow: 1, At: ago(5 * time.Hour)}) // the host before it was renamed to "another"
			b.putHeartbeat("another", 12, bucket.Heartbeat{ConfirmedBelow: 1, At: noon})
			b.putHeartbeat("before", 13, bucket.Heartbeat{ConfirmedBelow: 1, At: ago(5 * time.Hour)})
			b.putHeartbeat("newer", 13, bucket.Heartbeat{ConfirmedBelow: 1, At: noon})
			f := checkFleet(t, stores, FleetOptions{}, true,
				"silent ahead 3", "silent silent 2", "overdue dead 7", "overdue overdue 6", "trouble troubled 4",
				"fine another c", "fine newer d", "fine waits 5", "fine well a", "retired retired 8", "replaced well 1", "replaced well b", "away away 9", "away well e")
			if f.Heartbeats != 16 || f.Nodes() != 11 || f.Count[Fine] != 4 || f.Count[Silent] != 2 || f.Objects != 0 {
				t.Errorf("%+v, got %d nodes", f, f.Nodes())
			}
			by := map[string]*Host{}
			for _, h := range f.Hosts {
				by[h.LogID[15:]] = h
				if h.OutOfService() != (h.State == Retired || h.State == Away) {
					t.Errorf("%+v", h)
				}
			}
			if h := by["a"]; *h.HeardSeconds != 60 || h.WaitingSeconds != nil || h.Heartbeat.Version != "1.2" || h.Destination != "" {
				t.Errorf("%+v", h)
			}
			if h := by["6"]; *h.HeardSeconds != 3600 || *h.WaitingSeconds != 25*3600 {
				t.Errorf("%+v", h)
			}
			if h := by["3"]; *h.HeardSeconds != -4*3600 || !strings.Contains(h.Reason, "ahead") {
				t.Errorf("%+v", h)
			}

			// Options change the result.
			checkFleet(t, stores, FleetOptions{Node: "waits", Grace: time.Hour}, true, "overdue waits 5")
			checkFleet(t, stores, FleetOptions{Node: "silent", SilentFor: 4 * time.Hour}, false, "fine silent 2")
			checkFleet(t, stores, FleetOptions{Node: "nobody"}, true, "absent nobody")
			known := parseAccepted(t, "0000000000000006 11-15 alice the disk was replaced\n0000000000000007 11-20 alice the host burnt down")
			if f := checkFleet(t, stores, FleetOptions{Node: "dead", Accepted: known}, false, "away dead 7"); f.Hosts[0].OutOfService() {
				t.Error("a host with pending records is out of service")
			}
			checkFleet(t, stores, FleetOptions{Node: "overdue", Accepted: known}, true, "overdue overdue 6") // the acceptance covers only a part
			checkFleet(t, stores, FleetOptions{Expected: []string{"well", "retired", "away", "nobody", "nobody"}, SilentFor: 5 * time.Hour}, true,
				"absent nobody", "silent+trouble away 9", "silent retired 8", "overdue dead 7", "overdue overdue 6", "trouble troubled 4", "trouble well 1",
				"fine ahead 3", "fine another c", "fine newer d", "fine silent 2", "fine waits 5", "fine well a", "replaced well b", "away well e")
		})
	}
}

// TestAHeartbeatFromTheFutureDoesNotHideALaterOne: the host had a wrong clock at first.
// After the clock was corrected, the host was renamed or got a new log.
func TestAHeartbeatFromTheFutureDoesNotHideALaterOne(t *testing.T) {
	t.Parallel()
	b := newFolder(t)
	well := bucket.Heartbeat{LastSeq: 10, ConfirmedBelow: 11, At: ago(time.Minute)}
	ahead := bucket.Heartbeat{LastSeq: 5, ConfirmedBelow: 6, At: ago(-400 * days)}
	b.putObject("renamed", 1, 1, 1, 10, noon)
	b.putObject("anew", 2, 1, 1, 5, noon)
	b.putObject("anew", 3, 1, 1, 10, noon)
	b.putHeartbeat("factory", 1, ahead)
	b.putHeartbeat("renamed", 1, well)
	b.putHeartbeat("anew", 2, ahead)
	b.putHeartbeat("anew", 3, well)
	stores := []bucket.Store{b.store}
	expected := []string{"renamed", "anew"}
	for _, holes := range []bool{false, true} {
		checkFleet(t, stores, FleetOptions{AuditObjects: holes, Expected: expected}, false, "fine anew 3", "fine renamed 1", "replaced anew 2")
	}
	for _, stores := range [][]bucket.Store{{b.store}, {b.store, b.store}} {
		r, err := RunAll(t.Context(), stores, Options{Now: noon})
		if err != nil {
			t.Fatal(err)
		}
		if r.Expect(expected, 3*time.Hour, noon); r.Wrong() || !r.Logs[len(r.Logs)-1].Heartbeat.At.Equal(well.At) {
			t.Errorf("%+v", r.Findings)
		}
	}
	b.putHeartbeat("anew", 3, bucket.Heartbeat{LastSeq: 10, ConfirmedBelow: 11, At: ago(4 * time.Hour)})
	checkFleet(t, stores, FleetOptions{}, true, "silent anew 3", "fine renamed 1", "replaced anew 2")
}

func TestARetiredLogOfAReturnedNodeIsOutOfService(t *testing.T) {
	t.Parallel()
	b := newFolder(t)
	b.putHeartbeat("back", 1, bucket.Heartbeat{ConfirmedBelow: 1, Retired: true, At: ago(4 * days)})
	b.putHeartbeat("back", 2, bucket.Heartbeat{ConfirmedBelow: 1, At: noon})
	f := checkFleet(t, []bucket.Store{b.store}, FleetOptions{Expected: []string{"back"}}, false, "fine back 2", "retired back 1")
	if !f.Hosts[1].OutOfService() {
		t.Errorf("%+v", f.Hosts[1])
	}
}

func TestFleetFindsANodeUnderItsLaterName(t *testing.T) {
	t.Parallel()
	b := newFolder(t)
	b.putHeartbeat("before", 1, bucket.Heartbeat{ConfirmedBelow: 1, At: ago(5 * time.Hour)})
	b.putHeartbeat("now", 1, bucket.Heartbeat{ConfirmedBelow: 1, At: noon})
	b.putHeartbeat("another", 2, bucket.Heartbeat{ConfirmedBelow: 1, At: ago(5 * time.Hour)})
	for _, node := range []string{"before", "now"} {
		checkFleet(t, []bucket.Store{b.store}, FleetOptions{Node: node}, false, "fine now 1")
	}
	checkFleet(t, []bucket.Store{b.store}, FleetOptions{Node: "nobody"}, true, "absent nobody")
}

func TestUnreadableHeartbeatsAreNamedAndOthersRead(t *testing.T) {
	t.Parallel()
	server, b := newFake(t)
	b.putHeartbeat("well", 1, bucket.Heartbeat{ConfirmedBelow: 1, At: noon})
	put := func(node string, log uint64, content string) string {
		key := bucket.Key{Node: node, LogID: log}.HeartbeatKey()
		b.put(key, []byte(content), bucket.Metadata{})
		return key
	}
	beat := func(node string, log uint64) string {
		return fmt.Sprintf(`{"format":1,"node":%q,"log_id":%q,"run":"0000000000000001","version":"1","last_seq":5,"confirmed_below":6,"at":"2026-11-24T12:00:00Z"}`, node, bucket.HexID(log))
	}
	put("edge-\u202e2", 2, "\x1b[31m") // not JSON
	put("edge-3", 3, strings.Repeat(" ", 1<<20)+beat("edge-3", 3))
	put("edge-4", 4, beat("well", 4)) // from another node
	put("edge-5", 5, beat("edge-5", 1))
	put("edge-6", 6, strings.Replace(beat("edge-6", 6), `"format":1`, `"format":2`, 1))
	put("edge-7", 7, strings.Replace(beat("edge-7", 7), `12:00`, `99:00`, 1))
	secret := put("edge-8", 8, beat("edge-8", 8))
	put("edge-9", 9, strings.Replace(beat("edge-9", 9), `"version":"1"`, `"version":"`+strings.Repeat("x", 600)+`"`, 1))
	b.put(bucket.HeartbeatPrefix+"notes.txt", []byte("of somebody else"), bucket.Metadata{})
	server.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
		return strings.HasSuffix(r.URL.Path, secret) && s3test.Error(w, http.StatusForbidden, "AccessDenied")
	}})
	want := []string{
		"damaged edge-3 3", "damaged edge-4 4", "damaged edge-5 5", "damaged edge-6 6", "damaged edge-7 7", "damaged edge-9 9", "damaged edge-\u202e2 2",
		"unreadable edge-8 8", "fine well 1",
	}
	f := checkFleet(t, []bucket.Store{b.store}, FleetOptions{Expected: []string{"edge-3"}}, true, want...)
	if f.Heartbeats != 1 || f.Count[Damaged] != 7 || f.Count[Unreadable] != 1 {
		t.Errorf("%+v", f)
	}
	for _, h := range f.Hosts[:8] {
		if h.Heartbeat != nil || h.HeardSeconds != nil || h.Reason == "" || strings.ContainsAny(h.Reason, "\x1b\n") || !strings.HasPrefix(h.Key, bucket.HeartbeatPrefix) {
			t.Errorf("%+v", h)
		}
	}
	// The audit goes on, too.
	b.putObject("edge-8", 8, 1, 1, 10, noon)
	f = checkFleet(t, []bucket.Store{b.store}, FleetOptions{AuditObjects: true}, true, want...)
	if h := f.Hosts[7]; h.Node != "edge-8" || h.Found == nil || f.Objects != 1 {
		t.Errorf("%+v", h)
	}
	lines, r := b.findings(Options{Now: noon})
	if r.Tallies[Foreign].Findings != 7 || lines[0] != "unreadable" || r.Findings[0].Keys[0] != secret {
		t.Errorf("%q", lines)
	}
}

func TestAFleetWithHolesIsAudited(t *testing.T) {
	t.Parallel()
	b := newFolder(t)
	stores := []bucket.Store{b.store}
	b.putObject("well", 1, 1, 1, 10, noon)
	b.putHeartbeat("well", 1, bucket.Heartbeat{LastSeq: 10, ConfirmedBelow: 11, At: noon})
	b.putObject("holed", 2, 1, 1, 10, noon)
	b.putObject("holed", 2, 1, 21, 30, noon)
	b.putHeartbeat("holed", 2, bucket.Heartbeat{LastSeq: 30, ConfirmedBelow: 31, At: noon})
	b.putObject("quiet", 3, 1, 1, 10, noon) // heartbeats are turned off there
	b.putHeartbeat("gone", 4, bucket.Heartbeat{LastSeq: 10, ConfirmedBelow: 11, Trouble: logFull, At: noon})
	b.putObject("lost", 5, 1, 1, 10, noon)
	b.putHeartbeat("lost", 5, bucket.Heartbeat{LastSeq: 15, ConfirmedBelow: 16, At: noon})
	note, err := bucket.NewLossNote(bucket.Key{Node: "lost", LogID: 5, Run: 1, FirstSeq: 11, LastSeq: 15}, "damaged", noon, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.store.Put(context.Background(), note); err != nil {
		t.Fatal(err)
	}
	// According to the heartbeat, records have waited for long, but all are stored.
	b.putObject("slow", 6, 1, 1, 10, noon)
	b.putHeartbeat("slow", 6, bucket.Heartbeat{LastSeq: 10, ConfirmedBelow: 1, Pending: 10, OldestUnshipped: 30 * 3600, At: noon})

	checkFleet(t, stores, FleetOptions{}, true, "overdue slow 6", "trouble gone 4", "fine holed 2", "fine lost 5", "fine well 1")
	f := checkFleet(t, stores, FleetOptions{AuditObjects: true, Expected: []string{"quiet"}}, true,
		"gone+trouble gone 4", "missing holed 2", "unheard quiet 3", "fine lost 5", "fine slow 6", "fine well 1")
	if h := f.Hosts[1]; h.Found[Missing] != (Tally{1, 10}) || h.Heartbeat == nil || f.Objects != 6 {
		t.Errorf("%+v", h)
	}
	if h := f.Hosts[3]; h.Found[Lost] != (Tally{1, 5}) {
		t.Errorf("%+v", h)
	}
	known := parseAccepted(t, "0000000000000002 11-20 alice deleted by hand\n0000000000000004 1-10 alice the same")
	checkFleet(t, stores, FleetOptions{AuditObjects: true, Accepted: known}, true, "trouble gone 4", "unheard quiet 3", "fine holed 2", "fine lost 5", "fine slow 6", "fine well 1")
	if len(known.Unused()) > 0 {
		t.Errorf("%+v", known.Unused())
	}
	checkFleet(t, stores, FleetOptions{AuditObjects: true, Node: "holed"}, true, "missing holed 2")
	b.put("dt=2026-11-24/hour=12/n-0000000000000009-00000000000000000001-09000000000000000000-0000000000000001.ndjson.zst", []byte("x"), bucket.Metadata{})
	if f := checkFleet(t, stores, FleetOptions{AuditObjects: true, Accepted: known}, true, "trouble gone 4", "damaged", "unheard quiet 3", "fine holed 2", "fine lost 5", "fine slow 6", "fine well 1"); f.Hosts[1].Key == "" {
		t.Errorf("%+v", f.Hosts[1])
	}
}

func TestAFleetOfSeveralDestinations(t *testing.T) {
	t.Parallel()
	one, other, off, empty := newFolder(t), newFolder(t), newFolder(t), newFolder(t)
	one.putHeartbeat("n", 7, bucket.Heartbeat{ConfirmedBelow: 1, At: ago(5 * time.Hour)})
	other.putHeartbeat("n", 8, bucket.Heartbeat{ConfirmedBelow: 1, At: noon}) // its destination was changed
	other.putObject("n", 8, 1, 1, 10, noon)
	off.putObject("m", 9, 1, 1, 10, noon)
	stores := []bucket.Store{one.store, other.store, off.store, empty.store}
	for holes, unheard := range map[bool]string{false: "unheard", true: "unheard m 9"} {
		f := checkFleet(t, stores, FleetOptions{AuditObjects: holes}, true, "nothing", "silent n 7", unheard, "fine n 8")
		for i, s := range []testBucket{empty, one, off, other} {
			if f.Hosts[i].Destination != s.store.String() {
				t.Errorf("%+v", f.Hosts[i])
			}
		}
	}
	checkFleet(t, stores, FleetOptions{Node: "n"}, true, "silent n 7", "fine n 8")
	checkFleet(t, stores[3:], FleetOptions{}, true, "nothing")
}

// TestTheFleetOfRealHosts ships from logs, and evaluates their heartbeats.
func TestTheFleetOfRealHosts(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, b testBucket) {
		shipAndRetire(t, t.TempDir(), b.store, 40, 10)
		shipRecords(t, t.TempDir(), b.store, wal.Options{}, 20, 10)
		f, err := RunFleet(context.Background(), []bucket.Store{b.store}, FleetOptions{AuditObjects: true})
		if err != nil || len(f.Hosts) != 2 || f.Hosts[0].State != Unheard || f.Hosts[1].State != Retired || f.Objects != 6 || f.Wrong() {
			t.Fatalf("%q, %v", hostLines(f), err)
		}
		b.remove(b.keyOfSeq(31))
		f, err = RunFleet(context.Background(), []bucket.Store{b.store}, FleetOptions{AuditObjects: true})
		if err != nil || f.Hosts[0].State != Missing || f.Hosts[0].Found[Missing] != (Tally{1, 10}) {
			t.Errorf("%q, %v", hostLines(f), err)
		}
	})
}
