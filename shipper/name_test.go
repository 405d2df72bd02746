package shipper

import (
	"math"
	"testing"
)

func TestKeysAreReadAsTheyAreWritten(t *testing.T) {
	for _, n := range []name{
		{node: "edge-1", logID: 1, run: 2, first: 1, last: 1},
		{node: "a", logID: math.MaxUint64, run: math.MaxUint64, first: 3, last: math.MaxUint64, hour: 494_000},
		{node: "-0-1-2.x_y", logID: 0xabc, run: 0, first: 10, last: 20, hour: 494_000, beside: true, sha8: 0xdeadbeef},
	} {
		if got, ok := parseKey(n.key()); !ok || got != n {
			t.Errorf("%s is read as %+v, %v", n.key(), got, ok)
		}
	}
	good := name{node: "edge-1", logID: 1, run: 2, first: 3, last: 4, hour: 494_000}.key()
	for _, bad := range []string{
		"", "dt=", "copy of " + good, good + ".1", good[1:], "x/" + good,
		"dt=2026-05-10/hour=24/" + good[22:], "dt=2026-05-10/" + good[22:], good[:len(good)-11] + "~0.ndjson.zst",
		good[:len(good)-11] + "~DEADBEEF.ndjson.zst", good[:len(good)-11] + "-copy.ndjson.zst",
		name{node: "edge-1", logID: 1, run: 2, first: 4, last: 3}.key(), name{node: "edge-1", logID: 1, run: 2, last: 3}.key(),
		name{logID: 1, run: 2, first: 3, last: 4}.key(),
	} {
		if n, ok := parseKey(bad); ok {
			t.Errorf("%q is read as %+v", bad, n)
		}
	}
}
