package wal

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"collectord/wal/segment"
)

// TestAnEvictedSegmentWithoutItsEndIsNotedAsAWhole interrupts the eviction of a segment
// whose last records the disk has lost.
func TestAnEvictedSegmentWithoutItsEndIsNotedAsAWhole(t *testing.T) {
	whole, names := killedDir(t)
	for name, c := range map[string]struct {
		without string // name of a shipped segment
		as      string // name of the evicted segment
		noted   []uint64
	}{
		"another continues":           {"", names[1], []uint64{4, 5, 6}},
		"the next was shipped":        {names[2], names[1], []uint64{4, 5, 6}},
		"the next name gives the end": {"", segment.SealedName(4, 9), []uint64{4, 5, 6}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := memoryDir(t)
			copyDir(t, whole, dir)
			log := filepath.Join(dir, "wal")
			if c.without != "" {
				if err := os.RemoveAll(filepath.Join(log, c.without)); err != nil {
					t.Fatal(err)
				}
			}
			path := filepath.Join(log, names[1], segment.FileName)
			if err := os.Truncate(path, frameEnds(t, path)[1]); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(filepath.Join(log, names[1]), filepath.Join(log, c.as+evictedSuffix)); err != nil {
				t.Fatal(err)
			}
			l := openLog(t, dir, Options{Node: "edge-1"})
			if noted, _ := notedSeqs(t, l); !slices.Equal(noted, c.noted) {
				t.Errorf("noted as lost %v, want %v", noted, c.noted)
			}
			if g := checkLedger(t, l); g.Evicted != uint64(len(c.noted)) {
				t.Errorf("ledger %+v", g)
			}
		})
	}
}
