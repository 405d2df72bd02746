package wal

import (
	"bytes"
	"cmp"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"collectord/wal/vfs/simdisk"
)

func sizeBelow(d *simdisk.Disk, dir string) (total int64) {
	entries, _ := d.List(dir)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && !e.IsDir() && filepath.Ext(e.Name()) != ".txt" {
			total += info.Size()
		}
		total += sizeBelow(d, filepath.Join(dir, e.Name()))
	}
	return total
}

type logContent struct {
	m           crash
	fail        func(string, ...any)
	seqByNumber map[int]uint64 // seq by number
	bySeq       map[uint64]int
	lossReason  map[uint64]string // reason of the note, by seq

	inBucket map[uint64]bool
	hours    map[uint64]int64 // hour of each record in the bucket
	ids      []recordID
}

// recordID is the id of a record, in the bucket or in the log.
type recordID struct {
	run, seq uint64
	id       ID
}

func (c *logContent) add(seq uint64, number int) {
	if other, ok := c.bySeq[seq]; ok && other != number {
		c.fail("seq %d is usage %d and usage %d", seq, other, number)
	}
	if other, ok := c.seqByNumber[number]; ok && other != seq {
		c.fail("usage %d is seq %d and seq %d", number, other, seq)
	}
	if number < 1 || number > c.m.past.offered {
		c.fail("seq %d has a usage that was never appended", seq)
	}
	c.seqByNumber[number], c.bySeq[seq] = seq, number
}

func (s *life) checkLog(l *Log, m crash, fail func(string, ...any)) (highest uint64) {
	c := &logContent{m: m, fail: fail, seqByNumber: map[int]uint64{}, bySeq: map[uint64]int{}, lossReason: map[uint64]string{}, inBucket: map[uint64]bool{}, hours: map[uint64]int64{}}
	for _, b := range m.past.bucket {
		c.add(b.seq, b.number)
		c.inBucket[b.seq], c.hours[b.seq] = true, b.hour
		c.ids = append(c.ids, recordID{b.run, b.seq, b.id})
	}
	g := l.Ledger()
	if g.Recovered != g.Pending+g.Shipped+g.Quarantined+g.Evicted {
		fail("the ledger does not balance: %+v", g)
	}
	if pending := s.pending(l); !s.loses() && !s.faults.hasFailedSync() && (g.Pending != pending || g.Shipped+g.Quarantined+g.Evicted > 0) {
		fail("ledger %+v, of %d records", g, pending)
	}
	s.readLog(l, c)
	waiting, err := l.Losses()
	if err != nil {
		fail("loss notes: %v", err)
	}
	for _, n := range append(m.past.notes, waiting...) {
		highest = max(highest, n.LastSeq)
		if !s.mayLose(n.Reason) {
			fail("a loss note although nothing was lost: %+v", n)
		}
		for seq := n.FirstSeq; seq <= n.LastSeq; seq++ {
			c.lossReason[seq] = n.Reason
			// A segment may be evicted or damaged after its upload, if the answer was
			// lost or a crash came first. The log can't know this, so its note has the
			// hours in which the storage may have the segment. If the beginning of a
			// damaged or unreadable segment is unknown, the hour is that of its last
			// change.
			named := slices.Contains(n.Hours, c.hours[seq]) || slices.Contains(n.Hours, c.hours[seq]+1) || (n.Reason == LossDamaged || s.profile.blind) && s.profile.jumps ||
				len(n.Hours) == 0 && s.damagedUsages != nil // the hours of a segment without its file are unknown
			unknown := c.inBucket[seq] && named
			if _, ok := c.bySeq[seq]; ok && !unknown {
				fail("a note says that seq %d is lost (%s), but the record exists; in the bucket: %t; noted %v after the crash", seq, n.Reason, c.inBucket[seq], n.At.Sub(m.at))
				break
			}
		}
	}
	if slices.Contains(slices.Collect(maps.Values(c.lossReason)), LossDamaged) && s.profile.rots && !s.truncated && sizeBelow(m.disk, inQuarantine) == 0 {
		fail("records are noted as damaged, but the quarantine is empty")
	}
	s.checkComplete(c)
	c.checkOrder()
	c.checkIDs()
	checkStrayFiles(m.disk, m.past, fail)
	for seq := range c.bySeq {
		highest = max(highest, seq)
	}
	return highest
}

func (s *life) mayLose(reason string) bool {
	switch reason {
	case LossSkipped: // no record is lost
		return true
	case LossEvicted:
		return s.profile.evicts
	default:
		return s.mayBeDamaged() || reason == LossDamaged && s.faults.staysBlind() || s.profile.interval || s.faults.hasFailedSync()
	}
}

