package httpserver

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// manyUsages returns NDJSON of n usages that differ like usages of real devices.
func manyUsages(n int) string {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, `{"patientId":"%d","timestamp":"2026-11-23T08:%02d:%02dZ","medication":"Salbutamol","device":"in-%04d"}`+"\n",
			100+i*7919%900, i/60%60, i%60, i*104729%10000)
	}
	return b.String()
}

func BenchmarkSplit(b *testing.B) {
	text := manyUsages(1000)
	for _, lines := range []bool{false, true} {
		body := []byte(text)
		if !lines {
			body = fmt.Appendf(nil, "[%s]", bytes.ReplaceAll(bytes.TrimSpace(body), []byte("\n"), []byte(",")))
		}
		b.Run(map[bool]string{false: "array", true: "lines"}[lines], func(b *testing.B) {
			h := newServer(b, newMemoryLog(), Options{})
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				r := h.requests.Get().(*request)
				r.begin(&header{content: map[bool]mediaType{true: linesContent}[lines]}, "")
				large, err := h.largeBodies.get()
				if err != nil {
					b.Fatal(err)
				}
				r.rawBody = append(large, body...)
				_ = h.decode(r)
				if p := h.split(r, nil); p != nil || len(r.ranges) != 1000 {
					b.Fatal(p)
				}
				h.release(r)
			}
		})
	}
}

// BenchmarkDecode compares the server's decoding of a body with the decoders alone.
func BenchmarkDecode(b *testing.B) {
	text := manyUsages(1000)
	for _, c := range []coding{gzipped, zstandard} {
		name := []string{"gzip", "zstd"}[c-gzipped]
		sent := []byte(compress(b, name, text))
		b.Run(name+"/server", func(b *testing.B) {
			h := newServer(b, newMemoryLog(), Options{})
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				r := h.requests.Get().(*request)
				r.begin(&header{coding: c}, "")
				r.rawBody = append(r.rawBody[:0], sent...)
				if p := h.decode(r); p != nil || len(r.body) != len(text) {
					b.Fatal(p)
				}
				h.release(r)
			}
		})
		b.Run(name+"/alone", func(b *testing.B) {
			z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
			if err != nil {
				b.Fatal(err)
			}
			defer z.Close()
			g, err := gzip.NewReader(bytes.NewReader([]byte(compress(b, "gzip", ""))))
			if err != nil {
				b.Fatal(err)
			}
			out := make([]byte, len(text)+1)
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				var from io.Reader = z
				err := z.Reset(bytes.NewReader(sent))
				if c == gzipped {
					from, err = g, g.Reset(bytes.NewReader(sent))
				}
				if n, _ := io.ReadFull(from, out); err != nil || n != len(text) {
					b.Fatal(err, n)
				}
			}
		})
	}
}
