package audit

import (
	"strings"
	"testing"
	"time"

	"collectord/shipper/bucket"
)

// TestHostsWithTheSameNameInTwoDestinationsAreTwo: names are unique only within a destination.
// The fleet counts an expected name as present if one of these hosts has it.
func TestHostsWithTheSameNameInTwoDestinationsAreTwo(t *testing.T) {
	t.Parallel()
	ward, other := newFolder(t), newFolder(t)
	ward.putHeartbeat("pump", 1, bucket.Heartbeat{ConfirmedBelow: 1, At: ago(5 * time.Hour)})
	ward.putHeartbeat("old", 3, bucket.Heartbeat{ConfirmedBelow: 1, Retired: true, At: ago(5 * days)})
	other.putHeartbeat("pump", 2, bucket.Heartbeat{ConfirmedBelow: 1, At: noon})
	other.putHeartbeat("old", 4, bucket.Heartbeat{ConfirmedBelow: 1, At: noon}) // the host was moved
	f := checkFleet(t, []bucket.Store{ward.store, other.store}, FleetOptions{Expected: []string{"pump", "old"}}, true, "silent pump 1", "fine old 4", "fine pump 2", "retired old 3")
	if f.Nodes() != 4 {
		t.Errorf("got %d nodes, want 4", f.Nodes())
	}
	// In one destination they are one host, whose data_dir was made again.
	ward.putHeartbeat("pump", 5, bucket.Heartbeat{ConfirmedBelow: 1, At: noon})
	checkFleet(t, []bucket.Store{ward.store, other.store}, FleetOptions{Node: "pump"}, false, "fine pump 2", "fine pump 5", "replaced pump 1")
}

// TestTwoHostsThatShareALogAreBothReported: a disk may have been copied. A renamed host, or a
// host whose heartbeats were copied, is a single host.
func TestTwoHostsThatShareALogAreBothReported(t *testing.T) {
	t.Parallel()
	b, other := newFolder(t), newFolder(t)
	beat := func(b testBucket, node string, log, run uint64, age, lasted time.Duration) {
		b.putHeartbeatOf(bucket.Key{Node: node, LogID: log, Run: run}, bucket.Heartbeat{ConfirmedBelow: 1, At: ago(age), RunSeconds: int64(lasted.Seconds())})
	}
	b.putHeartbeat("twin", 7, bucket.Heartbeat{ConfirmedBelow: 1, At: ago(time.Minute), Cloned: true})
	beat(b, "edge-1", 1, 1, 10*time.Minute, 9*days)
	beat(b, "copy", 1, 2, time.Minute, time.Hour)
	beat(b, "factory", 1, 3, 20*days, days) // the name of both before the copy
	beat(b, "before", 2, 1, 10*time.Minute, 9*days)
	beat(b, "renamed", 2, 2, time.Minute, 5*time.Minute)
	beat(b, "here", 3, 1, time.Minute, days)
	beat(other, "there", 3, 2, time.Hour, days)
	beat(b, "moved", 4, 1, 70*time.Minute, days)
	beat(other, "moved", 4, 2, time.Minute, time.Hour)
	beat(b, "saved", 5, 1, time.Minute, days)
	beat(other, "saved", 5, 1, time.Hour, days)
	beat(b, "dies", 6, 1, 5*time.Hour, days)
	beat(b, "lives", 6, 2, time.Minute, days)
	one := []string{"silent+cloned dies 6", "cloned copy 1", "cloned edge-1 1", "cloned lives 6", "cloned twin 7", "fine here 3", "fine moved 4", "fine renamed 2", "fine saved 5"}
	checkFleet(t, []bucket.Store{b.store}, FleetOptions{}, true, one...)
	checkFleet(t, []bucket.Store{b.store}, FleetOptions{Node: "copy"}, true, "cloned copy 1", "cloned edge-1 1")
	f := checkFleet(t, []bucket.Store{b.store, other.store}, FleetOptions{}, true,
		"silent+cloned dies 6", "cloned copy 1", "cloned edge-1 1", "cloned here 3", "cloned lives 6", "cloned there 3", "cloned twin 7",
		"fine moved 4", "fine moved 4", "fine renamed 2", "fine saved 5", "fine saved 5")
	if h := f.Hosts[6]; !strings.Contains(h.Reason, "another host of this name") {
		t.Errorf("%+v", h)
	}
	if h := f.Hosts[1]; !strings.Contains(h.Reason, `"edge-1" writes the same log`) {
		t.Errorf("%+v", h)
	}
	if h := f.Hosts[3]; !strings.Contains(h.Reason, `"there" in `+other.store.String()) {
		t.Errorf("%+v", h)
	}
	// The objects of the log are reported for one of the hosts.
	b.putObject("edge-1", 1, 1, 1, 10, noon)
	b.putObject("copy", 1, 2, 6, 10, noon)
	f = checkFleet(t, []bucket.Store{b.store}, FleetOptions{AuditObjects: true, Node: "copy"}, true, "cloned+forked copy 1", "cloned edge-1 1")
	if f.Hosts[0].Found[Forked].Findings != 1 || f.Hosts[1].Found != nil {
		t.Errorf("%+v", f.Hosts)
	}
}

