package bucket

import (
	"math"
	"strings"
	"testing"
)

func someKeys() []Key {
	return []Key{
		{Node: "edge-1", LogID: 1, Run: 2, FirstSeq: 1, LastSeq: 1},
		{Node: "a", LogID: math.MaxUint64, Run: math.MaxUint64, FirstSeq: 3, LastSeq: math.MaxInt64, Hour: 494_000},
		{Node: "-0-1-2.x_y", LogID: 0xabc, FirstSeq: 10, LastSeq: 20, Hour: 494_000, Beside: true, SHA8: 0xdeadbeef},
	}
}

func TestKeysAreReadAsTheyAreWritten(t *testing.T) {
	for _, k := range someKeys() {
		if got, ok := ParseKey(k.String()); !ok || got != k {
			t.Errorf("%s was parsed as %+v, %v", k, got, ok)
		}
		if hour, ok := PartitionOf(k.String()); !ok || hour != k.Hour || !strings.HasPrefix(k.String(), Partition(hour)) ||
			!strings.HasPrefix(Partition(hour), DayPrefix(hour)) || !strings.HasPrefix(k.String(), k.LogPrefix()) {
			t.Errorf("%s is in hour %d, %v", k, hour, ok)
		}
		note := k
		note.Hour, note.Beside, note.SHA8 = 0, false, 0
		if got, ok := ParseLossKey(k.LossKey()); !ok || got != note {
			t.Errorf("%s was parsed as %+v, %v", k.LossKey(), got, ok)
		}
	}
	k := Key{Node: "edge-1", LogID: 1, Run: 2, FirstSeq: 3, LastSeq: 4, Hour: 494_000}
	good := k.String()
	const want = "dt=2026-05-10/hour=08/edge-1-0000000000000001-00000000000000000003-00000000000000000004-0000000000000002.ndjson.zst"
	if good != want {
		t.Errorf("got %s, want %s", good, want)
	}
	if got := besideKey(good, "0123456789abcdef"); got != strings.TrimSuffix(want, ".ndjson.zst")+"~01234567.ndjson.zst" {
		t.Error(got)
	}
	for _, bad := range []string{
		"", "dt=", "copy of " + good, good + ".1", good[1:], "x/" + good,
		"dt=2026-05-10/hour=24/" + good[22:], "dt=2026-05-10/" + good[22:], good[:22] + "x/" + good[22:], good[:len(good)-11] + "~0.ndjson.zst",
		good[:len(good)-11] + "~DEADBEEF.ndjson.zst", good[:len(good)-11] + "-copy.ndjson.zst",
		Key{Node: "edge-1", LogID: 1, Run: 2, FirstSeq: 4, LastSeq: 3}.String(), Key{Node: "edge-1", LogID: 1, Run: 2, LastSeq: 3}.String(),
		Key{Node: "edge-1", LogID: 1, Run: 2, FirstSeq: 1, LastSeq: math.MaxInt64 + 1}.String(), // the number of records would overflow
		Key{LogID: 1, Run: 2, FirstSeq: 3, LastSeq: 4}.String(),
	} {
		if k, ok := ParseKey(bad); ok {
			t.Errorf("%q was parsed as %+v", bad, k)
		}
	}
}

// FuzzKey checks that each key that parses formats to the same text, and that no text
// causes a panic.
func FuzzKey(f *testing.F) {
	for _, k := range someKeys() {
		f.Add(k.String())
		f.Add(k.LossKey())
		f.Add(k.HeartbeatKey())
	}
	f.Add("dt=2026-05-10/hour=08/" + strings.Repeat("-", 75) + ".ndjson.zst")
	f.Add("_collectord/lost/.json")
	f.Fuzz(func(t *testing.T, text string) {
		if k, ok := ParseKey(text); ok && k.String() != text {
			t.Errorf("%q formats to %q", text, k)
		}
		if k, ok := ParseLossKey(text); ok && k.LossKey() != text {
			t.Errorf("%q formats to %q", text, k.LossKey())
		}
		if k, ok := ParseHeartbeatKey(text); ok && k.HeartbeatKey() != text {
			t.Errorf("%q formats to %q", text, k.HeartbeatKey())
		}
		if hour, ok := PartitionOf(text); ok && !strings.HasPrefix(text, Partition(hour)) {
			t.Errorf("%q is in partition %q", text, Partition(hour))
		}
		m := metadataFromKey(text)
		if k, ok := ParseKey(text); ok && (m.FirstSeq != k.FirstSeq || m.LastSeq != k.LastSeq || m.Node != k.Node) {
			t.Errorf("metadata from key %q: %+v", text, m)
		}
	})
}
