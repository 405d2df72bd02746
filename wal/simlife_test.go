package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"collectord/wal/segment"
	"collectord/wal/vfs/simdisk"
)

const (
	simulatedDir  = "/data"
	simulatedRoom = 1 << 24 // capacity in bytes of the simulated disk
	inQuarantine  = simulatedDir + "/wal/" + quarantineName
)

// profile determines which events, besides crashes, a life has.
type profile struct {
	evicts   bool // the log is small, and drops the oldest
	rots     bool // bytes of sealed segments change
	fills    bool // the disk becomes full, and gets space again
	jumps    bool // the wall clock jumps
	interval bool // appends return before they are synced
	blind    bool // the disk can't read some pages during a run
	tampered bool // others tamper with the log directory
}

// loses reports whether records may be lost, with a note.
func (s *life) loses() bool {
	return s.profile.evicts || s.profile.interval || s.mayBeDamaged() || s.faults.staysBlind()
}

// mayBeDamaged reports whether bytes of segments changed or were lost.
func (s *life) mayBeDamaged() bool { return s.profile.rots || s.damagedUsages != nil }

func (k profile) String() string {
	var all []string
	for name, is := range map[string]bool{"evicts": k.evicts, "rots": k.rots, "fills": k.fills, "jumps": k.jumps, "interval": k.interval, "blind": k.blind, "strange": k.tampered} {
		if is {
			all = append(all, name)
		}
	}
	if len(all) == 0 {
		return "plain"
	}
	slices.Sort(all)
	return strings.Join(all, "+")
}

// life is a log on a simulated disk, with the events of several runs. The first run
// begins on an empty disk, the others on the state that a crash, a kill or a close
// left.
type life struct {
	t       *testing.T
	seed    uint64
	profile profile
	rand    *rand.Rand // determines the events; only the goroutine of the test uses it
	tally   *tally

	disk           *simdisk.Disk
	history        *history
	log            *Log
	shippedRecords uint64 // records confirmed in this run
	kept           []keptSegment
	claimedBelow   uint64       // seq of the last claim that checkProgress has checked
	jumped         atomic.Int64 // offset of the wall clock in nanoseconds

	mu         sync.Mutex // guards the fields below, which calls of the disk use
	diskRandom *rand.PCG  // determines the behaviour of the disk
	calls      map[string]int

	crashes         []crash
	seen            map[[16]byte]bool // states of the crashes
	crashEvery      int               // one in this many calls is followed by a crash
	faults          *faultPlan
	truncated       bool            // corruption has truncated a file
	misnamed        bool            // a segment had a wrong name
	shippedSector   []byte          // first sector of a shipped segment
	paddedContents  map[string]bool // contents of segments that a crash left sealed with zeros at the end; see close
	damagedUsages   map[int]bool    // usages whose frames were damaged; nil before the corruption
	remainingUsages map[int]bool    // damaged usages whose bytes are still in the file
	logged          logBuffer
}

// logBuffer keeps everything written to it. Several goroutines may write.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// newLife makes a disk for the life of a log.
func newLife(t *testing.T, seed uint64, k profile, c *tally, trouble *faultPlan) *life {
	s := &life{
		t: t, seed: seed, profile: k, rand: rand.New(rand.NewPCG(seed, 1)), tally: c,
		diskRandom: rand.NewPCG(seed, 2), calls: map[string]int{},
		history: &history{}, seen: map[[16]byte]bool{}, crashEvery: 1, faults: trouble,
	}
	if trouble != nil && trouble.always == nil {
		s.crashEvery = 30
	}
	s.attach(simdisk.New(simulatedRoom, s.diskIntN))
	return s
}

// diskIntN draws a random number for the disk, which several goroutines use.
func (s *life) diskIntN(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return rand.New(s.diskRandom).IntN(n)
}

// seedDiskRandom begins another sequence of random numbers. So the outcome of a call,
// or of a check, does not depend on what concurrent calls have drawn.
func (s *life) seedDiskRandom(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.diskRandom.Seed(s.seed, s.hashLocked(what))
}

// hashLocked returns a hash of what and of how often it was called with what.
func (s *life) hashLocked(what string) uint64 {
	s.calls[what]++
	h := fnv.New64a()
	fmt.Fprint(h, s.seed, what, s.calls[what])
	return h.Sum64()
}

