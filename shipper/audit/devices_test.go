package audit

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"collectord/shipper/bucket"
)

// TestAHostIsSilentOnceItsNextHeartbeatIsOverdue: an idle host writes hourly and is not
// silent in between. A busy host announces an earlier heartbeat, so that its silence is noticed
// earlier.
func TestAHostIsSilentOnceItsNextHeartbeatIsOverdue(t *testing.T) {
	t.Parallel()
	b := newFolder(t)
	beat := func(node string, log uint64, age time.Duration, next int64) {
		b.putHeartbeat(node, log, bucket.Heartbeat{ConfirmedBelow: 1, At: ago(age), NextSeconds: next})
	}
	beat("busy", 1, 19*time.Minute, 300)
	beat("busy-before", 2, 21*time.Minute, 300)
	beat("idle", 3, 79*time.Minute, 3900)
	beat("idle-before", 4, 81*time.Minute, 3900)
	beat("rare", 5, 12*time.Hour, 12*3600)
	beat("lies", 6, 26*time.Hour, 1<<62)
	beat("negative", 7, 74*time.Minute, -5)
	stores := []bucket.Store{b.store}
	checkFleet(t, stores, FleetOptions{}, true, "silent busy-before 2", "silent idle-before 4", "silent lies 6", "fine busy 1", "fine idle 3", "fine negative 7", "fine rare 5")
	checkFleet(t, stores, FleetOptions{SilentFor: 5 * time.Minute}, true, "silent busy 1", "silent busy-before 2", "silent idle 3", "silent idle-before 4", "silent lies 6", "silent negative 7", "fine rare 5")
	checkFleet(t, stores, FleetOptions{SilentFor: 2 * time.Hour}, false, "fine busy 1", "fine busy-before 2", "fine idle 3", "fine idle-before 4", "fine lies 6", "fine negative 7", "fine rare 5")
}

func seenClient(name string, before time.Duration) bucket.Client {
	at := ago(before)
	return bucket.Client{Name: name, LastSeen: &at, Usages: 1}
}

// silentDevices returns the silent devices of each host.
func silentDevices(f *Fleet) (lines []string) {
	for _, h := range f.Hosts {
		for _, d := range h.SilentDevices {
			when := "never seen"
			if d.LastSeen != nil {
				when = "seen"
			}
			lines = append(lines, fmt.Sprintf("%s: %s %s %v", h.Node, d.Name, when, time.Duration(d.SilentSeconds)*time.Second))
		}
	}
	return lines
}

// TestADeviceIsSilentIfNoHostReceivedFromIt: behind a load balancer, several hosts know the
// same devices, and a device may move. Devices of a silent host are not judged.
func TestADeviceIsSilentIfNoHostReceivedFromIt(t *testing.T) {
	t.Parallel()
	b, other := newFolder(t), newFolder(t)
	day := int64(24 * 3600)
	beat := func(b testBucket, node string, log uint64, age time.Duration, ran int64, clients ...bucket.Client) {
		b.putHeartbeat(node, log, bucket.Heartbeat{ConfirmedBelow: 1, At: ago(age), RunSeconds: ran, ClientsKnown: len(clients), Clients: clients})
	}
	beat(b, "a", 1, time.Hour, 9*day, seenClient("pump-1", time.Hour), seenClient("pump-2", 26*time.Hour), seenClient("pump-3", 30*time.Hour), seenClient("ahead", -900*days),
		bucket.Client{Name: "spare"}, bucket.Client{Name: "anew"}, bucket.Client{Name: "nowhere"})
	beat(b, "b", 2, 0, 2*day, seenClient("pump-2", 25*time.Hour), seenClient("spare", 2*time.Hour), bucket.Client{Name: "pump-1"}, bucket.Client{Name: "nowhere"},
		bucket.Client{Name: "of-silent"}, bucket.Client{Name: "before-all", LastSeen: &time.Time{}})
	beat(b, "silent", 3, 5*time.Hour, 9*day, seenClient("of-silent", 40*time.Hour), seenClient("anew", 41*time.Hour), bucket.Client{Name: "spare"})
	beat(b, "started", 4, 0, 3600, bucket.Client{Name: "unknown-yet"})
	beat(other, "c", 5, 0, 9*day, bucket.Client{Name: "pump-1"})
	stores := []bucket.Store{b.store, other.store}
	f := checkFleet(t, stores, FleetOptions{}, true, "silent silent 3", "device a 1", "device b 2", "device c 5", "fine started 4")
	want := []string{
		"a: nowhere never seen 217h0m0s", "a: pump-3 seen 30h0m0s",
		"b: before-all seen 87840h0m0s", "b: pump-2 seen 25h0m0s",
		"c: pump-1 never seen 216h0m0s",
	}
	if got := silentDevices(f); !reflect.DeepEqual(got, want) {
		t.Errorf("silent devices are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if h := f.Hosts[1]; h.Heartbeat.ClientsKnown != 7 || h.Heartbeat.Clients != nil || f.Count[SilentDevice] != 3 {
		t.Errorf("%+v", h)
	}
	f = checkFleet(t, stores, FleetOptions{DeviceSilentFor: 29 * time.Hour}, true, "silent silent 3", "device a 1", "device b 2", "device c 5", "fine started 4")
	if got := silentDevices(f); len(got) != 4 {
		t.Errorf("silent devices are %q", got)
	}
	if f = checkFleet(t, stores, FleetOptions{DeviceSilentFor: -1}, true, "silent silent 3", "fine a 1", "fine b 2", "fine c 5", "fine started 4"); len(silentDevices(f)) > 0 {
		t.Errorf("silent devices are %q", silentDevices(f))
	}
	// Devices of a host out of service are not reported.
	b.putHeartbeat("retired", 6, bucket.Heartbeat{ConfirmedBelow: 1, At: ago(time.Hour), Retired: true, ClientsKnown: 1, Clients: []bucket.Client{seenClient("its", 30*time.Hour)}})
	checkFleet(t, []bucket.Store{b.store}, FleetOptions{Node: "retired"}, false, "retired retired 6")
}

// TestClientsBeyondTheMemoryLimitAreNotJudged checks also that their hosts are counted.
func TestClientsBeyondTheMemoryLimitAreNotJudged(t *testing.T) {
	t.Parallel()
	b := newFolder(t)
	for i := range 4 {
		name := fmt.Sprint("n", i)
		b.putHeartbeat(name, uint64(i+1), bucket.Heartbeat{ConfirmedBelow: 1, At: noon, ClientsKnown: 2, Clients: []bucket.Client{seenClient(name+"-1", 30*time.Hour), seenClient(name+"-2", 30*time.Hour)}})
	}
	f, err := RunFleet(t.Context(), []bucket.Store{b.store}, FleetOptions{Now: noon, maxDevices: 5})
	if err != nil || f.UnjudgedHosts != 2 || len(silentDevices(f)) != 4 || len(f.Hosts) != 4 {
		t.Errorf("%d of %d hosts are not judged; silent devices are %q: %v", f.UnjudgedHosts, len(f.Hosts), silentDevices(f), err)
	}
}
