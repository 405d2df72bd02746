package wal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"collectord/wal/segment"
)

const sector = 512

// misplacements lists everything that a disk can do to one or two sectors of a
// file, given another file whose sectors may turn up in it.
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

// TestMisplacedSectorsCostOnlyWhatIsNowhere has every record shipped once whose
// frame is somewhere in the file, and a note for every other one.
func TestMisplacedSectorsCostOnlyWhatIsNowhere(t *testing.T) {
	const n = 35
	fill := func(from int) (dir string, file []byte, ends []int64) {
		t.Helper()
		l := open(t, t.TempDir(), Options{Node: "edge-1", SegmentSize: 4 << 10})
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
				if !sealed { // what is missing behind the last one looks like a torn tail
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

				l := open(t, copied, Options{Node: "edge-1", SegmentSize: 4 << 10})
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

// examined lists the seqs that an Inspector finds in a segment.
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