// attach continues the life on a disk.
func (s *life) attach(d *simdisk.Disk) {
	s.disk = d
	d.SetPause(s.pause)
	d.SetChanged(s.recordCrash)
	if s.faults != nil {
		d.SetIntercept(s.faults.intercept)
	}
}

// pause puts the concurrent calls of several goroutines into one order. It skips calls
// that may hold a mutex, because time does not pass in a synctest bubble while a
// goroutine waits for a mutex.
func (s *life) pause(c simdisk.Call) {
	if !ofUnsealed(c) {
		return
	}
	s.mu.Lock()
	h := s.hashLocked("pause " + string(c.Op) + c.Path)
	s.mu.Unlock()
	time.Sleep(time.Duration(1 + h%2e6))
}

// ofUnsealed reports whether a call concerns an unsealed segment.
func ofUnsealed(c simdisk.Call) bool {
	in, last := filepath.Split(c.Path)
	switch c.Op {
	case simdisk.Write, simdisk.Datasync, simdisk.Sync, simdisk.Truncate:
		last = filepath.Base(in)
	case simdisk.Mkdir, simdisk.Rename:
	default:
		return false
	}
	first, end, ending, ok := parseName(last)
	return last == nextName || ok && first > 0 && end == 0 && ending == ""
}

func (s *life) options(d *simdisk.Disk) Options {
	o := Options{Node: "node", SegmentSize: 2 << 10, MaxBytes: 1 << 20, MachineID: "/none"}
	if s.profile.evicts {
		o.MaxBytes, o.WhenFull = 8<<10, DropOldest
		if s.profile.blind || s.profile.tampered { // because the quarantine counts towards MaxBytes
			o.MaxBytes = 40 << 10
		}
	}
	if s.profile.interval {
		o.Sync = SyncInterval
	}
	if s.profile.blind {
		o.SegmentSize = 10 << 10 // so that a segment has several pages
	}
	o.clock = func() time.Time { return time.Now().Add(time.Duration(s.jumped.Load())) }
	o.Logger = slog.New(slog.NewTextHandler(&s.logged, nil))
	o.files = d
	o.newWriter = func(dir string, first []byte) (segment.EntryWriter, error) { return newSimulatedWriter(d, dir, first) }
	return o
}

// recordCrash records a state that a crash after a call would leave, to be checked
// later: usually a power loss, sometimes a kill, which keeps everything written.
func (s *life) recordCrash(c simdisk.Call, disk simdisk.Locked) {
	s.seedDiskRandom(string(c.Op) + c.Path)
	if s.crashEvery > 1 && (s.faults.failures() == 0 || s.diskIntN(s.crashEvery/crashesAfter(c)) > 0) {
		return
	}
	kill := s.diskIntN(8) == 0
	for range crashesAfter(c) {
		left := disk.Crash
		if kill {
			left = disk.Kill
		}
		d := left()
		if state := stateOf(d); !s.seen[state] {
			s.seen[state] = true
			s.crashes = append(s.crashes, crash{disk: d, state: state, call: c, past: s.history.now(), at: time.Now(), kill: kill})
		}
	}
}

// crashesAfter returns the number of crashes to record after a call. Calls that change
// names are rarer than those that change bytes, and more depends on them.
func crashesAfter(c simdisk.Call) int {
	switch c.Op {
	case simdisk.Create, simdisk.Mkdir, simdisk.Rename, simdisk.Link, simdisk.Remove, simdisk.RemoveDir:
		return 3
	}
	return 1
}

// run opens the log and performs some steps. It returns false if the log refused to
// start, which only a failed call may cause.
func (s *life) run(steps int) bool {
	var err error
	was := s.faults.failures()
	s.faults.begin()
	s.paddedContents = map[string]bool{}
	s.eachPadded(func(path, content string) {
		if _, last, _, _ := parseName(filepath.Base(filepath.Dir(path))); last > 0 {
			s.paddedContents[content] = true
		}
	})
	if s.log, err = Open(simulatedDir, s.options(s.disk)); err != nil {
		if s.faults.failures() == was {
			s.fail("start: %v", err)
		}
		return false
	}
	s.shippedRecords, s.kept, s.claimedBelow = 0, nil, 0
	before := s.history.now()
	for range steps {
		s.step()
		s.checkLedger(before)
		s.checkProgress()
	}
	return true
}

