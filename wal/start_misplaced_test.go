package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"collectord/wal/segment"
)

const sector = 512

// misplacements returns each content that a disk can make of a file by misplacing or
// losing one or two sectors. Sectors of other may appear in it.
func misplacements(file, other []byte) (all map[string][]byte) {
	all = map[string][]byte{}
	part := func(b []byte, i int) []byte { return b[min(len(b), i*sector):min(len(b), (i+1)*sector)] }
	sectors := (len(file) + sector - 1) / sector
	change := func(name string, do func(b []byte)) {
		b := bytes.Clone(file)
		do(b)
		all[name] = b
	}
	for i := range sectors {
		change(fmt.Sprintf("zeros over %d", i), func(b []byte) { clear(part(b, i)) })
		change(fmt.Sprintf("another log's over %d", i), func(b []byte) { copy(part(b, i), part(other, i)) })
		for j := range sectors {
			if i != j {
				change(fmt.Sprintf("%d over %d", j, i), func(b []byte) { copy(part(b, i), part(file, j)) })
			}
			if i < j {
				change(fmt.Sprintf("%d and %d swapped", i, j), func(b []byte) {
					copy(part(b, i), part(file, j))
					copy(part(b, j), part(file, i))
				})
			}
		}
	}
	return all
}

// TestMisplacedSectorsLoseOnlyMissingFrames asserts that each record whose frame is
// somewhere in the file is shipped once, and each other record is noted.
func TestMisplacedSectorsLoseOnlyMissingFrames(t *testing.T) {
	const n = 35
	fill := func(from int) (dir string, file []byte, ends []int64) {
		t.Helper()
		l := openLog(t, t.TempDir(), Options{Node: "edge-1", SegmentSize: 4 << 10})
		for i := range n {
			mustAppend(t, l, Record{Usage: usage(from + i)})
		}
		dir = t.TempDir()
		if err := os.CopyFS(filepath.Join(dir, "wal"), os.DirFS(l.dir)); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "wal", segment.ActiveName(1), segment.FileName)
		ends = frameEnds(t, path)
		file, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return dir, file[:ends[n]], ends
	}
	dir, file, ends := fill(0)
	_, other, _ := fill(1000)
	for _, sealed := range []bool{true, false} {
		name := segment.ActiveName(1)
		if sealed {
			name = segment.SealedName(1, n)
		}
		for what, content := range misplacements(file, other) {
			t.Run(fmt.Sprintf("%s, sealed %v", what, sealed), func(t *testing.T) {
				t.Parallel()
				var want, lost []uint64
				for i := range n {
					frame := file[ends[i]+int64(len(uvarint(int(ends[i+1]-ends[i])))) : ends[i+1]]
					if bytes.Contains(content, frame) {
						want = append(want, uint64(i+1))
					} else {
						lost = append(lost, uint64(i+1))
					}
				}
				if !sealed { // missing records after the last one look like a torn tail
					lost = slices.DeleteFunc(lost, func(seq uint64) bool { return seq > want[len(want)-1] })
				}
				copied := memoryDir(t)
				path := filepath.Join(copied, "wal", name)
				for _, err := range []error{
					os.MkdirAll(path, 0o750),
					os.WriteFile(filepath.Join(path, segment.FileName), content, 0o640),
				} {
					if err != nil {
						t.Fatal(err)
					}
				}
				identity, err := os.ReadFile(filepath.Join(dir, "wal", identityName))
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(copied, "wal", identityName), identity, 0o640); err != nil {
					t.Fatal(err)
				}
				inspected := examined(t, copied, name)

				l := openLog(t, copied, Options{Node: "edge-1", SegmentSize: 4 << 10})
				if got := shipAll(t, l); !slices.Equal(got, want) {
					t.Errorf("shipped %v, want %v", got, want)
				}
				if noted, _ := notedSeqs(t, l); !slices.Equal(noted, lost) {
					t.Errorf("noted as lost %v, want %v", noted, lost)
				}
				checkLedger(t, l)
				if !slices.Equal(inspected, want) {
					t.Errorf("an inspector finds %v, want %v", inspected, want)
				}
			})
		}
	}
}

