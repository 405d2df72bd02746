package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"collectord/wal/vfs"
	"collectord/wal/vfs/errorfs"
)

// fixChecksum corrects the checksum after an edit of the header of a segment or frame.
func fixChecksum(b []byte) {
	end := len(b) - 4
	binary.LittleEndian.PutUint32(b[end:], crc32.Checksum(b[:end], castagnoli))
}

func TestEveryFieldOfAHeaderIsChecked(t *testing.T) {
	header := Header{LogID: 1, Run: 2, Node: "edge-1"}.append(nil)
	frame := make([]byte, frameHeaderSize)
	frameHeader{logID: 1, run: 2, firstSeq: 3, count: 1, payloadLen: 40}.put(frame)
	decodeFrame := func(b []byte) error { _, err := decodeFrameHeader(b); return err }
	decode := func(b []byte) error { _, err := decodeHeader(b); return err }
	for _, r := range []struct {
		name   string
		good   []byte
		decode func([]byte) error
		edit   func(b []byte)
		want   error
	}{
		{"segment, magic", header, decode, func(b []byte) { b[3]++; fixChecksum(b) }, errBadMagic},
		{"segment, checksum", header, decode, func(b []byte) { b[33]++ }, errBadCRC},
		{"segment, version", header, decode, func(b []byte) { b[4]++; fixChecksum(b) }, ErrVersion},
		{"frame, magic", frame, decodeFrame, func(b []byte) { b[3]++; fixChecksum(b) }, errBadMagic},
		{"frame, checksum", frame, decodeFrame, func(b []byte) { b[24]++ }, errBadCRC},
		{"frame, version", frame, decodeFrame, func(b []byte) { b[4]++; fixChecksum(b) }, ErrVersion},
	} {
		b := slices.Clone(r.good)
		if err := r.decode(b); err != nil {
			t.Errorf("%s: %v", r.name, err)
		}
		if r.edit(b); !errors.Is(r.decode(b), r.want) {
			t.Errorf("%s: %v, want %v", r.name, r.decode(b), r.want)
		}
	}
}

