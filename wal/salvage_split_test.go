package wal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"collectord/wal/segment"
)

// segmentOfFrames returns a log of one sealed segment, with a frame of each size.
func segmentOfFrames(t *testing.T, o Options, sizes ...int) (l *Log, s *Segment) {
	t.Helper()
	o.SegmentSize, o.ProbeMin, o.ProbeMax = 16<<20, time.Millisecond, time.Millisecond
	l = openLog(t, memoryDir(t), o)
	for i, size := range sizes {
		mustAppend(t, l, Record{Usage: fmt.Appendf(nil, `{"n":%d,"x":"%s"}`, i, strings.Repeat("x", size))})
	}
	mustSeal(t, l)
	segments, _ := l.Sealed()
	if len(segments) != 1 {
		t.Fatalf("%d segments", len(segments))
	}
	return l, segments[0]
}

func sealedRanges(l *Log) (all []string) {
	segments, _ := l.Sealed()
	for _, s := range segments {
		all = append(all, fmt.Sprintf("%d-%d", s.FirstSeq(), s.LastSeq()))
	}
	return all
}

func TestASegmentIsSplitAtTheFrameNearestToItsMiddle(t *testing.T) {
	for name, c := range map[string]struct {
		sizes []int
		want  []string // expected segments after each split of the largest
	}{
		"equal frames":      {[]int{99, 99, 99, 99}, []string{"1-2 3-4", "1-1 2-2 3-4", "1-1 2-2 3-3 4-4"}},
		"a large one last":  {[]int{10, 10, 10, 5000}, []string{"1-3 4-4"}},
		"a large one first": {[]int{5000, 10, 10, 10}, []string{"1-1 2-4"}},
		"a large one":       {[]int{900, 5000, 10}, []string{"1-1 2-3", "1-1 2-2 3-3"}},
		"of 2 MiB each":     {[]int{2 << 20, 2 << 20}, []string{"1-1 2-2"}},
	} {
		t.Run(name, func(t *testing.T) {
			l, s := segmentOfFrames(t, Options{}, c.sizes...)
			before := readAll(t, l)
			for _, want := range c.want {
				if !s.Hold() {
					t.Fatal("the segment is held")
				}
				if err := s.Split(); err != nil {
					t.Fatal(err)
				}
				s.Release()
				if got := strings.Join(sealedRanges(l), " "); got != want {
					t.Fatalf("split to %s, want %s", got, want)
				}
				segments, _ := l.Sealed()
				var size int64
				for _, p := range segments {
					info, err := os.Stat(p.path())
					if err != nil || info.Size() != p.Bytes() {
						t.Errorf("%s: %v, %d bytes", p, err, p.Bytes())
					}
					size += p.Bytes()
				}
				l.shelf.lock()
				if l.shelf.sealedBytes != size {
					t.Errorf("%d bytes are counted, want %d", l.shelf.sealedBytes, size)
				}
				l.shelf.unlock()
				s = slices.MaxFunc(segments, func(a, b *Segment) int { return int(a.Bytes() - b.Bytes()) })
			}
			if !slices.EqualFunc(before, readAll(t, l), func(a, b Record) bool {
				return a.ID == b.ID && a.Seq == b.Seq && a.ReceivedAt == b.ReceivedAt && bytes.Equal(a.Usage, b.Usage)
			}) {
				t.Error("the pieces have other records")
			}
			if g := checkLedger(t, l); g.Pending != uint64(len(c.sizes)) || g.Shipped+g.Quarantined+g.Evicted > 0 || l.Stats().LossNotes > 0 {
				t.Errorf("ledger %+v", g)
			}
			if len(findings(l)) > 0 {
				t.Errorf("findings %v", findings(l))
			}
			mustClose(t, l)
			again := openLog(t, l.dataDir, Options{})
			if len(findings(again)) > 0 || !slices.Equal(sealedRanges(again), sealedRanges(l)) {
				t.Errorf("the next start finds %v: %v", findings(again), sealedRanges(again))
			}
		})
	}
}

func TestASingleFrameIsNotSplit(t *testing.T) {
	l, s := segmentOfFrames(t, Options{}, 3000)
	if err := s.Split(); !errors.Is(err, ErrOneFrame) || len(sealedRanges(l)) != 1 {
		t.Errorf("%v, segments %v", err, sealedRanges(l))
	}
	if names, _ := filepath.Glob(filepath.Join(l.dir, salvageName)); len(names) > 0 {
		t.Errorf("the attempt left %v", names)
	}
}

