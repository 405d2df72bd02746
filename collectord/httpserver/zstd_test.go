package httpserver

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"collectord/collectord/testrun"
)

// zstdFrames returns zstd bodies of all kinds, and their decoded content.
func zstdFrames(t testing.TB) map[string][2][]byte {
	t.Helper()
	encode := func(text []byte, flush int, options ...zstd.EOption) []byte {
		var b bytes.Buffer
		w, err := zstd.NewWriter(&b, append(options, zstd.WithEncoderConcurrency(1))...)
		if err != nil {
			t.Fatal(err)
		}
		if flush == 0 {
			return w.EncodeAll(text, nil)
		}
		for rest := text; len(rest) > 0; rest = rest[min(len(rest), flush):] {
			if _, err := w.Write(rest[:min(len(rest), flush)]); err != nil {
				t.Fatal(err)
			}
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	lines := func(n int) (text []byte) {
		for i := range n {
			text = fmt.Appendf(text, "{\"n\":%d,\"x\":\"%x\"}\n", i, rand.Uint64())
		}
		return text
	}
	same := []byte(strings.Repeat("{\"a\":\"the same again and again\"}\n", 90_000))
	some, many := lines(10), lines(50_000)
	noise := []byte("{\"x\":\"" + strings.Repeat("x", 200<<10) + "\"}")
	rle := func(n int, c byte, last uint32) string {
		head := binary.LittleEndian.AppendUint32(nil, uint32(n)<<3|1<<1|last)
		return string(head[:3]) + string(c)
	}
	raw := func(text string) string {
		head := binary.LittleEndian.AppendUint32(nil, uint32(len(text))<<3)
		return string(head[:3]) + text
	}
	skippable := []byte("\x5d\x2a\x4d\x18\x05\x00\x00\x00hello")
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	blank := func(n int) []byte { return bytes.Repeat([]byte{' '}, n) }
	return map[string][2][]byte{
		"small":                   {encode(some, 0), some},
		"in pieces":               {encode(many, 1<<20), many},
		"whole":                   {encode(many, 0), many},
		"one segment":             {encode(many, 0, zstd.WithSingleSegment(true)), many},
		"all alike":               {encode(same, len(same)), same},
		"flushed after each line": {encode(many[:400<<10], 60), many[:400<<10]},
		"a small window":          {encode(many, 1<<20, zstd.WithWindowSize(1<<10)), many},
		"no checksum":             {encode(noise, 1<<20, zstd.WithEncoderCRC(false)), noise},
		"frames one by one":       {join(skippable, encode(some, 0), skippable, encode(same, len(same)), encode(nil, 0), encode(some, 5)), join(some, same, some)},
		"blocks of one byte": {
			[]byte("\x28\xb5\x2f\xfd\x00\x68" + rle(128<<10, ' ', 0) + raw("{}\n") + rle(128<<10, ' ', 1)),
			join(blank(128<<10), []byte("{}\n"), blank(128<<10)),
		},
	}
}

// TestAllKindsOfZstdFramesAreDecoded compares with the library's streaming decoder, and
// checks that no more memory stays reserved than is used.
func TestAllKindsOfZstdFramesAreDecoded(t *testing.T) {
	t.Parallel()
	h := newServer(t, newMemoryLog(), Options{})
	for name, f := range zstdFrames(t) {
		if n := zstdSizeBound(f[0]); n < len(f[1]) {
			t.Errorf("%s: the bound is %d bytes, the content has %d", name, n, len(f[1]))
		}
		r, _ := h.requests.Get().(*request)
		r.begin(&header{coding: zstandard}, "")
		r.rawBody = f[0]
		if n, err := h.decodeZstd(r); err != nil || n != len(f[1]) || !bytes.Equal(r.body, f[1]) {
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
		if over := r.reserved.allowedBytes() - len(r.body); r.reserved.large > 0 && over > smallBodyBytes {
			t.Errorf("%s: %d bytes are reserved for %d", name, r.reserved.allowedBytes(), len(r.body))
		}
		for cut := 0; cut < 20; cut += testrun.OneIn(5) {
			d, _ := h.requests.Get().(*request)
			d.begin(&header{coding: zstandard}, "")
			d.rawBody = f[0][:len(f[0])*cut/20]
			n, err := h.decodeZstd(d)
			reader, _ := zstd.NewReader(bytes.NewReader(d.rawBody), zstd.WithDecoderConcurrency(1))
			want, wantErr := io.ReadAll(reader)
			reader.Close()
			if (err == nil) != (wantErr == nil) || err == nil && !bytes.Equal(d.body, want) {
				t.Errorf("%s, truncated: %d bytes, %v; want %d, %v", name, n, err, len(want), wantErr)
			}
			d.rawBody = nil
			h.release(d)
		}
		r.rawBody = nil
		h.release(r)
	}
	if h.inFlight.free != h.opts.MaxInFlight || h.small.free != smallBodiesBytes {
		t.Error("some reserved memory was not released")
	}
}

// A frame may declare a size that is larger than its content.
func TestADeclaredFrameSizeUsesNoMemory(t *testing.T) {
	_, addr := startServer(t, newMemoryLog(), Options{})
	roundTrip(t, addr, post(compress(t, "zstd", "{}"), "Content-Encoding: zstd"))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, declared := range []uint64{3, 1 << 20, 8 << 20, 1 << 40} {
		body := binary.LittleEndian.AppendUint64([]byte("\x28\xb5\x2f\xfd\xe0"), declared) // one segment of that size
		body = append(body, "\x11\x00\x00{}"...)                                           // a block of two bytes, the last
		a, text := roundTrip(t, addr, post(string(body), "Content-Encoding: zstd"))
		if a.StatusCode != http.StatusBadRequest && a.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("%d declared: %s %s", declared, a.Status, text)
		}
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
		t.Errorf("%d bytes were allocated", n)
	}
}
