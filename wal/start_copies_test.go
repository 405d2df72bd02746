package wal

import (
	"bytes"
	"context"
	"log/slog"
	"runtime"
	"strings"
	"testing"

	"collectord/wal/segment"
)

// A new version of the log library may keep its copies elsewhere. Records are safe
// then, but segments are small, batches several times slower, and the largest requests
// take three times the memory (writer_share.go of package segment).
func TestTheUnderlyingLogCopiesNothing(t *testing.T) {
	log := openLog(t, t.TempDir(), Options{})
	large := Record{Usage: bytes.Repeat([]byte{'x'}, MaxUsage)}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 4 {
		if err := log.Append(context.Background(), large); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > MaxUsage {
		t.Errorf("%d bytes were allocated for 4 frames of %d", n, MaxUsage)
	}
}

func TestALogThatCopiesKeepsItsSegmentsSmallAndReportsItOnce(t *testing.T) {
	for name, c := range map[string]struct {
		size     int64
		warnings int
	}{"large segments": {64 << 20, 1}, "small ones": {segment.MaxCopied, 0}} {
		t.Run(name, func(t *testing.T) {
			var logged logBuffer
			log := openLog(t, t.TempDir(), Options{
				SegmentSize: c.size, newWriter: segment.NewCopyingWriter,
				Logger: slog.New(slog.NewTextHandler(&logged, nil)),
			})
			const records = 20
			for range records {
				if err := log.Append(context.Background(), Record{Usage: bytes.Repeat([]byte{'x'}, 1<<20)}); err != nil {
					t.Fatal(err)
				}
			}
			if err := log.Seal(context.Background()); err != nil {
				t.Fatal(err)
			}
			found := 0
			segments, _ := log.Sealed()
			for _, s := range segments {
				// A segment is full at that size, and grows by as much again while the
				// next one is prepared.
				if s.Bytes() > 2*segment.MaxCopied+segment.MaxFrame {
					t.Errorf("%s has %d bytes", s, s.Bytes())
				}
				for _, err := range s.Records() {
					if err != nil {
						t.Fatal(err)
					}
					found++
				}
			}
			if found != records {
				t.Errorf("%d records of %d", found, records)
			}
			if n := strings.Count(logged.text.String(), "level=WARN"); n != c.warnings {
				t.Errorf("%d warnings:\n%s", n, logged.text.String())
			}
		})
	}
}