// examined returns the seqs that an Inspector finds in a segment.
func examined(t *testing.T, dir, name string) (seqs []uint64) {
	t.Helper()
	i, err := Inspect(dir)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := i.Entries()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name != name {
			continue
		}
		if _, err := i.Examine(e, func(r *Record) error {
			seqs = append(seqs, r.Seq)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	return seqs
}

func uvarint(n int) []byte { return binary.AppendUvarint(nil, uint64(n)) }

// TestASectorOfTheNextSegmentHidesNoLoss: the first frame of a segment is that of the
// next one, although its name is right.
func TestASectorOfTheNextSegmentHidesNoLoss(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir, Options{})
	mustAppend(t, l, Record{Usage: usage(0)})
	mustAppend(t, l, Record{Usage: usage(1)})
	mustSeal(t, l)
	mustAppend(t, l, Record{Usage: usage(2)})
	mustSeal(t, l)
	sealed, _ := l.Sealed()
	first, next := sealed[0].path(), sealed[1].path()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(next)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(first, file[:min(len(file), sector)], 0o640); err != nil { // the sector also contains the rest of the file
		t.Fatal(err)
	}
	l = openLog(t, dir, Options{})
	if got := shipAll(t, l); !slices.Equal(got, []uint64{3}) {
		t.Errorf("shipped %v", got)
	}
	if noted, _ := notedSeqs(t, l); !slices.Equal(noted, []uint64{1, 2}) {
		t.Errorf("noted as lost %v, want 1 and 2", noted)
	}
}

// TestASectorOfAnotherSegmentHidesNoLossOfARemoval: a crash interrupted the removal of
// a segment whose first sector is that of an existing segment.
func TestASectorOfAnotherSegmentHidesNoLossOfARemoval(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir, Options{})
	const n = 20 // records per frame, so that a frame exceeds a sector
	for i := range 4 {
		var recs []*Record
		for k := range n {
			recs = append(recs, &Record{Usage: usage(i*n + k)})
		}
		if err := l.AppendSeq(t.Context(), slices.Values(recs)); err != nil {
			t.Fatal(err)
		}
		mustSeal(t, l)
	}
	sealed, _ := l.Sealed()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(sealed[0].path())
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(sealed[2].path())
	if err != nil {
		t.Fatal(err)
	}
	copy(file, first[:sector])
	if err := errors.Join(os.WriteFile(sealed[2].path(), file, 0o640), os.Rename(sealed[2].dir, sealed[2].dir+damagedSuffix)); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, dir, Options{})
	all := seqsTo(4 * n)
	if got := shipAll(t, l); !slices.Equal(got, slices.Concat(all[:2*n], all[3*n:])) {
		t.Errorf("shipped %v", got)
	}
	if noted, _ := notedSeqs(t, l); !slices.Equal(noted, all[2*n:3*n]) {
		t.Errorf("noted as lost %v", noted)
	}
}

// TestASectorOfAShippedSegmentLosesOnlyWhatItCovers: the first frame is that of a
// segment that no longer exists, and the rest is right.
func TestASectorOfAShippedSegmentLosesOnlyWhatItCovers(t *testing.T) {
	const n = 35
	dir := t.TempDir()
	l := openLog(t, dir, Options{})
	for i := range 2 * n {
		if mustAppend(t, l, Record{Usage: usage(i)}); i%n == n-1 {
			mustSeal(t, l)
		}
	}
	sealed, _ := l.Sealed()
	file, err := os.ReadFile(sealed[0].path())
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(sealed[1].path())
	if err != nil {
		t.Fatal(err)
	}
	copy(file, other[:sector])
	for _, err := range []error{os.WriteFile(sealed[0].path(), file, 0o640), sealed[1].Remove(), l.Close()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	l = openLog(t, dir, Options{})
	got := shipAll(t, l)
	noted, _ := notedSeqs(t, l)
	if all := slices.Sorted(slices.Values(slices.Concat(got, noted))); len(all) != n || len(got) < n-10 || len(noted) == 0 {
		t.Errorf("shipped %v, noted as lost %v", got, noted)
	}
}