// TestAWrongClockIsNotSilence: the storage records its own time for each heartbeat.
func TestAWrongClockIsNotSilence(t *testing.T) {
	t.Parallel()
	_, b := newFake(t)
	beat := func(node string, log uint64, at, stored time.Duration, h bucket.Heartbeat) {
		h.ConfirmedBelow, h.At = 1, ago(at)
		b.putHeartbeat(node, log, h)
		b.touch(bucket.Key{Node: node, LogID: log}.HeartbeatKey(), ago(stored))
	}
	beat("behind", 1, 31*days, time.Minute, bucket.Heartbeat{LastSeq: 5, Pending: 5, OldestUnshipped: 3600})
	beat("ahead", 2, -4*time.Hour, time.Minute, bucket.Heartbeat{})
	beat("seems-well", 3, time.Minute, 5*time.Hour, bucket.Heartbeat{}) // but is silent
	beat("away", 4, 31*days, 31*days-time.Minute, bucket.Heartbeat{})
	beat("minutes", 5, 15*time.Minute, time.Minute, bucket.Heartbeat{})
	beat("retired", 6, 31*days, 4*days, bucket.Heartbeat{Retired: true})
	f := checkFleet(t, []bucket.Store{b.store}, FleetOptions{}, true,
		"silent+clock seems-well 3", "clock ahead 2", "clock behind 1", "fine minutes 5", "retired retired 6", "away away 4")
	if h := f.Hosts[2]; *h.HeardSeconds != 60 || *h.ClockSeconds != -int64((31*days-time.Minute).Seconds()) || *h.WaitingSeconds != 3660 {
		t.Errorf("%+v", h)
	}
	if h := f.Hosts[5]; h.Reason != "" || h.ClockSeconds != nil {
		t.Errorf("%+v", h)
	}
	// A folder has no time of its own, and the reason mentions that.
	folder := newFolder(t)
	folder.putHeartbeat("behind", 1, bucket.Heartbeat{ConfirmedBelow: 1, At: ago(31 * days)})
	folder.putHeartbeat("silent", 2, bucket.Heartbeat{ConfirmedBelow: 1, At: ago(4 * time.Hour)})
	for _, h := range checkFleet(t, []bucket.Store{folder.store}, FleetOptions{}, true, "silent silent 2", "away behind 1").Hosts {
		if !strings.Contains(h.Reason, "its clock is behind") {
			t.Errorf("%+v", h)
		}
	}
}

func TestVanishedSegmentsAreWrong(t *testing.T) {
	t.Parallel()
	b := newFolder(t)
	b.putHeartbeat("n", 1, bucket.Heartbeat{ConfirmedBelow: 1, Vanished: 3, At: noon})
	b.putHeartbeat("m", 2, bucket.Heartbeat{ConfirmedBelow: 1, Vanished: 1, Trouble: logFull, At: noon})
	checkFleet(t, []bucket.Store{b.store}, FleetOptions{}, true, "vanished+trouble m 2", "vanished n 1")
}
