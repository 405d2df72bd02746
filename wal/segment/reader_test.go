package segment

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"collectord/wal/vfs"
)

// FuzzFrames gives the scanner any file. It must end, believe nothing whose
// checksum does not fit, and find at least what a strict reader does.
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
		first := max(1, Peek(disk, path).FirstSeq)
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

// TestTheUnderlyingLogIsLentItsCopies fails where a new version of the underlying
// log keeps its copies elsewhere.
func TestTheUnderlyingLogIsLentItsCopies(t *testing.T) {
	w, err := Create(vfs.OSDisk(), filepath.Join(t.TempDir(), "segment"), Header{LogID: 1, Run: 2}, Ahead{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abandon()
	buf := AppendRecord(make([]byte, FrameStart), &Record{Usage: []byte("{}")})
	PutFrame(buf, 1, 2, 1, 1)
	if err := w.Append(buf); err != nil {
		t.Fatal(err)
	}
	if w.lent == nil || cap(*w.lent.batch)+cap(*w.lent.file) > 0 {
		t.Errorf("the copies are at %v", w.lent)
	}
}
