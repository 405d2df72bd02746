package wal

import (
	"bytes"
	"context"
	"runtime"
	"testing"
)

// A new version of the underlying log may keep its copies elsewhere. Records are
// safe then, but batches are several times slower, and the largest requests take
// three times the memory: look for them there.
func TestTheUnderlyingLogCopiesNothing(t *testing.T) {
	log := open(t, t.TempDir(), Options{SegmentSize: 256 << 20})
	large := Record{Usage: bytes.Repeat([]byte{'x'}, MaxUsage)}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 4 {
		if err := log.Append(context.Background(), large); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > MaxUsage {
		t.Errorf("%d bytes were allocated for 4 frames of %d", n, MaxUsage)
	}
}
