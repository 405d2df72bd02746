package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"collectord/shipper/bucket"
)

// endless is a reader that repeats a text.
type endless string

func (e endless) Read(p []byte) (int, error) {
	for n := 0; n < len(p); {
		n += copy(p[n:], e)
	}
	return len(p), nil
}

// compress returns the first size bytes of in as one zstd frame.
func compress(t *testing.T, in io.Reader, size int64, window int) []byte {
	t.Helper()
	var out bytes.Buffer
	enc, err := zstd.NewWriter(&out, zstd.WithWindowSize(window), zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(enc, in, size); err != nil {
		t.Fatal(err)
	}
	if err := enc.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestDecompressionBombsAreLimitedAndReported: an intact object follows each of them, and
// must still be read.
func TestDecompressionBombsAreLimitedAndReported(t *testing.T) {
	at := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	line, err := new(bucket.LineEncoder).Append(nil, &bucket.Record{ID: bucket.ID{6: 0x70, 15: 1}, ReceivedAt: at.UnixMicro(), Via: "http", Usage: []byte(`{}`)})
	if err != nil {
		t.Fatal(err)
	}
	largest := make([]byte, 0, bucket.MaxLine)
	largest = append(largest, line[:len(line)-len("{}}\n")]...)
	largest = append(largest, '"')
	largest = append(append(largest, bytes.Repeat([]byte{'x'}, bucket.MaxLine-len(largest)-3)...), "\"}\n"...)
	for name, c := range map[string]struct {
		object []byte
		lines  int // delivered lines
		reason string
	}{
		"an endless line":                {compress(t, endless("x"), 20<<20, 1<<20), 0, "a line is longer than"},
		"a record, then an endless line": {compress(t, io.MultiReader(bytes.NewReader(line), endless("x")), 20<<20, 1<<20), 1, "a line is longer than"},
		"the longest line":               {compress(t, bytes.NewReader(largest), int64(len(largest)), 1<<20), 1, ""},
		"a line one byte too long":       {compress(t, io.MultiReader(strings.NewReader("x"), bytes.NewReader(largest)), int64(len(largest))+1, 1<<20), 0, "a line is longer than"},
		"lines without end":              {compress(t, endless(line), 4<<20, 1<<20), 1, "it has more than the 1 records that its name promises"},
		"empty lines without end":        {compress(t, endless("\n"), 4<<20, 1<<20), 1, "it has more than the 1 records that its name promises"},
		"the largest window":             {compress(t, bytes.NewReader(line), int64(len(line)), 8<<20), 1, ""},
		"a larger window":                {[]byte("\x28\xb5\x2f\xfd\x00\xa0" + strings.Repeat("\x00", 100)), 0, "window size"},
		"5 GiB in one segment":           {[]byte("\x28\xb5\x2f\xfd\xe0\x00\x00\x00\x40\x01\x00\x00\x00" + strings.Repeat("\x00", 100)), 0, "exceed"},
		"an empty object":                {nil, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newFolder(t)
			store, err := bucket.OpenToRead(bucket.Destination{URL: b.store.String()})
			if err != nil {
				t.Fatal(err)
			}
			root := strings.TrimPrefix(b.store.String(), "file://")
			for seq, content := range map[uint64][]byte{1: c.object, 2: compress(t, bytes.NewReader(line), int64(len(line)), 1<<20)} {
				path := filepath.Join(root, bucket.Key{Node: "n", LogID: 1, Run: 2, FirstSeq: seq, LastSeq: seq, Hour: bucket.HourOf(at)}.String())
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o750), os.WriteFile(path, content, 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			lines := 0
			err = Selection{}.Records(context.Background(), store, func(int) {}, func(some []byte) error { lines += bytes.Count(some, []byte("\n")); return nil })
			var damaged *DamagedError
			if lines != c.lines+1 || errors.As(err, &damaged) != (c.reason != "") || c.reason != "" && (damaged.Objects != 1 || !strings.Contains(err.Error(), c.reason)) {
				t.Errorf("got %d lines, want %d and one of the next object: %v", lines, c.lines, err)
			}
			r, err := Run(context.Background(), store, Options{Deep: true, Now: at})
			if err != nil {
				t.Fatal(err)
			}
			reasons := ""
			for _, f := range r.Findings {
				if f.Kind == Damaged {
					reasons += f.Reason
				}
			}
			if c.reason != "" && reasons == "" || r.RawBytes > bucket.MaxLine+1<<20 {
				t.Errorf("the audit read %d bytes, and found %q", r.RawBytes, reasons)
			}
		})
	}
}

func TestOversizedMetadataAndReasonsAreDropped(t *testing.T) {
	f, b := newFake(t)
	long := strings.Repeat("x", 20_000)
	for name, m := range map[string]bucket.Metadata{
		"node":    {Format: 1, Node: long, LogID: "1", Run: "2", FirstSeq: 1, LastSeq: 1, Records: 1, SHA256: "ab"},
		"log id":  {Format: 1, Node: "n", LogID: long, Run: "2", FirstSeq: 1, LastSeq: 1, Records: 1, SHA256: "ab"},
		"SHA-256": {Format: 1, Node: "n", LogID: "1", Run: "2", FirstSeq: 1, LastSeq: 1, Records: 1, SHA256: strings.Repeat("a", 65)},
		"run":     {Format: 1, Node: "n", LogID: "1", Run: "not hex", FirstSeq: 1, LastSeq: 1, Records: 1, SHA256: "ab"},
	} {
		key := "dt=2026-11-23/hour=08/" + strings.ReplaceAll(name, " ", "-") + bucket.Suffix
		b.put(key, []byte("x"), m)
		if stored, err := b.store.Stat(t.Context(), key); err != nil || stored.Metadata != (bucket.Metadata{}) {
			t.Errorf("%s: got metadata %.200q, %v", name, fmt.Sprint(stored.Metadata), err)
		}
	}
	k := bucket.Key{Node: "n", LogID: 1, Run: 2, FirstSeq: 3, LastSeq: 4}
	note, err := bucket.NewLossNote(k, long, time.Now(), true)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.store.Put(t.Context(), note); err != nil {
		t.Fatal(err)
	}
	var damage *bucket.Damage
	if n, err := bucket.ReadLossNote(t.Context(), b.store, k); !errors.As(err, &damage) {
		t.Errorf("a reason of %d bytes was accepted: %v", len(n.Reason), err)
	}
	for key, o := range f.Objects() { // 200 KB of headers, which S3 does not allow
		for i := range 10 {
			o.Header.Set(fmt.Sprint("X-Amz-Meta-More-", i), long)
		}
		if _, _, err := b.store.Open(t.Context(), strings.TrimPrefix(key, "data/")); err == nil || !strings.Contains(err.Error(), "a header that is too large") {
			t.Errorf("%s was opened: %v", key, err)
		}
		break
	}
}
