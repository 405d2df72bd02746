package wal

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"collectord/wal/segment"
	"collectord/wal/vfs/simdisk"
)

var (
	simulateSeed   = flag.Uint64("simulate-seed", 1, "first seed of the simulation")
	simulateStates = flag.Int("simulate-states", 4000, "distinct crash states of the simulation")
)

const simulatedDir = "/data"

// stored is a record as it is in the simulated bucket.
type stored struct {
	seq    uint64
	number int
	hour   int64 // in whose folder it is
}

// history is what happened to a log so far: what it must hold after a crash.
type history struct {
	mu      sync.Mutex // guards what follows, which only grows
	offered int        // usages 1 to offered were handed to the log
	acked   []int      // those that were acknowledged
	bucket  []stored   // those that were uploaded
	notes   []LossNote // those that were uploaded
}

// moment is a crash: a disk, and what had happened by then.
type moment struct {
	disk                   *simdisk.Disk
	call                   simdisk.Call
	offered, acked, bucket int
	notes                  int
	at                     time.Time
}

func (h *history) offer(n int) (recs []Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for range n {
		h.offered++
		recs = append(recs, Record{Usage: fmt.Appendf(nil, `{"n":%d,"x":"%s"}`, h.offered, strings.Repeat("x", h.offered%300))})
	}
	return recs
}

func (h *history) acknowledge(recs []Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range recs {
		h.acked = append(h.acked, numberOf(recs[i].Usage))
	}
}

func numberOf(usage []byte) (n int) {
	_, _ = fmt.Sscanf(string(usage), `{"n":%d`, &n)
	return n
}

// life is one of a log on a simulated disk.
type life struct {
	t       *testing.T
	seed    uint64
	rand    *rand.Rand
	randMu  sync.Mutex // the disk draws from it, too
	disk    *simdisk.Disk
	history *history
	log     *Log
	moments []moment
	seen    map[[32]byte]bool
	kind    kind
	sparse  int // one in so many calls is followed by a crash
	faulty  bool
	rotten  bool
	logged  lines // what the log said, for a failure
}

// kind is what a life goes through beside crashes.
type kind struct {
	evicts bool // the log is small, and drops the oldest
	rots   bool // bytes of sealed segments change
}

// loses reports whether records may be lost, with a note.
func (k kind) loses() bool { return k.evicts || k.rots }

// lines keeps what is written to it, for several writers.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (s *life) intn(n int) int {
	s.randMu.Lock()
	defer s.randMu.Unlock()
	return s.rand.IntN(n)
}

func (s *life) options(d *simdisk.Disk) Options {
	o := Options{
		Node: "node", SegmentSize: 2 << 10, MaxBytes: 1 << 20, MachineID: "/none",
	}
	if s.kind.evicts {
		o.MaxBytes, o.WhenFull = 8<<10, DropOldest
	}
	o.Logger = slog.New(slog.NewTextHandler(&s.logged, nil))
	o.files = d
	o.newWriter = func(dir string, first []byte) (segment.EntryWriter, error) { return newSimulatedWriter(d, dir, first) }
	return o
}

// note keeps the disk as a crash after this call could leave it.
func (s *life) note(c simdisk.Call) {
	if s.intn(s.sparse) > 0 {
		return
	}
	crashed := s.disk.Crash()
	h := crashed.Hash()
	s.history.mu.Lock()
	defer s.history.mu.Unlock()
	if s.seen[h] {
		return
	}
	s.seen[h] = true
	s.moments = append(s.moments, moment{crashed, c, s.history.offered, len(s.history.acked), len(s.history.bucket), len(s.history.notes), time.Now()})
}

// live does at random what a daemon and a shipper do.
func (s *life) live(steps int) {
	for range steps {
		switch n := s.intn(100); {
		case n < 45:
			s.append()
		case n < 60:
			s.log.Enqueue(withSource(s.history.offer(1+s.intn(3)), UDP)...)
		case n < 75:
			_ = s.log.Seal(context.Background()) // what fails is tried again by the log
		case n < 85 && !s.kind.evicts || n < 78:
			s.ship()
		case n < 90:
			s.uploadNotes()
		case n < 93 && s.kind.rots:
			s.rot()
		case n < 96:
			time.Sleep(time.Duration(s.intn(90)) * time.Second)
		default:
			synctest.Wait()
		}
	}
}

func withSource(recs []Record, source Source) []Record {
	for i := range recs {
		recs[i].Source = source
	}
	return recs
}

