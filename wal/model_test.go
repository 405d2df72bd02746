package wal

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"collectord/wal/segment"
)

var (
	modelSeed  = flag.Uint64("seed", 0, "seed of the model check; 0 draws one")
	modelSteps = flag.Int("steps", 400, "steps of the model check")
)

// model contains the expected content of a log: the usages by seq, and which were
// shipped.
type model struct {
	t       *testing.T
	rand    *rand.Rand
	dir     string
	log     *Log
	usages  [][]byte        // of seq 1, 2, …
	removed map[uint64]bool // seqs that were shipped
	sent    int
}

// TestAgainstAModel performs random actions of a daemon, a shipper and crashes, and
// compares the log with a slice.
func TestAgainstAModel(t *testing.T) {
	t.Parallel()
	seed := *modelSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("repeat with -run TestAgainstAModel -seed %d -steps %d", seed, *modelSteps)
	m := &model{t: t, rand: rand.New(rand.NewPCG(seed, 1)), dir: memoryDir(t), removed: map[uint64]bool{}}
	m.open()
	for step := range *modelSteps {
		switch n := m.rand.IntN(100); {
		case n < 50:
			m.append()
		case n < 65:
			m.enqueue()
		case n < 80:
			mustSeal(t, m.log)
			m.check()
		case n < 90:
			m.remove()
		case n < 95:
			m.crash()
		default:
			mustClose(t, m.log)
			m.open()
		}
		if t.Failed() {
			t.Fatalf("at step %d", step)
		}
	}
	mustSeal(t, m.log)
	m.check()
}

func (m *model) open() {
	m.log = openLog(m.t, m.dir, Options{SegmentSize: 8 << 10})
	checkLedger(m.t, m.log)
}

func (m *model) usage() []byte {
	m.sent++
	return fmt.Appendf(nil, `{"n":%d,"x":"%s"}`, m.sent, bytes.Repeat([]byte("x"), m.rand.IntN(400)))
}

func (m *model) append() {
	recs := make([]Record, 1+m.rand.IntN(4))
	for i := range recs {
		recs[i].Usage = m.usage()
	}
	mustAppend(m.t, m.log, recs...)
	for _, r := range recs {
		m.usages = append(m.usages, r.Usage)
	}
}

// enqueue enqueues UDP records and waits until they are committed, so that the model
// has their order.
func (m *model) enqueue() {
	recs := make([]Record, 1+m.rand.IntN(6))
	for i := range recs {
		recs[i] = Record{Usage: m.usage(), Source: UDP}
	}
	if n := m.log.Enqueue(recs...); n != len(recs) {
		m.t.Errorf("enqueued %d of %d", n, len(recs))
	}
	until(m.t, "the queue is committed", func() bool { return m.log.Ledger().BySource[UDP].Waiting == 0 })
	for _, r := range recs {
		m.usages = append(m.usages, r.Usage)
	}
}

func (m *model) remove() {
	segments, _ := m.log.Sealed()
	if len(segments) == 0 {
		return
	}
	s := segments[m.rand.IntN(len(segments))]
	if err := s.Remove(); err != nil {
		m.t.Error(err)
	}
	for seq := s.FirstSeq(); seq <= s.LastSeq(); seq++ {
		m.removed[seq] = true
	}
}

// crash continues with a copy of the directory as kill -9 leaves it, sometimes with a
// part of another commit.
func (m *model) crash() {
	copied := ""
	until(m.t, "a copy succeeds between two renames", func() bool {
		copied = memoryDir(m.t)
		return os.CopyFS(filepath.Join(copied, "wal"), os.DirFS(m.log.dir)) == nil
	})
	m.log.shelf.lock()
	active := m.log.shelf.active
	m.log.shelf.unlock()
	name, end := segment.ActiveName(active.nextSeq-active.count), active.bytes
	if m.rand.IntN(2) == 0 {
		path := filepath.Join(copied, "wal", name, segment.FileName)
		file, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			m.t.Fatal(err)
		}
		torn := make([]byte, 1+m.rand.IntN(300))
		for i := range torn {
			torn[i] = byte(m.rand.Uint32())
		}
		if _, err := file.WriteAt(torn, end); err != nil {
			m.t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			m.t.Fatal(err)
		}
	}
	if err := m.log.Close(); err != nil {
		m.t.Fatal(err)
	}
	m.dir = copied
	m.open()
}

// check compares every sealed record with the model, and fails if one is missing.
func (m *model) check() {
	checkLedger(m.t, m.log)
	segments, _ := m.log.Sealed()
	seen := map[uint64]bool{}
	for _, s := range segments {
		for r, err := range s.Records() {
			if err != nil {
				m.t.Fatal(err)
			}
			if seen[r.Seq] || m.removed[r.Seq] {
				m.t.Fatalf("seq %d is in the log twice, or again after its removal", r.Seq)
			}
			seen[r.Seq] = true
			if r.Seq > uint64(len(m.usages)) || !bytes.Equal(r.Usage, m.usages[r.Seq-1]) {
				m.t.Fatalf("seq %d has the wrong usage %s", r.Seq, r.Usage)
			}
		}
	}
	if want := len(m.usages) - len(m.removed); len(seen) != want {
		m.t.Fatalf("%d records, want %d", len(seen), want)
	}
}

// FuzzDamagedSegment starts a log on a segment with any content, in which one sector
// may be written over another. The log must start, salvage the segment, keep its ledger
// balanced, and accept more records.
func FuzzDamagedSegment(f *testing.F) {
	b, err := os.ReadFile(filepath.Join("segment", "testdata", "segment-v1"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, false, 0, 0, 0)
	f.Add(b, true, 0, 0, 0)
	f.Add(b[:len(b)-9], false, 0, 0, 0)
	f.Add(append(bytes.Clone(b[:60]), b[50:]...), true, 0, 0, 0)
	f.Add(append(bytes.Clone(b), b...), false, 1, 2, 64)
	f.Add(append(bytes.Clone(b), b...), true, 3, 0, 32)
	f.Fuzz(func(t *testing.T, content []byte, active bool, from, to, sector int) {
		// One sector is written over another.
		if sector > 0 && sector < len(content) && from >= 0 && to >= 0 && from < len(content)/sector && to < len(content)/sector {
			content = bytes.Clone(content)
			copy(content[to*sector:(to+1)*sector], content[from*sector:])
		}
		dir := t.TempDir()
		name := segment.SealedName(41, 43)
		if active {
			name = segment.ActiveName(41)
		}
		at := filepath.Join(dir, "wal", name)
		if err := os.MkdirAll(at, 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(at, segment.FileName), content, 0o640); err != nil {
			t.Fatal(err)
		}
		l, err := Open(dir, Options{SegmentSize: 4 << 10})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		segments, _ := l.Sealed()
		foreign := false
		for _, s := range segments {
			if _, err := s.Header(); !errors.Is(err, ErrVersion) {
				if _, err := l.Salvage(s); err != nil {
					t.Fatal(err)
				}
			} else {
				foreign = true
			}
		}
		if err := l.Append(context.Background(), Record{Usage: usage(1)}); err != nil {
			t.Fatal(err)
		}
		mustSeal(t, l)
		if !foreign {
			segments, _ = l.Sealed()
			for _, s := range segments {
				for _, err := range s.Records() {
					if err != nil {
						t.Fatalf("after salvage: %v", err)
					}
				}
			}
		}
		checkLedger(t, l)
	})
}