// segmentOf writes a file with a header and the given entries.
func segmentOf(t *testing.T, rows ...[]byte) (path string) {
	t.Helper()
	header := Header{LogID: 1, Run: 2, Node: "edge-1"}.append(nil)
	path = filepath.Join(t.TempDir(), FileName)
	if err := os.WriteFile(path, slices.Concat(uvarint(len(header)), header, bytes.Join(rows, nil)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// entryWith returns an entry with one record, after an edit of its frame's header.
func entryWith(seq uint64, edit func(h *frameHeader)) []byte {
	return entryWithPayload(seq, AppendRecord(nil, &Record{Usage: []byte(`{"n":1}`)}), edit)
}

// entryWithPayload returns an entry that claims to have one record, after an edit of
// its frame's header.
func entryWithPayload(seq uint64, payload []byte, edit func(h *frameHeader)) []byte {
	h := frameHeader{logID: 1, run: 2, firstSeq: seq, count: 1, payloadLen: uint32(len(payload)), payloadCRC: crc32.Checksum(payload, castagnoli)}
	if edit != nil {
		edit(&h)
	}
	b := append(make([]byte, frameHeaderSize), payload...)
	h.put(b)
	return append(uvarint(len(b)), b...)
}

// readStrictly returns the number of records from first to last that a strict reader
// finds.
func readStrictly(disk vfs.Disk, path string, first, last uint64) (n int, err error) {
	for _, err := range Records(disk, path, first, last, func() {}) {
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

func TestAFrameThatContradictsItselfIsInvalid(t *testing.T) {
	longer := entryWith(2, nil)
	longer[0]++
	large := AppendRecord(nil, &Record{Usage: make([]byte, MaxFrame)})
	two := func(h *frameHeader) { h.count = 2 }
	for _, r := range []struct {
		name      string
		second    []byte
		want      string // expected error of a strict reader
		scanFinds bool   // a scan finds the frame nevertheless
	}{
		{"no record", entryWith(2, func(h *frameHeader) { h.count = 0 }), "frame header has impossible values", false},
		{"seq 0", entryWith(2, func(h *frameHeader) { h.firstSeq = 0 }), "frame header has impossible values", false},
		{"the highest seq", entryWith(MaxSeq, nil), "frame header has impossible values", false},
		{"more than an entry may be", entryWith(2, func(h *frameHeader) { h.payloadLen = MaxEntry + 1 }), "frame header has impossible values", false},
		{"fewer records than its header claims", entryWith(2, two), "runs past the end", false},
		{"more records than its header claims", entryWithPayload(2, make([]byte, 2*RecordOverhead), nil), "30 bytes after the last record", false},
		{"large, fewer records than its header claims", entryWithPayload(2, large, two), "runs past the end", false},
		{"large, more records than its header claims", entryWithPayload(2, append(large, make([]byte, RecordOverhead)...), nil), "30 bytes after the last record", false},
		{"another payload", entryWith(2, func(h *frameHeader) { h.payloadCRC++ }), "checksum does not match", false},
		{"another length", append(longer, 0), "frame and entry disagree", true},
		{"another run", entryWith(2, func(h *frameHeader) { h.run++ }), "belongs to another log or run", false},
		{"another seq", entryWith(3, nil), "frame starts at seq 3 instead of 2", false},
		{"a length beyond all", append(uvarint(MaxEntry+1), entryWith(2, nil)[1:]...), "entry length is out of range", true},
	} {
		t.Run(r.name, func(t *testing.T) {
			path := segmentOf(t, entryWith(1, nil), r.second)
			n, err := readStrictly(vfs.OSDisk(), path, 1, 2)
			if damage := new(DamageError); n != 1 || !errors.As(err, &damage) || !strings.Contains(err.Error(), r.want) {
				t.Errorf("%d records, %v", n, err)
			}
			w, err := Wanted{LogID: 1, First: 1, Last: 2}.Scan(vfs.OSDisk(), path)
			if err != nil || w.IsWhole(1, 2) != r.scanFinds || w.Reason == nil && r.name != "a length beyond all" {
				t.Errorf("a scan finds %d records, %v, %v", w.Count(), w.Reason, err)
			}
		})
	}
}

func TestATruncatedHeaderHasItsReason(t *testing.T) {
	header := Header{LogID: 1, Run: 2, Node: "edge-1"}.append(nil)
	for name, r := range map[string]struct {
		content []byte
		want    string
	}{
		"too long": {append(uvarint(maxLaterHeader+1), make([]byte, 100)...), "wrong length"},
		"cut":      {append(uvarint(len(header)), header[:20]...), io.ErrUnexpectedEOF.Error()},
	} {
		path := filepath.Join(t.TempDir(), FileName)
		if err := os.WriteFile(path, r.content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadHeader(vfs.OSDisk(), path); err == nil || !strings.Contains(err.Error(), r.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPeekIgnoresFramesOfOtherLogs(t *testing.T) {
	for name, r := range map[string]struct {
		frame []byte
		want  uint64
	}{
		"ours":                     {entryWith(5, nil), 5},
		"of another run":           {entryWith(5, func(h *frameHeader) { h.run++ }), 0},
		"of another log":           {entryWith(5, func(h *frameHeader) { h.logID++ }), 0},
		"with a seq beyond MaxSeq": {entryWith(MaxSeq, nil), 0},
	} {
		if start, err := Peek(vfs.OSDisk(), segmentOf(t, r.frame)); err != nil || start.FirstSeq != r.want {
			t.Errorf("%s: %+v, %v", name, start, err)
		}
	}
}

func TestOffsetAboveIsWhereTheFirstFrameAboveBegins(t *testing.T) {
	path := segmentOf(t, entryWith(1, nil), entryWith(2, nil), entryWith(3, nil))
	w, err := All(1).Scan(vfs.OSDisk(), path)
	if err != nil {
		t.Fatal(err)
	}
	size := int64(len(entryWith(1, nil)))
	for last, want := range []int64{w.Size - 3*size, w.Size - 2*size, w.Size - size, w.Size} {
		if at, err := w.OffsetAbove(uint64(last)); err != nil || at != want {
			t.Errorf("above %d: %d, want %d (%v)", last, at, want, err)
		}
	}
}

func TestAnUnreadablePageIsTheReason(t *testing.T) {
	path := segmentOf(t, entryWith(1, nil))
	disk := vfs.Disk{FS: errorfs.FS{FS: vfs.OS{}, ReadAt: func(vfs.File, []byte, int64) (int, error) { return 0, syscall.EIO }}}
	if _, err := ReadHeader(disk, path); !errors.Is(err, syscall.EIO) {
		t.Errorf("header: %v", err)
	}
}

// TestAFrameIsVerifiedAgainBeforeUse makes the disk return other bytes after the scan.
func TestAFrameIsVerifiedAgainBeforeUse(t *testing.T) {
	change := false
	disk := vfs.Disk{FS: errorfs.FS{FS: vfs.OS{}, ReadAt: func(f vfs.File, p []byte, off int64) (int, error) {
		n, err := f.ReadAt(p, off)
		if at := bytes.Index(p[:n], []byte(`yy`)); change && at >= 0 {
			p[at] = 'z'
		}
		return n, err
	}}}
	for name, size := range map[string]int{"small": 100, "larger than a window": MaxFrame + 100} {
		payload := AppendRecord(nil, &Record{Usage: bytes.Repeat([]byte("x"), size)})
		payload = AppendRecord(payload, &Record{Usage: []byte("yy")})
		b := append(make([]byte, FrameStart), payload...)
		PutFrame(b, 1, 2, 1, 2)
		path := segmentOf(t, append(uvarint(len(b)-MaxLengthPrefix), b[MaxLengthPrefix:]...))
		change = false
		w, err := All(1).Scan(disk, path)
		if err != nil || w.Count() != 2 {
			t.Fatalf("%s: %d records, %v", name, w.Count(), err)
		}
		change = true
		dir := filepath.Join(t.TempDir(), "piece")
		if _, err := w.Copy(w.Pieces[0], dir); err == nil {
			t.Errorf("%s: copied a damaged frame", name)
		}
		in, err := w.reopen()
		if err != nil {
			t.Fatal(err)
		}
		f := frame{frameHeader: frameHeader{firstSeq: 1, count: 2, payloadLen: uint32(len(payload)), payloadCRC: crc32.Checksum(payload, castagnoli)}}
		f.from = w.HeaderEnd + int64(len(uvarint(len(b)-MaxLengthPrefix)))
		f.to = w.Size
		reason, err := in.records(f, func(*Record) error { return nil })
		if in.close(); err != nil || (reason == nil) != (size < MaxFrame) { // a small frame was verified in the same window
			t.Errorf("%s: %v, %v", name, reason, err)
		}
	}
}

func TestACutIsDurable(t *testing.T) {
	var calls []string
	disk := vfs.Disk{FS: errorfs.FS{FS: vfs.OS{}, Before: func(op, _ string) error { calls = append(calls, op); return nil }}}
	w, err := Create(disk, filepath.Join(t.TempDir(), "segment"), Header{LogID: 1, Run: 2}, Prealloc{}, NewLogWriter)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abandon()
	calls = nil
	if err := w.CutTo(w.bytes); err != nil || !slices.Equal(calls, []string{"truncate", "fsync"}) {
		t.Errorf("calls %v, %v", calls, err)
	}
}
