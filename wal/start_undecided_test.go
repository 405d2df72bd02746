package wal

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"collectord/wal/segment"
)

// TestUndecidableRecordsAreShippedOrKeptAndNeverNoted starts on directories that two
// different histories can have left. In both cases no bytes are deleted, no note says
// that records are lost, and no seq of a name is used twice.
func TestUndecidableRecordsAreShippedOrKeptAndNeverNoted(t *testing.T) {
	whole, names := killedDir(t) // five sealed segments, and 16 and 17 in the active one
	remove := func(t *testing.T, log string, names ...string) {
		for _, name := range names {
			if err := os.RemoveAll(filepath.Join(log, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		spoil   func(t *testing.T, log string)
		shipped []uint64
		kept    []int // usages whose bytes must be in the quarantine
		finding Finding
		next    uint64
	}{
		// Either a digit of the name is wrong, or the disk wrote the sector of a
		// shipped segment over the only one of this segment.
		"an unsealed name one digit off from its records": {
			func(t *testing.T, log string) {
				remove(t, log, names[0], names[2], names[3], names[4], names[5])
				if err := os.Rename(filepath.Join(log, names[1]), filepath.Join(log, segment.ActiveName(14))); err != nil {
					t.Fatal(err)
				}
			}, []uint64{4, 5, 6}, nil, FoundMisnamed, 14,
		},
		// Either the name is wrong, or a failed commit left the last record, and a
		// segment shipped since has its seq.
		"a record above a sealed name that no name continues": {
			func(t *testing.T, log string) {
				remove(t, log, names[2])
				if err := os.Rename(filepath.Join(log, names[1]), filepath.Join(log, segment.SealedName(4, 5))); err != nil {
					t.Fatal(err)
				}
			}, without(seqsTo(killedDirRecords), []uint64{6, 7, 8, 9}), []int{5}, FoundMisnamed, 18,
		},
		// Either a crash tore the last commit, or its bytes were damaged after it was
		// acknowledged.
		"a damaged last frame": {
			func(t *testing.T, log string) {
				path := filepath.Join(log, names[5], segment.FileName)
				ends := frameEnds(t, path)
				b, err := os.ReadFile(path)
				if b[ends[2]-1] ^= 1; errors.Join(err, os.WriteFile(path, b, 0o640)) != nil { // the closing brace of the usage
					t.Fatal(err)
				}
			}, seqsTo(killedDirRecords - 1), nil, FoundTornTail, 17,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := memoryDir(t)
			copyDir(t, whole, dir)
			c.spoil(t, filepath.Join(dir, "wal"))
			l := openLog(t, dir, Options{Node: "edge-1"})
			if got := shipAll(t, l); !slices.Equal(got, c.shipped) {
				t.Errorf("shipped %v, want %v", got, c.shipped)
			}
			lost, skipped := notedSeqs(t, l)
			if len(lost)+len(skipped) > 0 {
				t.Errorf("noted %v and %v", lost, skipped)
			}
			for _, n := range c.kept {
				checkQuarantined(t, l, usage(n))
			}
			if f := findings(l); f[c.finding] != 1 {
				t.Errorf("findings %v, want %s", f, c.finding)
			}
			checkLedger(t, l)
			mustAppend(t, l, Record{Usage: usage(int(c.next) - 1)})
			mustClose(t, l)
			l = openLog(t, dir, Options{Node: "edge-1"})
			if found := findings(l); len(found) > 0 {
				t.Errorf("the second start found %v", found)
			}
			if got := shipAll(t, l); !slices.Equal(got, []uint64{c.next}) {
				t.Errorf("the second start ships %v, want %d", got, c.next)
			}
		})
	}
}