func (s *life) pending(l *Log) (n uint64) {
	segments, _ := l.Sealed()
	for _, segment := range segments {
		n += segment.ledgerCount()
	}
	return n
}

func (s *life) readLog(l *Log, c *logContent) {
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
	if s.profile.evicts {
		time.Sleep(10 * time.Second) // a salvage may use space, so that the log evicts
	}
	segments, _ := l.Sealed()
	segments = slices.DeleteFunc(segments, func(s *Segment) bool { return !s.Hold() }) // so that none is evicted meanwhile
	for _, segment := range segments {
		h, err := segment.Header()
		if err != nil {
			c.fail("header of %s: %v", segment, err)
			continue
		}
		for r, err := range segment.Records() {
			if err != nil {
				c.fail("records of %s: %v", segment, err)
				break
			}
			c.ids = append(c.ids, recordID{h.Run, r.Seq, r.ID})
			c.add(r.Seq, numberOf(r.Usage))
			if !bytes.Equal(r.Usage, usageOf(numberOf(r.Usage))) {
				c.fail("seq %d has other bytes than were appended: %q", r.Seq, r.Usage)
			}
		}
	}
}

// checkComplete looks for records that are lost without a note, and for damaged records
// whose remaining bytes are not in the quarantine.
func (s *life) checkComplete(c *logContent) {
	evicted := 0
	for seq, reason := range c.lossReason {
		if _, there := c.bySeq[seq]; !there && reason == LossEvicted {
			evicted++
		}
	}
	for _, a := range c.m.past.acked {
		switch _, ok := c.seqByNumber[a.number]; {
		case !ok && s.damagedUsages[a.number] && !s.profile.evicts && !s.profile.interval:
			if text := usageOf(a.number); s.remainingUsages[a.number] && !diskContains(c.m.disk, inQuarantine, text) {
				c.fail("usage %d was damaged, and its remaining bytes are not in the quarantine", a.number)
			}
		case !ok && s.faults.staysBlind() && diskContains(c.m.disk, inQuarantine, usageOf(a.number)):
		case ok, s.damagedUsages[a.number], s.profile.interval && !c.m.kill && c.m.at.Sub(a.at) < time.Second:
		case evicted > 0:
			evicted--
		default:
			c.fail("usage %d was acknowledged and is missing", a.number)
		}
	}
	seqs := slices.Sorted(maps.Keys(c.bySeq))
	if len(seqs) == 0 {
		return
	}
	for seq := uint64(1); seq <= seqs[len(seqs)-1]; seq++ {
		if _, ok := c.bySeq[seq]; !ok && c.lossReason[seq] == "" {
			c.fail("seq %d is missing without a note", seq)
			return
		}
	}
}

// checkOrder asserts that seqs rise in the order of the appends: a usage that was passed to
// the log after another was acknowledged has a higher seq, and the usages of one call have
// consecutive seqs.
func (c *logContent) checkOrder() {
	next, highest := 0, ack{} // highest is the acknowledged usage with the highest seq
	for _, number := range slices.Sorted(maps.Keys(c.seqByNumber)) {
		for ; next < len(c.m.past.acked) && c.m.past.acked[next].offered < number; next++ {
			if a := c.m.past.acked[next]; c.seqByNumber[a.number] > c.seqByNumber[highest.number] {
				highest = a
			}
		}
		if seq := c.seqByNumber[number]; seq < c.seqByNumber[highest.number] {
			c.fail("usage %d has seq %d, below that of usage %d, which was acknowledged before", number, seq, highest.number)
			return
		}
	}
	for _, a := range c.m.past.acked {
		seq, first := c.seqByNumber[a.number], c.seqByNumber[a.first]
		if seq > 0 && first > 0 && seq-first != uint64(a.number-a.first) {
			c.fail("usages %d and %d were appended together, and have the seqs %d and %d", a.first, a.number, first, seq)
			return
		}
	}
}

// checkIDs asserts that the ids of a run rise with the seqs, and that no id is drawn twice.
func (c *logContent) checkIDs() {
	slices.SortFunc(c.ids, func(a, b recordID) int { return cmp.Or(cmp.Compare(a.run, b.run), cmp.Compare(a.seq, b.seq)) })
	seqs := map[ID]uint64{}
	for i, r := range c.ids {
		if seq, ok := seqs[r.id]; ok && seq != r.seq {
			c.fail("seqs %d and %d have the same id", seq, r.seq)
		}
		seqs[r.id] = r.seq
		if i == 0 || c.ids[i-1].run != r.run {
			continue
		}
		if before := c.ids[i-1]; before.seq == r.seq && before.id != r.id || before.seq < r.seq && bytes.Compare(before.id[:], r.id[:]) >= 0 {
			c.fail("the id of seq %d is not above that of seq %d", r.seq, before.seq)
		}
	}
}