func (s *life) append() {
	var all sync.WaitGroup
	for range 1 + s.intn(3) {
		recs := s.history.offer(1 + s.intn(3))
		all.Go(func() {
			if s.log.Append(context.Background(), recs...) == nil {
				s.history.acknowledge(recs)
			}
		})
	}
	all.Wait()
}

// ship uploads a sealed segment and removes it.
func (s *life) ship() {
	segments, _ := s.log.Sealed()
	if len(segments) == 0 {
		return
	}
	segment := segments[s.intn(len(segments))]
	if !segment.Hold() {
		return
	}
	defer segment.Release()
	var uploaded []stored
	var hour int64
	for r, err := range segment.Records() {
		if err != nil { // as the shipper does with what is damaged, or has no file
			_, _ = s.log.Salvage(segment)
			return
		}
		if len(uploaded) == 0 {
			hour = hourOf(r.ReceivedAt)
		}
		uploaded = append(uploaded, stored{r.Seq, numberOf(r.Usage), hour})
	}
	s.history.mu.Lock()
	s.history.bucket = append(s.history.bucket, uploaded...)
	s.history.mu.Unlock()
	_ = segment.Remove() // what fails is tried again, as if it were to be uploaded
}

// listing names what is below a directory, and the sizes of files.
func listing(d *simdisk.Disk, dir string) (text string) {
	entries, _ := d.List(dir)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		info, err := e.Info()
		if err != nil || e.IsDir() {
			text += path + "\n" + listing(d, path)
			continue
		}
		text += fmt.Sprintf("%s, %d bytes\n", path, info.Size())
	}
	return text
}

// check starts a log on what a crash left and holds it against what happened.
func (s *life) check(m moment) {
	fail := func(format string, args ...any) {
		s.t.Errorf("seed %d, crash after call %d (%s %s): %s", s.seed, m.call.N, m.call.Op, m.call.Path, fmt.Sprintf(format, args...))
	}
	found := listing(m.disk, simulatedDir)
	defer func() {
		if s.t.Failed() {
			s.t.Logf("the start found:\n%s", found)
		}
	}()
	l, err := Open(simulatedDir, s.options(m.disk))
	if err != nil {
		fail("the log does not start: %v", err)
		return
	}
	if s.kind.evicts {
		time.Sleep(10 * time.Second) // until what is too much is evicted
	}
	s.checkLog(l, m, fail)
	for try := 0; ; try++ { // the oldest may have to make room first
		err := l.Append(context.Background(), Record{Usage: []byte(`{"n":0}`)})
		if err == nil {
			break
		}
		if !s.kind.evicts || try == 10 {
			fail("append after the start: %v", err)
			break
		}
		time.Sleep(time.Second)
	}
	if err := l.Close(); err != nil {
		fail("close: %v", err)
	}
	l, err = Open(simulatedDir, s.options(m.disk))
	if err != nil {
		fail("the log does not start again: %v", err)
		return
	}
	for finding, n := range l.Stats().Findings {
		// What follows the last acknowledged record of a failed segment stays in its
		// file until it is shipped, and is found by each start.
		if leftover := s.faulty && finding == FoundMisnamed; n > 0 && !s.kind.rots && !leftover {
			fail("the second start found %d times %s", n, finding)
		}
	}
	if err := l.Close(); err != nil {
		fail("close again: %v", err)
	}
}

// uploadNotes does what the shipper does with loss notes.
func (s *life) uploadNotes() {
	notes, err := s.log.Losses()
	if err != nil {
		return
	}
	for _, n := range notes {
		s.history.mu.Lock()
		s.history.notes = append(s.history.notes, n)
		s.history.mu.Unlock()
		_ = s.log.LossStored(n) // what fails is uploaded again
	}
}

// rot changes a sealed segment's file.
func (s *life) rot() {
	segments, _ := s.log.Sealed()
	if len(segments) == 0 || s.rotten {
		return
	}
	s.rotten = true // twice in one segment can take what a salvage has not copied yet
	const sector = 512
	_ = s.disk.Edit(segments[s.intn(len(segments))].path(), func(b []byte) []byte { // or it is gone
		at, from := s.intn(len(b)), s.intn(len(b))
		switch s.intn(4) {
		case 0:
			b[at] ^= 1 << s.intn(8)
		case 1:
			clear(b[at/sector*sector : min(len(b), (at/sector+1)*sector)])
		case 2:
			copy(b[at/sector*sector:], b[from/sector*sector:min(len(b), (from/sector+1)*sector)])
		case 3:
			b = b[:at]
		}
		return b
	})
}

