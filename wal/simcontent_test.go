package wal

import (
	"bytes"
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
