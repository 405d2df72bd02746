package wal

import (
	"bytes"
	"context"
	"errors"
	"os"
	"runtime"
	"testing"

	"collectord/wal/segment"
)

// chunk is the number of bytes of a large frame that are read at a time.
const chunk = 256 << 10

// TestALargeFrameIsReadInPieces asserts that reading a large frame takes less memory
// than the frame, and yields nothing of a damaged one.
func TestALargeFrameIsReadInPieces(t *testing.T) {
	log := openLog(t, t.TempDir(), Options{})
	var sent []Record
	for i := range 40_000 {
		sent = append(sent, Record{Usage: bytes.Repeat([]byte{byte(i)}, i%500)})
	}
	for _, size := range []int{chunk - segment.RecordOverhead, chunk, 3 * chunk, 0, 1 << 20} {
		sent = append(sent, Record{Usage: bytes.Repeat([]byte{'x'}, size)}, Record{Usage: []byte("{}")})
	}
	if err := log.Append(context.Background(), sent...); err != nil {
		t.Fatal(err)
	}
	if err := log.Seal(context.Background()); err != nil {
		t.Fatal(err)
	}
	sealed, _ := log.Sealed()
	segment := sealed[0]
	if segment.Bytes() < 10<<20 {
		t.Fatalf("a segment of %d bytes", segment.Bytes())
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n := 0
	for rec, err := range segment.Records() {
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(rec.Usage, sent[n].Usage) || rec.ID != sent[n].ID || rec.Seq != uint64(n+1) {
			t.Fatalf("record %d came back as %d bytes with seq %d", n, len(rec.Usage), rec.Seq)
		}
		n++
	}
	runtime.ReadMemStats(&after)
	if n != len(sent) {
		t.Errorf("%d records of %d", n, len(sent))
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > 3<<20 {
		t.Errorf("reading allocated %d bytes", took)
	}

	file, err := os.OpenFile(segment.path(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rot := func() {
		if _, err := file.WriteAt([]byte{'y'}, segment.Bytes()-100); err != nil {
			t.Fatal(err)
		}
	}
	// The frame may become damaged between its verification and the next read.
	n = 0
	var last error
	for _, err := range segment.Records() {
		if n++; n == 1 {
			rot()
		}
		last = err
	}
	var damage *DamageError
	if !errors.As(last, &damage) || n > len(sent) {
		t.Errorf("%d of %d records of a frame that is damaged while it is read, and %v", n, len(sent), last)
	}
	for rec, err := range segment.Records() {
		if rec != nil || !errors.As(err, &damage) {
			t.Fatalf("a damaged frame yields %v, %v", rec, err)
		}
	}
}