// content is what is where: usages by seq.
type content struct {
	m     moment
	fail  func(string, ...any)
	there map[int]uint64 // seq by number
	bySeq map[uint64]int
	lost  map[uint64]bool // by a note

	inBucket map[uint64]bool
	hours    map[uint64]int64 // of what is in the bucket
}

func (c *content) add(seq uint64, number int) {
	if other, ok := c.bySeq[seq]; ok && other != number {
		c.fail("seq %d is usage %d and usage %d", seq, other, number)
	}
	if other, ok := c.there[number]; ok && other != seq {
		c.fail("usage %d is seq %d and seq %d", number, other, seq)
	}
	if number < 1 || number > c.m.offered {
		c.fail("seq %d holds a usage that was never written", seq)
	}
	c.there[number], c.bySeq[seq] = seq, number
}

func (s *life) checkLog(l *Log, m moment, fail func(string, ...any)) {
	s.history.mu.Lock()
	bucket, acked, notes := s.history.bucket[:m.bucket], s.history.acked[:m.acked], s.history.notes[:m.notes:m.notes]
	s.history.mu.Unlock()
	c := &content{m: m, fail: fail, there: map[int]uint64{}, bySeq: map[uint64]int{}, lost: map[uint64]bool{}, inBucket: map[uint64]bool{}, hours: map[uint64]int64{}}
	for _, b := range bucket {
		c.add(b.seq, b.number)
		c.inBucket[b.seq], c.hours[b.seq] = true, b.hour
	}
	if !s.kind.loses() {
		g, pending := l.Ledger(), s.pending(l)
		if g.Recovered != pending || g.Pending != pending || g.Shipped+g.Quarantined+g.Evicted > 0 {
			fail("ledger %+v, of %d records", g, pending)
		}
	}
	s.readLog(l, c)
	waiting, err := l.Losses()
	if err != nil {
		fail("loss notes: %v", err)
	}
	for _, n := range append(notes, waiting...) {
		for seq := n.FirstSeq; seq <= n.LastSeq; seq++ {
			c.lost[seq] = true
			// What was uploaded just before the crash may be evicted after it. The log
			// can't know, and says where the storage has it, if it has.
			unknown := n.Reason == LossEvicted && n.At.After(m.at) && c.inBucket[seq] &&
				(slices.Contains(n.Hours, c.hours[seq]) || slices.Contains(n.Hours, c.hours[seq]+1))
			if _, ok := c.bySeq[seq]; ok && !unknown {
				seq = n.LastSeq
				fail("a note says that seq %d is lost (%s), and it is there; in the bucket: %t; noted %v after the crash", seq, n.Reason, c.inBucket[seq], n.At.Sub(m.at))
			}
		}
	}
	if len(c.lost) > 0 && !s.kind.loses() {
		fail("loss notes, though nothing was lost: %v", waiting)
	}
	c.checkComplete(acked)
}

func (s *life) pending(l *Log) (n uint64) {
	segments, _ := l.Sealed()
	for _, segment := range segments {
		n += uint64(segment.Count())
	}
	return n
}

// readLog reads all sealed segments, after salvage where that is needed: also the
// last frame before a crash can be whole, and the length in front of it not.
func (s *life) readLog(l *Log, c *content) {
	all, _ := l.Sealed()
	for _, segment := range all {
		if !segment.Hold() {
			continue
		}
		for _, err := range segment.Records() {
			if err == nil {
				continue
			}
			if _, err := l.Salvage(segment); err != nil {
				c.fail("salvage of %s: %v", segment, err)
			}
		}
		segment.Release()
	}
	if s.kind.evicts {
		time.Sleep(10 * time.Second) // a salvage may take room
	}
	segments, _ := l.Sealed()
	segments = slices.DeleteFunc(segments, func(s *Segment) bool { return !s.Hold() }) // none is evicted meanwhile
	var lastRun uint64
	var lastID ID
	for _, segment := range segments {
		h, err := segment.Header()
		if err != nil {
			c.fail("header of %s: %v", segment, err)
			continue
		}
		if h.Run != lastRun {
			lastRun, lastID = h.Run, ID{}
		}
		for r, err := range segment.Records() {
			if err != nil {
				c.fail("records of %s: %v", segment, err)
				break
			}
			if bytes.Compare(r.ID[:], lastID[:]) <= 0 {
				c.fail("id of seq %d does not rise", r.Seq)
			}
			lastID = r.ID
			c.add(r.Seq, numberOf(r.Usage))
		}
	}
}

