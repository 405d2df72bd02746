package wal

import (
	"errors"
	"slices"
	"time"
)

// keptSegment is a segment that the storage confirmed in this run, and its records.
type keptSegment struct {
	*Segment
	records []stored
}

// confirm does what a shipper does after the storage has confirmed a segment.
func (s *life) confirm(one *Segment, records []stored) {
	s.shippedRecords += uint64(len(records))
	if s.rand.IntN(2) == 0 {
		_ = one.Remove() // the log retries failures
		return
	}
	one.Keep()
	s.kept = append(s.kept, keptSegment{one, records})
	s.tally.add("segments kept", 1)
	s.checkKept()
	if s.rand.IntN(2) == 0 {
		s.recheck()
	}
}

// recheck checks whether the storage still has a confirmed segment. Sometimes the
// storage has lost it.
func (s *life) recheck() {
	at := s.rand.IntN(len(s.kept))
	k := s.kept[at]
	s.kept = slices.Delete(s.kept, at, at+1)
	if s.rand.IntN(3) > 0 {
		_ = k.Remove()
		return
	}
	if k.Relist() { // from now on the log has the only copy
		s.history.removeFromBucket(k.records)
		s.tally.add("segments lost by the storage", 1)
	}
}

// removeFromBucket removes records from the bucket.
func (h *history) removeFromBucket(records []stored) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.past.bucket = slices.DeleteFunc(slices.Clone(h.past.bucket), func(b stored) bool {
		return slices.ContainsFunc(records, func(r stored) bool { return r.seq == b.seq })
	})
}

// checkKept checks the kept segments: they are readable, no note says that they are
// lost, and no append is refused because of them.
func (s *life) checkKept() {
	notes, _ := s.log.Losses() // unreadable notes are read later
	notes = append(notes, s.history.now().notes...)
	there := 0
	for _, k := range s.kept {
		for _, n := range notes {
			if n.FirstSeq <= k.last && k.first <= n.LastSeq {
				s.fail("a note says that seqs %d to %d are lost (%s), but %s was shipped and kept", n.FirstSeq, n.LastSeq, n.Reason, k.Segment)
			}
		}
		if !k.IsKept() {
			continue
		}
		there++
		n := 0
		for r, err := range k.Records() {
			if err != nil {
				if s.faults == nil {
					s.fail("kept %s: %v", k.Segment, err)
				}
				n = len(k.records)
				break
			}
			if n >= len(k.records) || k.records[n].number != numberOf(r.Usage) {
				s.fail("kept %s has other records", k.Segment)
				break
			}
			n++
		}
		if n < len(k.records) {
			s.fail("kept %s has %d records of %d", k.Segment, n, len(k.records))
		}
	}
	if stats := s.log.Stats(); stats.KeptSegments > there { // the number may be lower by now
		s.fail("%d segments are kept, want at most %d", stats.KeptSegments, there)
	}
	if s.faults.failures() > 0 || !errors.Is(s.log.Full(), ErrFull) {
		return
	}
	time.Sleep(2 * boundsInterval)
	if errors.Is(s.log.Full(), ErrFull) && s.log.Stats().KeptSegments > 0 {
		s.fail("appends are refused, and segments are kept: %v", s.log.Full())
	}
}