func TestARemovedSegmentIsNotSplit(t *testing.T) {
	for name, remove := range map[string]func(s *Segment) error{
		"removed": (*Segment).Remove, "evicted": (*Segment).evict, "split": (*Segment).Split,
	} {
		l, s := segmentOfFrames(t, Options{}, 10, 10, 10)
		if err := remove(s); err != nil {
			t.Fatal(name, err)
		}
		want := sealedRanges(l)
		if err := s.Split(); !errors.Is(err, ErrRemoved) || !slices.Equal(sealedRanges(l), want) {
			t.Errorf("%s: %v, segments %v", name, err, sealedRanges(l))
		}
	}
}

func TestADamagedSegmentIsLeftToSalvage(t *testing.T) {
	for name, damage := range map[string]func(b []byte) []byte{
		"a flipped bit in a usage": func(b []byte) []byte { b[bytes.Index(b, []byte(`"n":1,`))] ^= 1; return b },
		"the header":               func(b []byte) []byte { b[10] ^= 1; return b },
		"a truncated end":          func(b []byte) []byte { return b[:len(b)-5] },
		"an empty file":            func([]byte) []byte { return nil },
		"bytes after the end":      func(b []byte) []byte { return append(b, "something"...) },
		"a frame twice":            func(b []byte) []byte { return append(b, b[bytes.LastIndex(b, []byte("\xffcdF")):]...) },
		"a wrong length":           func(b []byte) []byte { b[bytes.LastIndex(b, []byte("\xffcdF"))-1] ^= 1; return b },
	} {
		l, s := segmentOfFrames(t, Options{}, 10, 10, 10)
		b, err := os.ReadFile(s.path())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.path(), damage(b), 0o600); err != nil {
			t.Fatal(err)
		}
		var damaged *DamageError
		if err := s.Split(); !errors.As(err, &damaged) || !slices.Equal(sealedRanges(l), []string{"1-3"}) {
			t.Errorf("%s: %v, segments %v", name, err, sealedRanges(l))
		}
		if changed, err := l.Salvage(s); err != nil || !changed {
			t.Errorf("%s: salvage: %v, %v", name, changed, err)
		}
	}
	l, s := segmentOfFrames(t, Options{}, 10, 10, 10)
	if err := os.Remove(s.path()); err != nil {
		t.Fatal(err)
	}
	var damaged *DamageError
	if err := s.Split(); !errors.As(err, &damaged) {
		t.Errorf("without its file: %v, segments %v", err, sealedRanges(l))
	}
}

func TestASegmentThatIsSplitDuringAnInspectionIsNotDamaged(t *testing.T) {
	l, s := segmentOfFrames(t, Options{}, 10, 10, 10)
	i, e, err := Find(l.dataDir, s.String())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Split(); err != nil {
		t.Fatal(err)
	}
	if r, err := i.Examine(e, nil); err != nil || !r.Vanished {
		t.Errorf("%+v, %v", r, err)
	}
}

// Otherwise a crash could bring back the segment after one of its pieces was shipped,
// and the piece's records would be shipped twice.
func TestPiecesAreListedOnceTheRemovalIsDurable(t *testing.T) {
	var failing, renamed atomic.Bool
	o := Options{}.WithDisk(func(op, path string) error {
		if op == "fsync" && failing.Load() && filepath.Base(path) == "wal" {
			return syscall.EIO
		}
		// This is the rename of the segment, not of a piece.
		if op == "rename" && strings.HasSuffix(filepath.Dir(path), "wal") && strings.Contains(path, segment.SealedName(1, 3)) && !renamed.Swap(true) {
			failing.Store(true)
		}
		return nil
	})
	l, s := segmentOfFrames(t, o, 10, 10, 10)
	mustAppend(t, l, Record{Usage: usage(4)})
	if err := s.Split(); err != nil || !renamed.Load() {
		t.Fatal(err, renamed.Load())
	}
	if got := sealedRanges(l); len(got) > 0 {
		t.Errorf("listed: %v", got)
	}
	if below, err := l.Unconfirmed(); below != 1 || err != nil {
		t.Errorf("confirmed below %d, %v, want 1", below, err)
	}
	if g := checkLedger(t, l); g.Pending != 4 {
		t.Errorf("ledger %+v", g)
	}
	_, more := l.Sealed()
	failing.Store(false)
	select {
	case <-more:
	case <-time.After(testLimit):
		t.Fatal("the pieces are not announced")
	}
	if got := sealedRanges(l); !slices.Equal(got, []string{"1-1", "2-3"}) {
		t.Errorf("listed: %v", got)
	}
}
