package wal

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// discardingFS discards all bytes, so that hours of a busy host take little memory.
type discardingFS struct{ vfs.OS }

func (f discardingFS) OpenWritable(path string) (vfs.File, error) {
	file, err := f.OS.OpenWritable(path)
	return discardingFile{file}, err
}

type discardingFile struct{ vfs.File }

func (discardingFile) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (discardingFile) Reserve(int64) error                    { return nil }
func (discardingFile) Sync() error                            { return nil }
func (discardingFile) Datasync() error                        { return nil }

type discardingWriter struct{}

func newDiscardingWriter(dir string, _ []byte) (segment.EntryWriter, error) {
	return discardingWriter{}, os.WriteFile(filepath.Join(dir, segment.FileName), nil, 0o600)
}

func (discardingWriter) Write([]byte) error { return nil }
func (discardingWriter) KeepsCopies() bool  { return false }
func (discardingWriter) Close() error       { return nil }

// TestQuietHostsMakeFewObjectsAndBusyHostsShipSoon counts the seals in an hour under
// steady loads, and measures the greatest age of an unsealed record.
func TestQuietHostsMakeFewObjectsAndBusyHostsShipSoon(t *testing.T) {
	for name, load := range map[string]struct {
		bytes  int // size of a usage
		every  time.Duration
		hour   time.Duration // simulated time
		seals  uint64        // per hour
		oldest time.Duration
	}{
		"1 a minute":        {200, time.Minute, time.Hour, 12, 5 * time.Minute},
		"1 a second":        {200, time.Second, time.Hour, 12, 5 * time.Minute},
		"1 MiB a minute":    {1 << 20, time.Minute, time.Hour, 12, 5 * time.Minute},
		"10 MiB a minute":   {1 << 20, 6 * time.Second, 10 * time.Minute, 60, time.Minute},
		"100 MiB a minute":  {1 << 20, 600 * time.Millisecond, 4 * time.Minute, 90, 40 * time.Second}, // the last segment is not full yet
		"3 MiB a minute":    {1 << 20, 20 * time.Second, time.Hour, 22, 170 * time.Second},            // 8 MiB after 2 min 40 s
		"a burst an hour":   {12 << 20, time.Hour, time.Hour, 1, time.Minute},
		"a usage every 5 h": {200, 5 * time.Hour, 5 * time.Hour, 0, 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := Options{SegmentSize: 64 << 20, BoundsInterval: rareBounds, files: discardingFS{}, newWriter: newDiscardingWriter}
				l := openLog(t, memoryDir(t), o)
				removed := make(chan struct{})
				go func() { // as if each segment were shipped at once
					defer close(removed)
					for {
						segments, more := l.Sealed()
						for _, s := range segments {
							if err := s.Remove(); err != nil {
								t.Error(err)
							}
						}
						select {
						case <-more:
						case <-l.closing:
							return
						}
					}
				}()
				oldest := time.Duration(0)
				usage, end := make([]byte, load.bytes), time.Now().Add(load.hour)
				for next := time.Now(); next.Before(end); {
					if err := l.Append(context.Background(), Record{Usage: usage}); err != nil {
						t.Fatal(err)
					}
					for next = next.Add(load.every); time.Now().Before(next); {
						time.Sleep(min(time.Until(next), time.Second)) // of synctest's clock
						synctest.Wait()
						oldest = max(oldest, l.Stats().OldestUnshipped)
					}
				}
				seals := uint64(0)
				for _, n := range l.Stats().Seals {
					seals += n
				}
				per := seals * uint64(time.Hour) / uint64(load.hour)
				t.Logf("%d seals an hour, a record is at most %v old when it is sealed", per, oldest)
				if per+1 < load.seals || per > load.seals+1 {
					t.Errorf("%d seals an hour, want %d", per, load.seals)
				}
				if oldest > load.oldest+time.Second {
					t.Errorf("a record was %v old and not sealed", oldest)
				}
				mustClose(t, l)
				<-removed
			})
		})
	}
}

func sealingOf(o Options) sealing {
	b := &base{opts: o}
	b.limits.Store(o.limits())
	return b.sealing()
}

func TestSegmentSizeIsAtMostA32ndOfMaxBytes(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct{ configured, maxBytes, want int64 }{
		{64 * mib, 4 << 30, 64 * mib},
		{256 * mib, 4 << 30, 128 * mib},
		{64 * mib, 1 << 30, 32 * mib},
		{64 * mib, 64 * mib, 4 * mib},
		{64 * mib, 8 * mib, 2 * mib}, // at least four segments fit
		{1 * mib, 4 << 30, 1 * mib},
	} {
		o := Options{SegmentSize: c.configured, MaxBytes: c.maxBytes}
		if got := sealingOf(o).size; got != c.want {
			t.Errorf("segment size %d, max bytes %d: got %d, want %d", c.configured, c.maxBytes, got, c.want)
		}
	}
}

func TestALoweredSegmentSizeIsLogged(t *testing.T) {
	var text logBuffer
	logger := slog.New(slog.NewTextHandler(&text, nil))
	l := openLog(t, t.TempDir(), Options{SegmentSize: 64 << 20, MaxBytes: 4 << 30, Logger: logger})
	l.SetLimits(Limits{MaxBytes: 1 << 30})
	l.SetLimits(Limits{MaxBytes: 1 << 30, SealAfter: time.Second})
	mustClose(t, l)
	if got := text.text.String(); strings.Count(got, "wal.segment_size is lowered") != 1 || !strings.Contains(got, "lowered_to=33554432") {
		t.Errorf("logged: %s", got)
	}
}

func TestSealSmallAfterIsTheLatestAge(t *testing.T) {
	for _, c := range []struct {
		o     Options
		bytes int64
		want  time.Duration
	}{
		{Options{}, smallSegment - 1, 5 * time.Minute},
		{Options{}, smallSegment, time.Minute},
		{Options{SealAfter: time.Second}, 1, time.Second},
		{Options{SealAfter: time.Hour}, 1, time.Hour},
		{Options{SealAfter: time.Hour, SealSmallAfter: time.Minute}, smallSegment, time.Minute},
	} {
		o := c.o.withDefaults()
		if got := sealingOf(o).age(c.bytes); got != c.want {
			t.Errorf("%v and %v, %d bytes: %v, want %v", c.o.SealAfter, c.o.SealSmallAfter, c.bytes, got, c.want)
		}
	}
}
