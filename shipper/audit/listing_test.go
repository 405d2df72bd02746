package audit

import (
	"context"
	"math"
	"strings"
	"testing"

	"collectord/shipper/bucket"
)

// TestARepeatedListingIsNoDoubledRecord: a listing that names a key twice is an error, since it
// proves nothing about the bucket.
func TestARepeatedListingIsNoDoubledRecord(t *testing.T) {
	k := bucket.Key{Node: "n", LogID: 7, Run: 1, FirstSeq: 1, LastSeq: 10, Hour: bucket.HourOf(noon)}
	other := k
	other.FirstSeq, other.LastSeq = 11, 20
	for name, keys := range map[string][]string{
		"an object":              {k.String(), other.String(), k.String()},
		"an unidentified object": {k.String(), "dt=2026-11-23/hour=08/x.ndjson.zst", other.String(), "dt=2026-11-23/hour=08/x.ndjson.zst"},
	} {
		store := &listingStore{keys: func(yield func(string) bool) {
			for _, k := range keys {
				if !yield(k) {
					return
				}
			}
		}}
		r, err := Run(context.Background(), store, Options{})
		if err == nil || !strings.Contains(err.Error(), "twice: this storage") {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

// TestCountsDoNotOverflow: names can contain any number of records.
func TestCountsDoNotOverflow(t *testing.T) {
	b := newFolder(t)
	b.putObject("n", 7, 1, 1, 10, noon)
	b.putObject("n", 7, 1, 101, 101+math.MaxUint32, noon) // so many that the count of 32 bits would be 0
	r := b.checkFindings(Options{}, true, "damaged")
	if f := r.Findings[0]; len(f.Keys) != 1 || !strings.Contains(f.Reason, "more records than an object can have") {
		t.Errorf("%+v", f)
	}
	for log := range uint64(4) {
		b.putObject("n", 100+log, 1, 1, 1, noon)
		b.putObject("n", 100+log, 1, math.MaxInt64, math.MaxInt64, noon)
		b.putHeartbeat("n", 100+log, bucket.Heartbeat{LastSeq: math.MaxInt64, ConfirmedBelow: math.MaxInt64, At: noon})
	}
	_, r = b.findings(Options{Now: noon})
	if got := r.Tallies[Missing]; got != (Tally{4, math.MaxUint64}) {
		t.Errorf("%+v", got)
	}
}
