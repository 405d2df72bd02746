package wal

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"collectord/wal/vfs/simdisk"
)

// fail reports a failure with everything needed to repeat it.
func (s *life) fail(format string, args ...any) {
	s.t.Errorf("seed %d (%s): %s", s.seed, s.profile, fmt.Sprintf(format, args...))
}

// checkConfirmed asserts that each seq below the given one is stored or noted in the
// bucket.
func (s *life) checkConfirmed(below uint64) {
	there := map[uint64]bool{}
	now := s.history.now()
	for _, b := range now.bucket {
		there[b.seq] = true
	}
	for _, n := range now.notes {
		for seq := n.FirstSeq; seq <= n.LastSeq; seq++ {
			there[seq] = true
		}
	}
	for seq := uint64(1); seq < below; seq++ {
		if !there[seq] {
			s.fail("the log claims that everything below seq %d is stored, but seq %d is not", below, seq)
			return
		}
	}
	s.tally.add("claims", 1)
}

// checkProgress checks what the log claims in a heartbeat.
func (s *life) checkProgress() {
	if _, below, err := s.log.Progress(); err == nil && below != s.claimedBelow {
		s.claimedBelow = below
		s.checkConfirmed(below)
	}
}

// unfinishedWork returns the name of a directory of an unfinished removal or salvage,
// or "". Directories that wait for the next start do not count.
func unfinishedWork(d *simdisk.Disk) string {
	entries, _ := d.List(filepath.Join(simulatedDir, "wal"))
	for _, e := range entries {
		if _, _, ending, ok := parseName(e.Name()); e.IsDir() && (ok && ending != "" && ending != unreadSuffix && ending != tailSuffix || e.Name() == salvageName) {
			return e.Name()
		}
	}
	return ""
}

// checkSize compares the counted size of a segment with the disk.
func (s *life) checkSize(one *Segment) {
	if info, err := s.disk.Stat(one.path()); err == nil && s.faults == nil && !s.loses() && info.Size() != one.Bytes() {
		s.fail("segment %s has %d bytes, its file %d", one, one.Bytes(), info.Size())
	}
}

// checkLedger checks the ledger of a run. began is the past at the beginning of the
// run.
func (s *life) checkLedger(began past) {
	g, now := s.log.Ledger(), s.history.now()
	var received, appended uint64
	for source, d := range g.BySource {
		rejected, dropped := sum(d.Rejected), sum(d.Dropped)
		if d.Received != d.Accepted+rejected || d.Accepted != d.Appended+d.Repeated+dropped+d.Waiting {
			s.fail("the ledger of source %d does not add up: %+v", source, d)
		}
		received += d.Received
		appended += d.Appended
	}
	if appended+g.Recovered != g.Pending+g.Shipped+g.Quarantined+g.Evicted {
		s.fail("the ledger does not balance: %+v", g)
	}
	if offered := uint64(now.offered - began.offered); received != offered {
		s.fail("the ledger has %d received records, want %d", received, offered)
	}
	if acked := uint64(len(now.acked) - len(began.acked)); g.BySource[HTTP].Appended != acked {
		s.fail("the ledger has %d records appended by HTTP, %d were acknowledged", g.BySource[HTTP].Appended, acked)
	}
	if g.Shipped != s.shippedRecords {
		s.fail("the ledger has %d shipped records, want %d", g.Shipped, s.shippedRecords)
	}
}

func sum(m map[string]uint64) (n uint64) {
	for _, v := range m {
		n += v
	}
	return n
}

// checkCrashes checks every recorded crash, and the end of the life.
func (s *life) checkCrashes() {
	disk := s.disk.Detach(simdisk.Locked.Kill)
	end := crash{disk: disk, state: stateOf(disk), call: simdisk.Call{Op: "end"}, past: s.history.now(), at: time.Now()}
	time.Sleep(time.Second) // so that the checks come after all crashes
	lived := s.logged.text.String()
	for n, m := range append(s.crashes, end) {
		if !s.tally.isNew(m.state) && m.call.Op != "end" {
			continue
		}
		s.logged.text.Reset()
		s.seedDiskRandom(fmt.Sprint(n))
		if s.check(m); s.t.Failed() {
			s.t.Logf("the life wrote:\n%s\nthe start wrote:\n%s", lived, s.logged.text.String())
			return
		}
	}
}

// listing returns the paths below a directory, with the sizes of files.
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

