package wal

import (
	"context"
	"testing"
)

// A new version of the underlying log may keep its copy elsewhere. Records are
// safe then, but batches are several times slower: look for it there.
func TestNothingOfASegmentStaysInMemory(t *testing.T) {
	log := open(t, t.TempDir(), Options{SegmentSize: 64 << 20})
	usage := make([]byte, 64<<10)
	for range 50 {
		if err := log.Append(context.Background(), Record{Usage: usage}); err != nil {
			t.Fatal(err)
		}
	}
	kept := log.committer.segment.inMemory
	if kept == nil || cap(*kept) == 0 || len(*kept) != 0 || cap(*kept) > 3*len(usage) {
		t.Errorf("the copy is at %p", kept)
	}
	if err := log.Append(context.Background(), Record{Usage: make([]byte, MaxUsage)}); err != nil {
		t.Fatal(err)
	}
	if n := cap(*kept); n > 0 {
		t.Errorf("%d bytes are kept after a large frame", n)
	}
}
