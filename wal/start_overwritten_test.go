package wal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"collectord/wal/segment"
)

// TestItStartsWhateverHasTheNameOfASegment puts stray files and directories in the
// range of an unsealed segment, and in that of a shipped one.
func TestItStartsWhateverHasTheNameOfASegment(t *testing.T) {
	whole, names := killedDir(t) // five sealed segments, and 16 and 17 in the active one
	for _, place := range []string{segment.ActiveName(17), segment.SealedName(17, 18), segment.ActiveName(14), segment.ActiveName(4), segment.ActiveName(5), segment.SealedName(16, 17)} {
		for _, file := range []string{"", ".", "x", segment.FileName} {
			for _, shipped := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s with %q, shipped %t", place, file, shipped), func(t *testing.T) {
					t.Parallel()
					dir := memoryDir(t)
					copyDir(t, whole, dir)
					want := seqsTo(killedDirRecords)
					if shipped {
						want = without(want, []uint64{4, 5, 6})
						if err := os.RemoveAll(filepath.Join(dir, "wal", names[1])); err != nil {
							t.Fatal(err)
						}
					}
					if file != "." {
						if err := os.MkdirAll(filepath.Join(dir, "wal", place), 0o750); err != nil {
							t.Fatal(err)
						}
					}
					if file != "" {
						putForeignFile(t, filepath.Join(dir, "wal", place, file))
					}
					l := openLog(t, dir, Options{Node: "edge-1", SegmentSize: 4 << 10})
					mustSeal(t, l)
					if got := shipAll(t, l); !slices.Equal(got, want) {
						t.Errorf("shipped %v, want %v", got, want)
					}
					if notes, err := l.Losses(); err != nil || len(notes) > 0 {
						t.Errorf("notes %v, %v", notes, err)
					}
					mustAppend(t, l, Record{Usage: usage(killedDirRecords)})
					if file != "" {
						checkQuarantined(t, l, []byte(foreignContent))
					}
					mustClose(t, l)
					l = openLog(t, dir, Options{Node: "edge-1", SegmentSize: 4 << 10})
					if found := findings(l); len(found) > 0 {
						t.Errorf("the second start found %v", found)
					}
					if got := shipAll(t, l); !slices.Equal(got, []uint64{killedDirRecords + 1}) {
						t.Errorf("the second start ships %v", got)
					}
				})
			}
		}
	}
}

// TestAStrayEntryHidesNoRecordOfASegmentWithoutItsFile: a sealed segment without its
// file and an unsealed name without a file claim the same records.
func TestAStrayEntryHidesNoRecordOfASegmentWithoutItsFile(t *testing.T) {
	whole, names := killedDir(t)
	for name, c := range map[string]struct {
		lost    int // index of the segment without its file
		place   string
		without []int // indexes of shipped segments
		noted   []uint64
	}{
		"the last segment":       {4, segment.ActiveName(14), []int{5}, []uint64{13, 14, 15}},
		"the next was shipped":   {3, segment.ActiveName(11), []int{4}, []uint64{10, 11, 12}},
		"another one comes next": {3, segment.ActiveName(12), nil, []uint64{10, 11, 12}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := memoryDir(t)
			copyDir(t, whole, dir)
			log := filepath.Join(dir, "wal")
			err := os.Remove(filepath.Join(log, names[c.lost], segment.FileName))
			for _, i := range c.without {
				err = errors.Join(err, os.RemoveAll(filepath.Join(log, names[i])))
			}
			if err = errors.Join(err, os.Mkdir(filepath.Join(log, c.place), 0o750)); err != nil {
				t.Fatal(err)
			}
			putForeignFile(t, filepath.Join(log, c.place, "x"))
			l := openLog(t, dir, Options{Node: "edge-1"})
			if noted, _ := notedSeqs(t, l); !slices.Equal(noted, c.noted) {
				t.Errorf("noted as lost %v, want %v", noted, c.noted)
			}
			checkLedger(t, l)
			checkQuarantined(t, l, []byte(foreignContent))
		})
	}
}

