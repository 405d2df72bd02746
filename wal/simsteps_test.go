package wal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"testing/synctest"
	"time"

	"collectord/wal/segment"
)

func (s *life) step() {
	switch n := s.rand.IntN(100); {
	case n < 55:
		s.append()
	case n < 60 && !s.profile.evicts:
		s.drain()
	case n < 67:
		_ = s.log.Seal(context.Background()) // the log retries failures
	case n < 79 && !s.profile.evicts || n < 72:
		s.ship()
	case n < 84:
		s.uploadNotes()
	case n < 88 && s.profile.rots:
		s.corrupt()
	case n < 91 && s.profile.fills:
		s.disk.Resize(s.disk.Used() + int64(s.rand.IntN(6<<10)))
	case n < 93:
		s.disk.Resize(simulatedRoom)
	case n < 95 && s.profile.jumps:
		s.jumped.Store(int64(time.Duration(s.rand.IntN(72*60)-36*60) * time.Minute))
	case n < 97 && s.profile.tampered:
		s.tamperWhileRunning()
	case n < 98:
		time.Sleep(time.Duration(s.rand.Int64N(int64(90 * time.Second))))
	default:
		synctest.Wait()
	}
}

func (s *life) append() {
	var all sync.WaitGroup
	for range 1 + s.rand.IntN(3) {
		recs := s.history.offer(1 + s.rand.IntN(3))
		later := time.Duration(s.rand.IntN(1e6)) // so that the appends have one order
		way := s.rand.IntN(5)
		all.Go(func() {
			time.Sleep(later)
			switch way {
			case 0:
				s.log.Enqueue(withSource(recs, UDP)...)
			case 1:
				s.appendTo(recs, s.log.Commit)
			case 2:
				s.appendTo(recs, s.log.RequestCommit)
			default:
				if s.log.Append(context.Background(), recs...) == nil {
					s.history.acknowledge(recs)
				}
			}
		})
	}
	all.Wait()
}

// appendTo appends the records one by one, as an event loop with a client for each of them
// does: without blocking, with one outcome for each commit.
func (s *life) appendTo(recs []Record, commit func()) {
	woken := make(chan struct{}, 1)
	w := NewWaiter(func() { woken <- struct{}{} })
	owed := map[uint64][]Record{} // by commit
	for i := range recs {
		if commit, err := s.log.AppendTo(w, slices.Values([]*Record{&recs[i]})); err == nil {
			owed[commit] = append(owed[commit], recs[i])
		}
	}
	commit()
	for len(owed) > 0 {
		<-woken
		for _, o := range w.Outcomes(nil) {
			acked, ok := owed[o.Commit]
			switch delete(owed, o.Commit); {
			case !ok:
				s.fail("an outcome of commit %d, which has no record of this waiter, or had one before", o.Commit)
			case o.Err != nil && !errors.Is(o.Err, ErrCommitFailed):
				s.fail("the outcome of a commit is %v", o.Err)
			case o.Err == nil:
				s.tally.add("commits by a waiter", 1)
				for i := range acked {
					s.history.acknowledge(acked[i : i+1])
				}
			}
		}
	}
}

func withSource(recs []Record, source Source) []Record {
	for i := range recs {
		recs[i].Source = source
	}
	return recs
}

func (s *life) ship() {
	segments, _ := s.log.Sealed()
	if len(segments) == 0 {
		return
	}
	segment := segments[s.rand.IntN(len(segments))]
	if !segment.Hold() {
		return
	}
	defer segment.Release()
	s.checkSize(segment)
	confirmed, err := s.log.Unconfirmed()
	if err == nil {
		s.checkConfirmed(min(confirmed, segment.first))
	}
	var uploaded []stored
	header, err := segment.Header()
	if err != nil { // Records fails, too
		header.Run = 0
	}
	var hour int64
	for r, err := range segment.Records() {
		if err != nil { // as the shipper does for a segment that is damaged or without its file
			_, _ = s.log.Salvage(segment)
			return
		}
		if len(uploaded) == 0 {
			hour = hourOf(r.ReceivedAt)
		}
		uploaded = append(uploaded, stored{r.Seq, numberOf(r.Usage), hour, header.Run, r.ID})
	}
	_ = s.disk.Edit(segment.path(), func(b []byte) []byte {
		s.shippedSector = bytes.Clone(b[:min(len(b), sector)])
		return b
	})
	s.history.upload(uploaded)
	if s.rand.IntN(4) == 0 {
		return // the storage's answer is lost
	}
	s.confirm(segment, uploaded)
}

func (s *life) drain() {
	if s.log.Seal(context.Background()) != nil {
		return
	}
	for range 10 {
		s.ship()
	}
}

func (s *life) uploadNotes() {
	notes, err := s.log.Losses()
	if err != nil {
		return
	}
	for _, n := range notes {
		s.history.uploadNote(n)
		_ = s.log.LossStored(n) // a failed deletion causes another upload
	}
}

func (s *life) corrupt() {
	segments, _ := s.log.Sealed()
	if len(segments) == 0 || s.damagedUsages != nil {
		return
	}
	s.damagedUsages, s.remainingUsages = map[int]bool{}, map[int]bool{} // only once: a second corruption could destroy records that a salvage has not copied yet
	var other []byte                                                    // a misplaced sector of another segment
	_ = s.disk.Edit(segments[s.rand.IntN(len(segments))].path(), func(b []byte) []byte {
		at := s.rand.IntN(len(b)) / sector * sector
		other = bytes.Clone(b[at:min(len(b), at+sector)])
		return b
	})
	_ = s.disk.Edit(segments[s.rand.IntN(len(segments))].path(), func(b []byte) []byte { // Edit fails if the file is gone
		was := bytes.Clone(b)
		at, from := s.rand.IntN(len(b)), s.rand.IntN(len(b))/sector*sector
		in := b[at/sector*sector : min(len(b), (at/sector+1)*sector)]
		switch s.rand.IntN(5) {
		case 0:
			b[at] ^= 1 << s.rand.IntN(8)
		case 1:
			clear(in)
		case 2:
			copy(in, b[from:min(len(b), from+sector)])
		case 3:
			copy(in, other)
		case 4:
			b, s.truncated = b[:at], true
		}
		s.recordDamage(was, b)
		return b
	})
}

const frameHeaderSize = segment.FrameStart - segment.MaxLengthPrefix

func (s *life) recordDamage(was, is []byte) {
	length, took := binary.Uvarint(was)
	for at := took + int(length); at < len(was); {
		if length, took = binary.Uvarint(was[at:]); took <= 0 || length < frameHeaderSize || at+took+int(length) > len(was) {
			return // remains of a failed commit
		}
		frame := was[at+took : at+took+int(length)]
		at += took + int(length)
		if bytes.Contains(is, frame) {
			continue
		}
		for rest := frame[frameHeaderSize:]; len(rest) > 0; {
			size := segment.NextSize(rest)
			if size > len(rest) {
				return
			}
			usage := rest[segment.RecordOverhead+int(rest[25]) : size]
			s.damagedUsages[numberOf(usage)] = true
			s.remainingUsages[numberOf(usage)] = bytes.Contains(is, usage)
			rest = rest[size:]
		}
	}
}
