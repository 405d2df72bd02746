package wal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"collectord/collectord/testrun"
	"collectord/wal/segment"
)

func TestSalvageKeepsEveryIntactFrame(t *testing.T) {
	const n = 3
	dir, file := sealedDir(t, n)
	ends := frameEnds(t, file)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// hit returns the frames that contain a byte between from and to. The length before
	// a frame does not count, since the frame is found without it.
	hit := func(from, to int64) (lost []int) {
		for i := range n {
			start := ends[i] + int64(len(uvarint(int(ends[i+1]-ends[i]))))
			if from < ends[i+1] && to > start {
				lost = append(lost, i)
			}
		}
		return lost
	}
	type damage struct {
		name string
		file []byte
		lost []int
	}
	var table []damage
	for at := 0; at < len(whole); at += testrun.OneIn(7) {
		flipped := bytes.Clone(whole)
		flipped[at] ^= 1 << (at % 8)
		table = append(table, damage{fmt.Sprintf("bit flipped at %d", at), flipped, hit(int64(at), int64(at)+1)})
		if at%3 == 0 {
			table = append(table, damage{fmt.Sprintf("cut at %d", at), whole[:at], hit(int64(at), int64(len(whole)))})
		}
		if at%5 == 0 && at+40 < len(whole) {
			zeroed := bytes.Clone(whole)
			clear(zeroed[at : at+40])
			table = append(table, damage{fmt.Sprintf("40 zeros at %d", at), zeroed, hit(int64(at), int64(at)+40)})
			shifted := slices.Concat(whole[:at], []byte("junk"), whole[at:])
			lost := []int{}
			for _, i := range hit(int64(at), int64(at)+1) {
				if start := ends[i] + 1; int64(at) > start {
					lost = append(lost, i)
				}
			}
			table = append(table, damage{fmt.Sprintf("4 bytes inserted at %d", at), shifted, lost})
		}
	}
	table = append(table,
		damage{"empty", nil, []int{0, 1, 2}},
		damage{"garbage behind the end", append(bytes.Clone(whole), "garbage"...), nil},
		damage{"a frame twice", slices.Concat(whole[:ends[2]], whole[ends[1]:]), nil},
		damage{"two frames exchanged", slices.Concat(whole[:ends[1]], whole[ends[2]:ends[3]], whole[ends[1]:ends[2]], whole[ends[3]:]), nil},
	)
	for _, d := range table {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			copied := memoryDir(t)
			if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(copied, "wal", segment.SealedName(1, n), segment.FileName), d.file, 0o640); err != nil {
				t.Fatal(err)
			}
			want := slices.DeleteFunc([]int{0, 1, 2}, func(i int) bool { return slices.Contains(d.lost, i) })
			l := openLog(t, copied, Options{Node: "edge-1", SegmentSize: 4 << 10})
			salvageAll(t, l)
			if got := usagesOf(t, l); !slices.Equal(got, want) {
				t.Fatalf("usages %v, want %v", got, want)
			}
			if g := checkLedger(t, l); g.Quarantined != uint64(len(d.lost)) || g.Pending != uint64(len(want)) {
				t.Fatalf("ledger %+v", g)
			}
			checkLosses(t, l, d.lost)
			mustAppend(t, l, Record{Usage: usage(n)})
			mustClose(t, l)
			l = openLog(t, copied, Options{SegmentSize: 4 << 10})
			if got := usagesOf(t, l); !slices.Equal(got, append(want, n)) {
				t.Fatalf("usages after another start %v, want %v and %d", got, want, n)
			}
			checkLosses(t, l, d.lost)
			checkLedger(t, l)
		})
	}
}