// checkComplete looks for what is gone without a note.
func (c *content) checkComplete(acked []int) {
	gone := 0
	for _, number := range acked {
		if _, ok := c.there[number]; ok {
			continue
		}
		if gone++; gone > len(c.lost) {
			c.fail("usage %d was acknowledged and is gone", number)
		}
	}
	seqs := slices.Sorted(maps.Keys(c.bySeq))
	if len(seqs) == 0 {
		return
	}
	for seq := uint64(1); seq <= seqs[len(seqs)-1]; seq++ {
		if _, ok := c.bySeq[seq]; !ok && !c.lost[seq] {
			c.fail("seq %d is gone without a note", seq)
			return
		}
	}
}

// begin makes a disk and starts the life of a log on it.
func begin(t *testing.T, seed uint64, k kind, seen map[[32]byte]bool, fault func(simdisk.Call) simdisk.Fault) *life {
	s := &life{t: t, seed: seed, rand: rand.New(rand.NewPCG(seed, 1)), history: &history{}, seen: seen, kind: k, sparse: 1}
	if fault != nil {
		s.sparse, s.faulty = 30, true
	}
	s.disk = simdisk.New(1<<24, s.intn)
	if err := errors.Join(s.disk.Mkdir(simulatedDir), s.disk.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	s.disk.Changed, s.disk.Intercept = s.note, fault
	var err error
	if s.log, err = Open(simulatedDir, s.options(s.disk)); err != nil {
		if fault == nil {
			t.Fatal(err)
		}
		return s // the next start is without the fault
	}
	s.live(40)
	if fault != nil {
		s.recover()
	}
	if err := s.log.Close(); err != nil && fault == nil {
		t.Error(err)
	}
	return s
}

// recover waits until the log is writable again by itself.
func (s *life) recover() {
	for range 20 {
		recs := s.history.offer(1)
		if s.log.Append(context.Background(), recs...) == nil {
			s.history.acknowledge(recs)
			return
		}
		time.Sleep(30 * time.Second)
	}
	s.t.Errorf("seed %d: the log is not writable ten minutes after one failed call: %v", s.seed, s.log.Full())
}

// after checks every crash that the life noted, and its end.
func (s *life) after() {
	s.disk.Changed, s.disk.Intercept = nil, nil
	time.Sleep(time.Second) // what the checks do comes after all crashes
	s.moments = append(s.moments, moment{s.disk.Keep(), simdisk.Call{Op: "end"}, s.history.offered, len(s.history.acked), len(s.history.bucket), len(s.history.notes), time.Now()})
	for _, m := range s.moments {
		if s.check(m); s.t.Failed() {
			s.t.Logf("the log wrote:\n%s", s.logged.text.String())
			return
		}
	}
}

var kinds = [4]kind{{}, {evicts: true}, {rots: true}, {evicts: true, rots: true}}

// TestNoCrashLosesWhatWasAcknowledged runs lives of a log on a simulated disk and
// starts a log on what a crash after each of its calls could leave.
func TestNoCrashLosesWhatWasAcknowledged(t *testing.T) {
	seen := map[[32]byte]bool{}
	seed := *simulateSeed
	for ; len(seen) < *simulateStates && !t.Failed(); seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			cryptotest.SetGlobalRandom(t, seed)
			synctest.Test(t, func(t *testing.T) { begin(t, seed, kinds[seed%4], seen, nil).after() })
		})
	}
	t.Logf("%d distinct crash states of %d lives; repeat one with -simulate-seed", len(seen), seed-*simulateSeed)
}

// TestNoFailedCallLosesWhatWasAcknowledged has one call of each life fail, before or
// after it took effect, and goes on as above.
func TestNoFailedCallLosesWhatWasAcknowledged(t *testing.T) {
	errnos := []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EROFS, syscall.EACCES, syscall.EMFILE}
	seen := map[[32]byte]bool{}
	seed := *simulateSeed
	for ; len(seen) < *simulateStates/4 && !t.Failed(); seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			cryptotest.SetGlobalRandom(t, seed)
			synctest.Test(t, func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, 2))
				at := 1 + r.IntN(300)
				f := simdisk.Fault{Err: errnos[r.IntN(len(errnos))], Done: r.IntN(2) == 0, Short: r.IntN(100)}
				var failed simdisk.Call
				s := begin(t, seed, kinds[seed%4], seen, func(c simdisk.Call) simdisk.Fault {
					if c.N != at {
						return simdisk.Fault{}
					}
					failed = c
					return f
				})
				if s.after(); t.Failed() {
					t.Logf("failed was call %d (%s %s) with %v, done: %t", at, failed.Op, failed.Path, f.Err, f.Done)
				}
			})
		})
	}
	t.Logf("%d distinct crash states of %d lives; repeat one with -simulate-seed", len(seen), seed-*simulateSeed)
}
