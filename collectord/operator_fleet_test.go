package main

import (
	"testing"
	"time"

	"collectord/shipper/bucket"
)

func fleetSituations(situations map[string][]situation) {
	const config = "node: edge-1\nshipper: {destination: 'file://DIR/archive'}\n"
	writes := func(age time.Duration, h bucket.Heartbeat) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			putHeartbeat(t, openURL(t, "file://"+dir+"/archive", bucket.S3Options{}), "edge-1", 1, age, h)
		}
	}
	// Ages are far from the points where their texts change, since a test may take long.
	const hour, aDay = time.Hour, 24 * time.Hour
	seen := clientSeen("pump-7", 3*aDay+hour/2)
	since := time.Now().Add(-5*aDay - hour/2)
	device := bucket.Heartbeat{RunSeconds: 9 * 24 * 3600, ClientsKnown: 3, Clients: []bucket.Client{seen}}
	spare := bucket.Heartbeat{RunSeconds: 4*24*3600 + 1800, ClientsKnown: 1, Clients: []bucket.Client{{Name: "spare"}}}
	young := bucket.Heartbeat{RunSeconds: 3600, ClientsKnown: 1, Clients: []bucket.Client{{Name: "spare"}}}
	inTrouble := bucket.Heartbeat{Trouble: []bucket.Trouble{{Name: "shipping", Since: &since, Message: "a segment was not shipped: connection refused"}}}
	situations["fleet"] = []situation{
		{name: "all is right", args: "fleet", config: config, setUp: writes(0, bucket.Heartbeat{}), wantOutput: "RIGHT: no host is silent or in trouble"},
		{name: "an hourly heartbeat is not silent", args: "fleet --silent-for 15m", config: config, setUp: writes(45*time.Minute, bucket.Heartbeat{NextSeconds: 3900}), wantOutput: "RIGHT: "},
		{name: "a host that takes usages is missed soon", args: "fleet", config: config, setUp: writes(25*time.Minute, bucket.Heartbeat{NextSeconds: 300}), wantExit: 2, wantOutput: "the fleet is not right: 1 silent host"},
		{name: "a longer --silent-for", args: "fleet --silent-for 2h", config: config, setUp: writes(25*time.Minute, bucket.Heartbeat{NextSeconds: 300}), wantOutput: "RIGHT: "},
		{name: "trouble, for how long, and why", args: "fleet", config: config, setUp: writes(0, inTrouble), wantExit: 2, wantOutput: "shipping for 5d00h: a segment was not shipped: connection refused"},
		{name: "a silent device", args: "fleet", config: config, setUp: writes(0, device), wantExit: 2, wantOutput: "NOT RIGHT: 1 host with silent devices"},
		{name: "which device is silent, and for how long", args: "fleet", config: config, setUp: writes(0, device), wantExit: 2, wantOutput: "silent devices: pump-7 (for 3d00h)"},
		{name: "how many devices are silent", args: "fleet", config: config, setUp: writes(0, device), wantExit: 2, wantOutput: "1 of 3 silent"},
		{name: "a device that was never seen", args: "fleet", config: config, setUp: writes(0, spare), wantExit: 2, wantOutput: "silent devices: spare (never seen in 4d00h)"},
		{name: "a device is not silent soon after a start", args: "fleet", config: config, setUp: writes(0, young), wantOutput: "RIGHT: "},
		{name: "devices are not checked", args: "fleet --device-silent-for 0", config: config, setUp: writes(0, spare), wantOutput: "RIGHT: "},
		{name: "a host that is away", args: "fleet", config: config, setUp: writes(31*aDay, bucket.Heartbeat{}), wantOutput: "not listed: 1 away (--all lists them"},
		{name: "a host that is away, listed", args: "fleet --all", config: config, setUp: writes(31*aDay+hour/2, bucket.Heartbeat{}), wantOutput: "away   edge-1"},
		{name: "a host that is out of service", args: "fleet", config: config, setUp: writes(5*aDay, bucket.Heartbeat{Retired: true}), wantOutput: "not listed: 1 retired"},
		{name: "usages of a day", args: "fleet --json", config: config, setUp: writes(0, bucket.Heartbeat{DayUsages: 77, DaySeconds: 86400}), wantOutput: `"day_usages":77,"day_seconds":86400`},
		{name: "a wrong duration", args: "fleet --silent-for 0s", config: config, setUp: writes(0, bucket.Heartbeat{}), wantExit: 1, wantOutput: "--grace and --silent-for must be more than 0"},
		{name: "a page that can't be written", args: "fleet --html DIR/nothing/fleet.html", config: config, setUp: writes(0, bucket.Heartbeat{}), wantExit: 1, wantOutput: "DIR/nothing/"},
		{name: "the flag that was renamed", args: "fleet --silent-after 3h", config: config, wantExit: 1, wantOutput: "collectord fleet has no flag --silent-after"},
	}
}
