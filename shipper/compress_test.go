package shipper

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"

	"collectord/shipper/bucket"
	"collectord/wal"
)

// frame is what the headers of a zstd frame contain.
type frame struct {
	sizeBytes    int
	blocks       int
	hasChecksum  bool
	windowBytes  uint64 // 0: the frame is a single segment
	contentBytes uint64 // 0: not in the header
}

// parseFrame reads the headers of one zstd frame (RFC 8878, section 3.1.1).
func parseFrame(b []byte) (f frame, err error) {
	at := 0
	readUint := func(n int) (v uint64) { // little endian
		if at+n > len(b) {
			err = io.ErrUnexpectedEOF
			return 0
		}
		for i := range n {
			v |= uint64(b[at+i]) << (8 * i)
		}
		at += n
		return v
	}
	if magic := readUint(4); magic != 0xFD2FB528 {
		return f, fmt.Errorf("magic %#x", magic)
	}
	descriptor := readUint(1)
	single := descriptor&(1<<5) != 0
	f.hasChecksum = descriptor&(1<<2) != 0
	if descriptor&(1<<3) != 0 {
		return f, errors.New("a reserved bit is set")
	}
	if !single {
		window := readUint(1)
		base := uint64(1) << (10 + window>>3)
		f.windowBytes = base + base/8*(window&7)
	}
	if dictionary := readUint([]int{0, 1, 2, 4}[descriptor&3]); dictionary != 0 {
		return f, fmt.Errorf("dictionary %d", dictionary)
	}
	switch descriptor >> 6 {
	case 0:
		if single {
			f.contentBytes = readUint(1)
		}
	case 1:
		f.contentBytes = readUint(2) + 256
	case 2:
		f.contentBytes = readUint(4)
	case 3:
		f.contentBytes = readUint(8)
	}
	for last := false; !last && err == nil; f.blocks++ {
		header := readUint(3)
		last = header&1 != 0
		size := int(header >> 3)
		switch header >> 1 & 3 {
		case 1: // one byte, repeated
			size = 1
		case 3:
			return f, errors.New("a reserved block type")
		}
		at += size
	}
	if f.hasChecksum {
		readUint(4)
	}
	f.sizeBytes = at
	return f, err
}

// TestAnObjectIsExactlyOneFrame: some readers stop, or fail, at bytes after the first
// frame.
func TestAnObjectIsExactlyOneFrame(t *testing.T) {
	for name, fill := range map[string]func(t *testing.T, l *wal.Log){
		"one record":                   func(t *testing.T, l *wal.Log) { fill(t, l, 1, 1) },
		"many records":                 func(t *testing.T, l *wal.Log) { fill(t, l, 5000, 5000) },
		"records that do not compress": func(t *testing.T, l *wal.Log) { fillLarge(t, l, 20, 20<<10) },
	} {
		l := openLog(t, t.TempDir())
		fill(t, l)
		segments, _ := l.Sealed()
		for _, level := range []zstd.EncoderLevel{zstd.SpeedFastest, zstd.SpeedDefault, zstd.SpeedBetterCompression, zstd.SpeedBestCompression} {
			c, err := newCompressor(level)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // a compressor is reused
				o := compressWith(t, c, segments[0])
				object, err := io.ReadAll(io.NewSectionReader(o.Body, 0, o.Size))
				if err != nil {
					t.Fatal(err)
				}
				f, err := parseFrame(object)
				if err != nil || f.sizeBytes != len(object) || !f.hasChecksum || f.windowBytes > bucket.Window || f.contentBytes != 0 && f.contentBytes != uint64(o.RawBytes) {
					t.Errorf("%s, %v: %+v, and the object has %d bytes for %d bytes of lines; %v", name, level, f, len(object), o.RawBytes, err)
				}
				if f.blocks < int(o.RawBytes>>17) {
					t.Errorf("%s, %v: got %d blocks for %d bytes of lines", name, level, f.blocks, o.RawBytes)
				}
			}
		}
	}
}

// TestEveryLineHasEveryColumn checks also the documented order: all objects have one schema.
func TestEveryLineHasEveryColumn(t *testing.T) {
	l := openLog(t, t.TempDir())
	for _, r := range []wal.Record{
		{Usage: []byte(`{}`)},
		{Usage: []byte(`{"client":1}`), Source: wal.UDP},
		{Usage: []byte(`{"id":null}`), Client: "ward-3"},
		{Usage: []byte(`{}`), Client: "a \"clinic\" \u2028"},
	} {
		if err := l.Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	store := newFolder(t)
	drain(t, start(t, l, store), 0)
	lines := 0
	for key, err := range store.List(t.Context(), bucket.DataPrefix) {
		if err != nil {
			t.Fatal(err)
		}
		body, stored, err := store.Open(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		r, err := bucket.NewReader(body, stored.Size)
		if err != nil {
			t.Fatal(err)
		}
		for line, err := r.Next(); !errors.Is(err, io.EOF); line, err = r.Next() {
			if err != nil {
				t.Fatal(err)
			}
			lines++
			if got := memberNames(t, line); !slices.Equal(got, bucket.Columns()) {
				t.Errorf("%s has the columns %v, want %v", line, got, bucket.Columns())
			}
			var of map[string]json.RawMessage
			if err := json.Unmarshal(line, &of); err != nil || len(of) != len(bucket.Columns()) {
				t.Errorf("%s: %v, %v", line, of, err)
			}
			if client := string(of["client"]); lines <= 2 != (client == "null") {
				t.Errorf("line %d has client %s", lines, client)
			}
		}
		r.Close()
		body.Close()
	}
	if lines != 4 {
		t.Errorf("got %d lines, want 4", lines)
	}
}

// memberNames returns the names of an object's members, in order.
func memberNames(t *testing.T, line []byte) (names []string) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(line))
	if _, err := dec.Token(); err != nil {
		t.Fatal(err)
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name.(string))
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			t.Fatal(err)
		}
	}
	return names
}

func compressWith(t *testing.T, c *compressor, seg *wal.Segment) *bucket.Object {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "object"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	o, err := c.compress(seg, file)
	if err != nil {
		t.Fatal(err)
	}
	return o
}
