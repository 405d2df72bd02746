package shipper

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"collectord/collectord/testrun"
	"collectord/shipper/bucket"
	"collectord/wal"
)

// testLimit is how long a test waits for an event. It is much longer than a busy machine
// needs.
const testLimit = 2 * time.Minute

// rareBounds is the BoundsInterval of logs in synctest bubbles. Over hours of simulated time
// these measurements would be most of the work. With TEST_ALL=1 it is the default.
var rareBounds = time.Duration(testrun.OneIn(60)) * time.Second

// segmentSize is that of most logs. A log reserves the space of each segment ahead, so the
// default size takes longer.
const segmentSize = 1 << 20

func openLog(t *testing.T, dir string) *wal.Log {
	t.Helper()
	testrun.WaitPastHourEnd()
	l, err := wal.Open(dir, wal.Options{Node: "edge-1", SegmentSize: segmentSize, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil && !errors.Is(err, wal.ErrClosed) {
			t.Error(err)
		}
	})
	return l
}

// fill appends n records in segments of per records each.
func fill(t *testing.T, l *wal.Log, n, per int) {
	t.Helper()
	for i := range n {
		rec := wal.Record{Usage: fmt.Appendf(nil, `{"n":%d}`, i)}
		if i%3 == 0 {
			rec.Client = `a "clinic"`
		}
		if err := l.Append(context.Background(), rec); err != nil {
			t.Fatal(err)
		}
		if (i+1)%per == 0 {
			if err := l.Seal(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// start runs a shipper until the test ends.
func start(t *testing.T, l *wal.Log, store bucket.Store) *Shipper {
	t.Helper()
	return startWith(t, l, store, Options{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
}

func startWith(t *testing.T, l *wal.Log, store bucket.Store, o Options) *Shipper {
	t.Helper()
	o.SpoolDir = filepath.Join(t.TempDir(), "spool")
	s, err := New(l, store, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return s
}

// logBuffer collects log lines.
type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *logBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(s, nil)) }

// lineWith returns the first log line with a text, or "".
func (s *logBuffer) lineWith(text string) string {
	for line := range strings.Lines(s.text()) {
		if strings.Contains(line, text) {
			return line
		}
	}
	return ""
}

func (s *logBuffer) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// compressCopy compresses a segment as another process would.
func compressCopy(t *testing.T, seg *wal.Segment) *bucket.Object {
	t.Helper()
	c, err := newCompressor(zstd.SpeedDefault)
	if err != nil {
		t.Fatal(err)
	}
	return compressWith(t, c, seg)
}

func drain(t *testing.T, s *Shipper, want int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testLimit)
	defer cancel()
	if n := s.Drain(ctx); n != want {
		t.Fatalf("%d segments remain, want %d", n, want)
	}
}

// until waits for a condition.
func until(t *testing.T, description string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(testLimit); !condition(); <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %v, not yet: %s", testLimit, description)
		}
	}
}

type line struct {
	ID         string
	ReceivedAt time.Time `json:"received_at"`
	Via        string
	Client     string
	Usage      struct{ N int }
}

// storedLines reads every record in the store and checks each object against its
// metadata.
func storedLines(t *testing.T, s bucket.Store) (lines []line) {
	t.Helper()
	ctx := context.Background()
	for key, err := range s.List(ctx, "dt=") {
		if err != nil {
			t.Fatal(err)
		}
		body, m, err := s.Open(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		r, err := bucket.NewReader(body, m.Size)
		if err != nil {
			t.Fatal(err)
		}
		var sums bucket.Metadata
		hash := sha256.New()
		for {
			text, err := r.Next()
			hash.Write(text)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(key, err)
			}
			var l line
			if err := json.Unmarshal(text, &l); err != nil {
				t.Fatalf("%s: %v: %s", key, err, text)
			}
			lines = append(lines, l)
			sums.Records++
			sums.RawBytes += int64(len(text))
		}
		sums.SHA256 = hex.EncodeToString(hash.Sum(nil))
		if m.Records != sums.Records || m.Node != "edge-1" || m.SHA256 != "" && (m.SHA256 != sums.SHA256 || m.RawBytes != sums.RawBytes) {
			t.Errorf("%s: metadata %+v, content %+v", key, m, sums)
		}
		r.Close()
		body.Close()
	}
	return lines
}

// checkStoredOnce asserts that each of n records is stored exactly once.
func checkStoredOnce(t *testing.T, s bucket.Store, n int) {
	t.Helper()
	count := make([]int, n)
	ids := map[string]bool{}
	for _, l := range storedLines(t, s) {
		count[l.Usage.N]++
		ids[l.ID] = true
		if time.Since(l.ReceivedAt).Abs() > 2*time.Hour || l.Via != "http" || (l.Client != "") != (l.Usage.N%3 == 0) {
			t.Errorf("record %+v", l)
		}
	}
	for i, c := range count {
		if c != 1 {
			t.Errorf("record %d is stored %d times", i, c)
		}
	}
	if len(ids) != n {
		t.Errorf("%d ids for %d records", len(ids), n)
	}
}

// drainAll drains without waiting for the delays between attempts.
func drainAll(t *testing.T, s *Shipper) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testLimit)
	defer cancel()
	for ctx.Err() == nil && (s.log.Ledger().Pending > 0 || s.log.Stats().LossNotes > 0) {
		step, stop := context.WithTimeout(ctx, 20*time.Millisecond)
		s.Drain(step)
		stop()
	}
	drain(t, s, 0)
}
