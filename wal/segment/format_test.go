package segment

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"collectord/wal/vfs"
)

var update = flag.Bool("update", false, "write the golden files anew, for a new format version")

// goldenRecords returns the records of the golden segment, by frame.
func goldenRecords() [][]Record {
	id := func(last byte) ID {
		return ID{0x01, 0x9f, 0x2a, 0x3b, 0x4c, 0x5d, 0x70, 0x01, 0x80, 0, 0, 0, 0, 0, 0, last}
	}
	return [][]Record{
		{
			{ID: id(1), Seq: 41, ReceivedAt: 1_790_000_000_000_001, Source: HTTP, Usage: []byte(`{"patientId":"100"}`)},
			{ID: id(2), Seq: 42, ReceivedAt: 1_790_000_000_000_002, Source: UDP, Client: "ward-7", Usage: []byte(`{"n":1.50,"ü":"\u00fc"}`)},
		},
		{{ID: id(3), Seq: 43, ReceivedAt: 1_790_000_000_000_003, Source: HTTP, Usage: bytes.Repeat([]byte("x"), 200)}},
	}
}

var goldenHeader = Header{LogID: 0x0123456789abcdef, Run: 0xfedcba9876543210, Node: "edge-1", CreatedAt: 1_790_000_000_000_000}

func TestGoldenSegment(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "segment")
	w, err := Create(vfs.OSDisk(), dir, goldenHeader, Prealloc{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, recs := range goldenRecords() {
		buf := make([]byte, FrameStart)
		for i := range recs {
			buf = AppendRecord(buf, &recs[i])
		}
		PutFrame(buf, goldenHeader.LogID, goldenHeader.Run, recs[0].Seq, uint32(len(recs)))
		if err := w.Append(buf); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, FileName)
	compareGolden(t, "segment-v1", path)

	b, err := os.ReadFile(filepath.Join("testdata", "segment-v1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if h, err := ReadHeader(vfs.OSDisk(), path); err != nil || h != goldenHeader {
		t.Errorf("header %+v, %v", h, err)
	}
	var want []Record
	for _, recs := range goldenRecords() {
		want = append(want, recs...)
	}
	n := 0
	for r, err := range Records(vfs.OSDisk(), path, 41, 43, func() {}) {
		if err != nil {
			t.Fatal(err)
		}
		w := want[n]
		if r.ID != w.ID || r.Seq != w.Seq || r.ReceivedAt != w.ReceivedAt || r.Source != w.Source || r.Client != w.Client || !bytes.Equal(r.Usage, w.Usage) {
			t.Errorf("record %d: %+v, want %+v", n, *r, w)
		}
		n++
	}
	if n != len(want) {
		t.Errorf("%d records, want %d", n, len(want))
	}
}

// compareGolden compares the file at path with the file of that name in testdata.
func compareGolden(t *testing.T, name, path string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	name = filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(name, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs from what was written:\n got %x\nwant %x", name, got, want)
	}
}
