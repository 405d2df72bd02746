package wal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"collectord/collectord/testrun"
	"collectord/wal/segment"
	"collectord/wal/vfs/simdisk"
)

// splitTest is a log on a simulated disk whose segments are split and shipped.
type splitTest struct {
	seed       uint64
	records    int
	crashEvery int // one in this many calls, other than renames, is followed by a crash

	t      *testing.T
	random *rand.Rand
	disk   *simdisk.Disk

	mu        sync.Mutex   // guards the fields below
	inBucket  []SeqRange   // objects in the bucket
	crashes   []crashState // states that crashes left
	calls     int
	noCrashes bool // crashes are not recorded yet
}

// crashState is a disk after a crash, with the content of the bucket at that time.
type crashState struct {
	call     simdisk.Call
	disk     *simdisk.Disk
	inBucket []SeqRange
}

func (s *splitTest) intn(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.random.IntN(n)
}

func (s *splitTest) open(d *simdisk.Disk) (*Log, error) {
	return Open("/data", Options{
		Node: "node", SegmentSize: 8 << 10, MachineID: "/none", files: d,
		newWriter: func(dir string, first []byte) (segment.EntryWriter, error) { return newSimulatedWriter(d, dir, first) },
	})
}

// crash records a state of the disk that a crash after this call may leave.
func (s *splitTest) crash(c simdisk.Call, disk simdisk.Locked) {
	s.mu.Lock()
	quiet := s.noCrashes
	s.mu.Unlock()
	if quiet || c.Op != simdisk.Rename && s.intn(s.crashEvery) > 0 {
		return
	}
	d := disk.Crash()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.crashes = append(s.crashes, crashState{c, d, slices.Clone(s.inBucket)})
}

// run splits segments and ships pieces until nothing is left.
func (s *splitTest) run(l *Log) {
	for range 200 {
		segments, _ := l.Sealed()
		if len(segments) == 0 {
			if l.Ledger().Pending == 0 {
				return
			}
			time.Sleep(time.Minute) // until the pieces are listed
			continue
		}
		one := segments[s.intn(len(segments))]
		if !one.Hold() {
			s.t.Errorf("seed %d: %s is held", s.seed, one)
			return
		}
		if whole := one.Count() < 6 && s.intn(3) == 0; whole || errors.Is(one.Split(), ErrOneFrame) {
			s.mu.Lock()
			s.inBucket = append(s.inBucket, SeqRange{First: one.first, Last: one.last})
			s.mu.Unlock()
			_ = one.Remove() // never fails
		}
		one.Release()
	}
	s.t.Errorf("seed %d: not shipped: %v", s.seed, sealedRanges(l))
}

// check starts a log on a state that a crash left. Each record must be in the bucket or
// in the log, exactly once, except that an object's segment may not be removed yet.
func (s *splitTest) check(c crashState) {
	fail := func(format string, args ...any) {
		s.t.Errorf("seed %d, crash after call %d (%s %s): %s", s.seed, c.call.N, c.call.Op, c.call.Path, fmt.Sprintf(format, args...))
	}
	l, err := s.open(c.disk)
	if err != nil {
		fail("start: %v", err)
		return
	}
	found := slices.Clone(c.inBucket)
	segments, _ := l.Sealed()
	for _, one := range segments {
		next := one.first
		for r, err := range one.Records() {
			if err != nil || !strings.HasPrefix(string(r.Usage), fmt.Sprintf(`{"n":%d,`, r.Seq)) {
				fail("%s: %v", one, err)
				break
			}
			next++
		}
		if next != one.last+1 {
			fail("%s ends before %d", one, next)
		}
		if r := (SeqRange{First: one.first, Last: one.last}); !slices.Contains(found, r) {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b SeqRange) int { return int(a.First) - int(b.First) })
	next := uint64(1)
	for _, r := range found {
		if r.First != next {
			fail("the bucket has %v, the log %v", c.inBucket, sealedRanges(l))
			break
		}
		next = r.Last + 1
	}
	if next <= uint64(s.records) {
		fail("record %d is missing; the bucket has %v, the log %v", next, c.inBucket, sealedRanges(l))
	}
	if notes, err := l.Losses(); err != nil || len(notes) > 0 {
		fail("loss notes %v, %v", notes, err)
	}
	if err := l.Close(); err != nil {
		fail("close: %v", err)
	}
	again, err := s.open(c.disk)
	if err != nil {
		fail("second start: %v", err)
		return
	}
	if f := findings(again); len(f) > 0 {
		fail("the second start finds %v", f)
	}
	if err := again.Close(); err != nil {
		fail("close again: %v", err)
	}
}