// recover gives the disk space and waits until the log is writable again without help.
func (s *life) recover() {
	s.disk.Resize(simulatedRoom)
	for range 90 { // at most 60 calls fail, perhaps one per attempt
		recs := s.history.offer(1)
		if s.log.Append(context.Background(), recs...) == nil {
			s.history.acknowledge(recs)
			return
		}
		time.Sleep(30 * time.Second)
	}
	s.fail("the log is not writable 45 minutes after the disk had space again: %v", s.log.Full())
}

// kill ends the run as kill -9 does: everything written stays.
func (s *life) kill() { s.end(simdisk.Locked.Kill) }

// losePower ends the run by a power loss.
func (s *life) losePower() { s.end(simdisk.Locked.Crash) }

func (s *life) end(how func(simdisk.Locked) *simdisk.Disk) {
	left := s.disk.Detach(how)
	_ = s.stop() // nothing reads this disk afterwards
	s.log = nil
	s.attach(left)
}

// restartFromCrash continues from a recorded crash of this run, as if the run had ended
// there.
func (s *life) restartFromCrash() {
	left := s.disk.Detach(simdisk.Locked.Crash)
	_ = s.stop()
	s.log = nil
	if len(s.crashes) == 0 {
		s.attach(left)
		return
	}
	m := s.crashes[len(s.crashes)-1-s.rand.IntN(min(len(s.crashes), 150))]
	s.history = &history{past: s.certainPast(m)}
	s.shippedSector = nil // it may be from a segment that was not shipped yet
	s.attach(m.disk.Kill())
}

// certainPast returns the history of a crash without the records that SyncInterval may
// lose in it.
func (s *life) certainPast(m crash) past {
	p := m.past
	if s.profile.interval {
		p.acked = slices.DeleteFunc(slices.Clone(p.acked), func(a ack) bool { return m.at.Sub(a.at) < time.Second })
	}
	return p
}

// finish ends the life and checks everything that it left.
func (s *life) finish() {
	if s.log == nil || s.t.Failed() {
		s.t.Logf("the life wrote:\n%s", s.logged.text.String())
		return
	}
	s.recover()
	if !s.profile.tampered && !s.profile.rots && !s.profile.blind && (s.faults == nil || s.faults.always == nil) {
		for range 60 { // the log retries failures
			if unfinishedWork(s.disk) == "" {
				break
			}
			time.Sleep(time.Minute)
		}
		if name := unfinishedWork(s.disk); name != "" {
			s.fail("an hour after the disk works again, %s remains", name)
		}
	}
	s.close()
	s.checkCrashes()
}

// stop closes the log and waits until hanging calls have returned.
func (s *life) stop() error {
	err := s.log.Close()
	if hung := (*hangError)(nil); errors.As(err, &hung) {
		time.Sleep(time.Hour)
	}
	return err
}

// close ends the run by closing the log.
func (s *life) close() {
	if err := s.stop(); err != nil && s.faults.failures() == 0 {
		s.fail("close: %v", err)
	}
	if s.faults == nil && !s.mayBeDamaged() {
		if _, err := s.disk.Stat(filepath.Join(simulatedDir, "wal", nextName)); !errors.Is(err, fs.ErrNotExist) {
			s.fail("a close left %s (%v)", nextName, err)
		}
		// The truncation is durable only after the sealed name, and a start does not
		// read sealed segments.
		s.eachPadded(func(path, content string) {
			if !s.paddedContents[content] {
				s.fail("%s ends with zeros after a close", path)
			}
		})
	}
}

// eachPadded calls each for every segment that ends with zeros, with the content before
// these.
func (s *life) eachPadded(each func(path, content string)) {
	s.disk.Walk(filepath.Join(simulatedDir, "wal"), func(path string, data []byte) {
		if filepath.Base(path) == segment.FileName && filepath.Base(filepath.Dir(path)) != nextName && bytes.HasSuffix(data, make([]byte, 64)) {
			each(path, string(bytes.TrimRight(data, "\x00")))
		}
	})
}