// check starts a log on the state that a crash left, and compares it with the history.
func (s *life) check(m crash) {
	fail := func(format string, args ...any) {
		s.fail("crash after call %d (%s %s), kill %t, start interrupted %d times: %s", m.call.N, m.call.Op, m.call.Path, m.kill, m.interruptedStarts, fmt.Sprintf(format, args...))
	}
	var found *simdisk.Disk // for the report
	if s.tally.keepFound {
		found = m.disk.Kill()
	}
	defer func() {
		if s.t.Failed() && found != nil {
			s.t.Logf("the start found:\n%s", listing(found, simulatedDir))
		}
	}()
	if s.faults != nil && s.faults.always != nil {
		m.disk.SetIntercept(s.faults.refuse)
	}
	var nextCrash *crash
	h := &history{past: s.certainPast(m)} // the history continues during the check
	if m.interruptedStarts < 2 && s.diskIntN(3) == 0 {
		m.disk.SetChanged(s.crashOnce(m, h, &nextCrash))
	}
	l, err := Open(simulatedDir, s.options(m.disk))
	if err != nil {
		fail("start: %v", err)
		return
	}
	if m.disk.Resize(simulatedRoom); s.profile.evicts || s.profile.fills {
		time.Sleep(10 * time.Second) // until the excess is evicted, or the log has noticed free space
	}
	if s.faults == nil && !s.profile.rots && !s.profile.tampered && !s.profile.interval {
		for _, finding := range []Finding{FoundDamage, FoundNoRecords, FoundNoFile, FoundUnreadable, FoundMisnamed, FoundMissing, FoundIdentity, FoundUnreadableNote, FoundStray} {
			if n := l.Stats().Findings[finding]; n > 0 {
				fail("after a crash without faults the start found %d times %s", n, finding)
			}
		}
	}
	highest := s.checkLog(l, m, fail)
	recs := h.offer(1)
	for try := 0; ; try++ { // the oldest may have to be evicted first
		err := l.Append(context.Background(), recs...)
		if err == nil {
			h.acknowledge(recs)
			break
		}
		if !s.profile.evicts && !s.profile.fills || try == 60 {
			fail("append after the start: %v", err)
			break
		}
		time.Sleep(time.Second)
	}
	pending, unnamed := l.Ledger().Pending, l.identityUnsaved
	if err := l.Close(); err != nil {
		fail("close: %v", err)
	}
	m.disk.SetChanged(nil)
	s.checkAgain(m.disk, numberOf(recs[0].Usage), highest, pending, unnamed, fail)
	if nextCrash != nil && !s.t.Failed() {
		s.logged.text.Reset()
		s.check(*nextCrash)
	}
}

// crashOnce returns a hook that records a crash at one of the next changes of a disk.
func (s *life) crashOnce(m crash, h *history, again **crash) func(simdisk.Call, simdisk.Locked) {
	left := 1 + s.diskIntN(50)
	return func(c simdisk.Call, disk simdisk.Locked) {
		if left--; left != 0 {
			return
		}
		if crashed := disk.Crash(); s.tally.isNew(stateOf(crashed)) {
			*again = &crash{disk: crashed, call: c, past: h.now(), at: time.Now(), interruptedStarts: m.interruptedStarts + 1}
		}
	}
}

// checkAgain starts a log on the state that a closed log left. unnamed means that LOG
// could not be written and is left to the next start.
func (s *life) checkAgain(d *simdisk.Disk, last int, highest, pending uint64, unnamed bool, fail func(string, ...any)) {
	l, err := Open(simulatedDir, s.options(d))
	if err != nil {
		fail("second start: %v", err)
		return
	}
	if g := l.Ledger(); !s.loses() && !s.faults.hasFailedSync() && g.Pending != pending {
		fail("the second start has %d records pending, the first had %d", g.Pending, pending)
	}
	for finding, n := range l.Stats().Findings {
		besideEvicted := finding == FoundStray && s.profile.evicts && s.profile.tampered // the log may evict at once
		if n > 0 && !s.profile.rots && !besideEvicted && (finding != FoundIdentity || !unnamed) && (!s.faults.mayLeaveFrames() || finding != FoundMisnamed) {
			fail("the second start found %d times %s", n, finding)
		}
	}
	if name := unfinishedWork(d); name != "" && !s.profile.evicts {
		fail("the second start left %s", name)
	}
	all, _ := l.Sealed()
	if s.profile.evicts { // the usage after the start may have been evicted, too
		all = nil
	}
	if !s.profile.evicts && (len(all) == 0 || all[len(all)-1].last <= highest) {
		fail("the usage after the start has no seq above %d", highest)
	} else if len(all) > 0 {
		n := 0
		for r, err := range all[len(all)-1].Records() {
			if err == nil && r.Seq == all[len(all)-1].last {
				n = numberOf(r.Usage)
			}
		}
		if n != last {
			fail("the last usage is %d, want %d", n, last)
		}
	}
	if err := l.Close(); err != nil {
		fail("close again: %v", err)
	}
}
