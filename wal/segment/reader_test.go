package segment

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"collectord/wal/vfs"
)

// FuzzFrames scans any file. The scan must end, accept nothing whose checksum does not
// match, and find at least the records that a strict reader finds.
func FuzzFrames(f *testing.F) {
	b, err := os.ReadFile(filepath.Join("testdata", "segment-v1"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)-1])
	f.Add(append(bytes.Clone(b), b[60:]...))
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), FileName)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		disk := vfs.OSDisk()
		start, err := Peek(disk, path)
		if err != nil {
			t.Fatal(err)
		}
		first := max(1, start.FirstSeq)
		var strict uint64
		for rec, err := range Records(disk, path, first, MaxSeq-1, func() {}) {
			if err == nil {
				strict = rec.Seq
				continue
			}
			if damage := new(DamageError); !errors.As(err, &damage) {
				t.Fatal(err)
			}
		}
		header, err := ReadHeader(disk, path)
		if err != nil {
			return
		}
		scan, err := Wanted{LogID: header.LogID, First: first, Last: max(first, strict)}.Scan(disk, path)
		if err != nil {
			t.Fatal(err)
		}
		if strict > 0 && !scan.IsWhole(first, strict) {
			t.Errorf("a strict reader finds seq %d to %d, a scan %v", first, strict, scan.Pieces)
		}
	})
}

// TestAScanAllocatesNothingForAFrame: a large segment can contain a million frames.
func TestAScanAllocatesNothingForAFrame(t *testing.T) {
	w := create(t, nil)
	const frames = 20_000
	for seq := range uint64(frames) {
		if err := w.Append(frameOf(seq+1, 20)); err != nil {
			t.Fatal(err)
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	scan, err := All(1).Scan(vfs.OSDisk(), w.file.Name())
	if err != nil || scan.Count() != frames {
		t.Fatalf("%d records, %v", scan.Count(), err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 8*frames+4*windowSize {
		t.Errorf("%d frames allocated %d bytes", frames, n)
	}
}