// An interrupted salvage leaves the original and some of its pieces.
func TestAnInterruptedSalvageIsRepeated(t *testing.T) {
	dir, file := sealedDir(t, 5)
	ends := frameEnds(t, file)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[ends[3]-1] ^= 1 // in the third frame
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	before := t.TempDir()
	if err := os.CopyFS(before, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	l := openLog(t, dir, Options{Node: "edge-1"})
	salvageAll(t, l)
	segments, _ := l.Sealed()
	if len(segments) != 2 {
		t.Fatalf("pieces %v", segments)
	}
	for _, pieces := range [][]*Segment{segments, segments[:1], segments[1:]} {
		copied := t.TempDir()
		if err := os.CopyFS(copied, os.DirFS(before)); err != nil {
			t.Fatal(err)
		}
		for _, s := range append(pieces, nil) {
			if s == nil {
				if err := os.MkdirAll(filepath.Join(copied, "wal", salvageName, "half"), 0o750); err != nil {
					t.Fatal(err)
				}
				continue
			}
			if err := os.CopyFS(filepath.Join(copied, "wal", s.String()), os.DirFS(s.dir)); err != nil {
				t.Fatal(err)
			}
		}
		l := openLog(t, copied, Options{Node: "edge-1"})
		if g := checkLedger(t, l); g.Recovered != 5 {
			t.Fatalf("recovered %d records, want 5", g.Recovered)
		}
		salvageAll(t, l)
		if got := usagesOf(t, l); !slices.Equal(got, []int{0, 1, 3, 4}) {
			t.Errorf("usages %v", got)
		}
		checkLosses(t, l, []int{2})
		checkLedger(t, l)
	}
}

// Uploads, and so salvages, run concurrently. A failed salvage, as on a full disk, is
// repeated.
func TestSalvagesMayRunConcurrentlyAndBeRepeated(t *testing.T) {
	const segments, each = 8, 5
	dir := t.TempDir()
	l := openLog(t, dir, Options{Node: "edge-1", SegmentSize: 4 << 10})
	for i := range segments * each {
		mustAppend(t, l, Record{Usage: usage(i)})
		if (i+1)%each == 0 {
			mustSeal(t, l)
		}
	}
	sealed, _ := l.Sealed()
	for _, s := range sealed {
		ends := frameEnds(t, s.path())
		b, err := os.ReadFile(s.path())
		if err != nil {
			t.Fatal(err)
		}
		b[ends[3]-1] ^= 1 // in the third frame
		if err := os.WriteFile(s.path(), b, 0o600); err != nil {
			t.Fatal(err)
		}
		left := filepath.Join(l.dir, segment.SealedName(s.first, s.first+1))
		if err := os.CopyFS(left, os.DirFS(s.dir)); err != nil {
			t.Fatal(err)
		}
	}
	var done sync.WaitGroup
	for _, s := range sealed {
		done.Go(func() {
			if changed, err := l.Salvage(s); err != nil || !changed {
				t.Errorf("salvage %s: changed %v, %v", s, changed, err)
			}
		})
	}
	done.Wait()
	if got := usagesOf(t, l); len(got) != segments*(each-1) {
		t.Errorf("usages %v", got)
	}
	checkLedger(t, l)
}

func TestTheRecordsOfAMissingFileAreNotedAsLost(t *testing.T) {
	dir, file := sealedDir(t, 3)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	l := openLog(t, dir, Options{Node: "edge-1"})
	if g := checkLedger(t, l); g.Quarantined != 3 || g.Recovered != 3 {
		t.Errorf("ledger %+v", g)
	}
	checkLosses(t, l, []int{0, 1, 2})
	notes, err := l.Losses()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // may be repeated
		if err := l.LossStored(notes[0]); err != nil {
			t.Fatal(err)
		}
	}
	checkLosses(t, l, nil)
}

// setLaterVersion changes the header of a segment to a later version, and returns the
// content of the file.
func setLaterVersion(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	entry := b[1 : 1+b[0]]
	entry[4] = formatVersion + 1
	binary.LittleEndian.PutUint32(entry[len(entry)-4:], crc32.Checksum(entry[:len(entry)-4], castagnoli))
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return b
}