// runSplitTest runs a log with records whose calls may fail. It returns the number of
// calls, and the number of crash states that were checked.
func runSplitTest(t *testing.T, s *splitTest, fault func(simdisk.Call) simdisk.Fault) (calls, states int) {
	cryptotest.SetGlobalRandom(t, s.seed)
	synctest.Test(t, func(t *testing.T) {
		s.t, s.random = t, rand.New(rand.NewPCG(s.seed, 3))
		s.disk = simdisk.New(1<<24, s.intn)
		if err := errors.Join(s.disk.Mkdir("/data"), s.disk.SyncDir("/")); err != nil {
			t.Fatal(err)
		}
		l, err := s.open(s.disk)
		if err != nil {
			t.Fatal(err)
		}
		for seq := 1; seq <= s.records; seq++ {
			usage := fmt.Appendf(nil, `{"n":%d,"x":"%s"}`, seq, strings.Repeat("x", s.intn(900)))
			if err := l.Append(context.Background(), Record{Usage: usage}); err != nil {
				t.Fatal(err)
			}
			if seq%6 == 0 || seq == s.records {
				mustSeal(t, l)
			}
		}
		synctest.Wait() // the next segment is prepared
		s.disk.SetChanged(s.crash)
		s.disk.SetIntercept(func(c simdisk.Call) simdisk.Fault {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.calls++
			if fault == nil {
				return simdisk.Fault{}
			}
			c.N = s.calls
			return fault(c)
		})
		s.run(l)
		synctest.Wait() // until nothing uses the disk
		s.disk.SetChanged(nil)
		s.disk.SetIntercept(nil)
		if g := checkLedger(t, l); g.Shipped != uint64(s.records) || g.Pending > 0 {
			t.Errorf("seed %d: ledger %+v", s.seed, g)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		for _, c := range s.crashes {
			if s.check(c); t.Failed() {
				return
			}
		}
	})
	return s.calls, len(s.crashes)
}

// TestACrashLeavesASegmentOrAllOfItsPieces crashes while segments are split and
// shipped.
func TestACrashLeavesASegmentOrAllOfItsPieces(t *testing.T) {
	total := 0
	for seed := uint64(1); seed <= 4 && !t.Failed(); seed++ {
		_, states := runSplitTest(t, &splitTest{seed: seed, records: 12, crashEvery: 4}, nil)
		total += states
	}
	t.Logf("%d states", total)
}

// TestNoFailedCallOfASplitLosesOrDoublesARecord makes each call of a split fail, before
// or after it took effect, and then crashes. One in three calls fails, or each with
// TEST_ALL=1.
func TestNoFailedCallOfASplitLosesOrDoublesARecord(t *testing.T) {
	errnos := []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EROFS, syscall.EACCES, syscall.EMFILE}
	calls, _ := runSplitTest(t, &splitTest{seed: 1, records: 2, crashEvery: 1000}, nil)
	total := 0
	for at := 1; at <= calls && !t.Failed(); at += testrun.OneIn(3) {
		for _, done := range []bool{false, true} {
			s := &splitTest{seed: 1, records: 2, crashEvery: 10, noCrashes: true}
			op := simdisk.Op("")
			_, states := runSplitTest(t, s, func(c simdisk.Call) simdisk.Fault {
				if c.N != at || c.Op == simdisk.Read { // a page that can't be read is damage
					return simdisk.Fault{}
				}
				op, s.noCrashes = c.Op, false
				return simdisk.Fault{Err: errnos[at%len(errnos)], Applied: done}
			})
			if total += states; t.Failed() {
				t.Logf("the failed call was %d (%s), applied: %t", at, op, done)
				return
			}
		}
	}
	t.Logf("%d calls, %d states", calls, total)
}
