package wal

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"collectord/wal/segment"
)

// TestSeqsBeforeAnUnreadableSegmentAreNoted tests an unsealed segment that the disk
// truncated, followed by one whose run the next start can't determine. All seqs between
// them are accounted for, and no existing record is noted as lost.
func TestSeqsBeforeAnUnreadableSegmentAreNoted(t *testing.T) {
	const cut, next, end = 2, 7, 9 // last remaining record, and first and last record of the second segment
	running := openLog(t, t.TempDir(), Options{Node: "edge-1"})
	for i := range end {
		if i+1 == next {
			mustSeal(t, running)
		}
		mustAppend(t, running, Record{Usage: usage(i)})
	}
	whole := t.TempDir()
	log := filepath.Join(whole, "wal")
	copyDir(t, running.dataDir, whole)
	first, second := filepath.Join(log, segment.ActiveName(1)), filepath.Join(log, segment.ActiveName(next))
	if err := os.Rename(filepath.Join(log, segment.SealedName(1, next-1)), first); err != nil { // the rename was the last step
		t.Fatal(err)
	}
	ends := frameEnds(t, filepath.Join(first, segment.FileName))
	if err := os.Truncate(filepath.Join(first, segment.FileName), ends[cut]); err != nil {
		t.Fatal(err)
	}
	between := []uint64{3, 4, 5, 6}
	for name, c := range map[string]struct {
		spoil                  func(t *testing.T, second string, disk *badDisk) error
		shipped, lost, skipped []uint64 // seqs of both starts
	}{
		"the disk can't read it": {
			func(t *testing.T, second string, disk *badDisk) error {
				disk.breakPages(t, filepath.Join(second, segment.FileName))
				return nil
			}, []uint64{1, 2, 7, 8, 9}, between, nil, // the seqs after 9 are skipped, too
		},
		"it can't be opened": {
			func(_ *testing.T, second string, _ *badDisk) error {
				return errors.Join(os.Rename(second, second+"x"), os.Symlink(second+"x", second))
			}, []uint64{1, 2}, between, nil,
		},
		"its header is damaged": {
			func(_ *testing.T, second string, _ *badDisk) error {
				return os.WriteFile(filepath.Join(second, segment.FileName), make([]byte, 500), 0o640)
			}, []uint64{1, 2}, between, nil,
		},
		"it has no file": {
			func(_ *testing.T, second string, _ *badDisk) error {
				return os.Remove(filepath.Join(second, segment.FileName))
			}, []uint64{1, 2}, nil, between,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			copyDir(t, whole, dir)
			disk := &badDisk{}
			if err := c.spoil(t, filepath.Join(dir, "wal", filepath.Base(second)), disk); err != nil {
				t.Fatal(err)
			}
			o := Options{Node: "edge-1"}.WithReads(disk.read)
			l := openLog(t, dir, o)
			shipped := shipAll(t, l)
			checkLedger(t, l)
			mustClose(t, l)
			disk.repair()
			l = openLog(t, dir, o)
			shipped = append(shipped, shipAll(t, l)...)
			if !slices.Equal(shipped, c.shipped) {
				t.Errorf("shipped %v, want %v", shipped, c.shipped)
			}
			lost, skipped := notedSeqs(t, l)
			skipped = slices.DeleteFunc(skipped, func(seq uint64) bool { return seq > end })
			if !slices.Equal(lost, c.lost) || !slices.Equal(skipped, c.skipped) {
				t.Errorf("noted as lost %v, want %v; as skipped %v, want %v", lost, c.lost, skipped, c.skipped)
			}
			checkLedger(t, l)
		})
	}
}