// TestAnUnsealedSegmentUnderAnothersSectorKeepsItsSeqs writes the only sector of a
// segment over that of an unsealed one.
func TestAnUnsealedSegmentUnderAnothersSectorKeepsItsSeqs(t *testing.T) {
	const shipped, open1, open2 = 0, 1, 2
	dir := memoryDir(t)
	l := openLog(t, dir, Options{Node: "edge-1"})
	files := make([][]byte, 3)
	dirs := []string{segment.SealedName(1, 3), segment.ActiveName(12), segment.ActiveName(14)}
	for i := range 14 {
		if mustAppend(t, l, Record{Usage: usage(i)}); i == 2 || i == 10 || i == 12 {
			mustSeal(t, l)
		}
	}
	sealed, _ := l.Sealed()
	for i, path := range []string{sealed[0].path(), sealed[2].path(), filepath.Join(l.dir, dirs[open2], segment.FileName)} {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[i] = content
	}
	identity, err := os.ReadFile(filepath.Join(l.dir, identityName))
	if err != nil {
		t.Fatal(err)
	}
	mustClose(t, l)
	for name, c := range map[string]struct {
		there       []int // segments to copy
		over        []byte
		want, noted []uint64
		next        uint64
	}{
		"the only segment":           {there: []int{open1}, over: files[shipped], next: 12},
		"the only segment, the last": {there: []int{open2}, over: files[shipped], next: 14},
		"another segment continues":  {there: []int{open1, open2}, over: files[shipped], want: []uint64{14}, noted: []uint64{12, 13}, next: 15},
		"the segment that continues": {there: []int{open1, open2}, over: files[open2], want: []uint64{14}, noted: []uint64{12, 13}, next: 15},
		"beside the sealed owner":    {there: []int{shipped, open1}, over: files[shipped], want: []uint64{1, 2, 3}, next: 12},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := memoryDir(t)
			for _, i := range c.there {
				path, content := filepath.Join(dir, "wal", dirs[i]), files[i]
				if i == c.there[0] && i != shipped || i == open1 {
					content = c.over
				}
				if err := os.MkdirAll(path, 0o750); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(path, segment.FileName), content, 0o640); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(dir, "wal", identityName), identity, 0o640); err != nil {
				t.Fatal(err)
			}
			l := openLog(t, dir, Options{Node: "edge-1"})
			if got := shipAll(t, l); !slices.Equal(got, c.want) {
				t.Errorf("shipped %v, want %v", got, c.want)
			}
			if noted, _ := notedSeqs(t, l); !slices.Equal(noted, c.noted) {
				t.Errorf("noted as lost %v, want %v", noted, c.noted)
			}
			if !anyFileContains(t, c.over, []string{filepath.Join(l.dir, quarantineName)}) {
				t.Error("the overwriting bytes are not in the quarantine")
			}
			if n := l.Stats().Findings[FoundNoRecords]; n == 0 && len(c.noted) == 0 {
				t.Errorf("findings %v", findings(l))
			}
			mustAppend(t, l, Record{Usage: usage(int(c.next - 1))})
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

// TestASectorOverAnUnsealedSegmentLosesOnlyWhatItCovers writes a sector of a shipped
// segment over the first sector of an unsealed segment. The names differ in one digit,
// and the frames after the sector show which name is right.
func TestASectorOverAnUnsealedSegmentLosesOnlyWhatItCovers(t *testing.T) {
	const shipped, last = 10, 45
	running := openLog(t, t.TempDir(), Options{Node: "edge-1"})
	for i := range last {
		if mustAppend(t, running, Record{Usage: usage(i)}); i == shipped-1 {
			mustSeal(t, running)
		}
	}
	dir := memoryDir(t)
	copyDir(t, running.dir, filepath.Join(dir, "wal"))
	owner := filepath.Join(dir, "wal", segment.SealedName(1, shipped))
	other, err := os.ReadFile(filepath.Join(owner, segment.FileName))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "wal", segment.ActiveName(shipped+1), segment.FileName)
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	copy(file, other[:sector])
	if err := errors.Join(os.WriteFile(path, file, 0o640), os.RemoveAll(owner)); err != nil {
		t.Fatal(err)
	}
	l := openLog(t, dir, Options{Node: "edge-1"})
	got := shipAll(t, l)
	noted, _ := notedSeqs(t, l)
	if all := slices.Concat(noted, got); len(noted) == 0 || len(noted) > sector/64 || !slices.Equal(all, seqsTo(last)[shipped:]) {
		t.Errorf("shipped %v, noted as lost %v", got, noted)
	}
}
