package wal

import (
	"cmp"
	"errors"
	"slices"

	"collectord/wal/segment"
)

// Export does what Examine does, but calls the function each exactly once for every valid record. If two reads return
// different bytes, Export reads the segment again, a few times. The records may then come out of
// order. The report lists the records that were not exported.
func (i *Inspector) Export(e Entry, each func(*Record) error) (r *Report, err error) {
	var exported []segment.Piece
	for attempt := range readAttempts {
		r, err = i.Examine(e, func(rec *Record) error {
			if attempt > 0 && slices.ContainsFunc(exported, func(p segment.Piece) bool { return p.First <= rec.Seq && rec.Seq <= p.Last }) {
				return nil
			}
			if n := len(exported) - 1; n >= 0 && exported[n].Last+1 == rec.Seq {
				exported[n].Last = rec.Seq
			} else {
				exported = append(exported, segment.Piece{SeqRange: SeqRange{First: rec.Seq, Last: rec.Seq}})
			}
			return each(rec)
		})
		if r == nil || !isDamage(err) {
			return r, err
		}
	}
	slices.SortFunc(exported, func(a, b segment.Piece) int { return cmp.Compare(a.First, b.First) })
	first, last := e.FirstSeq, cmp.Or(e.LastSeq, r.LastSeq)
	if first == 0 && len(exported) > 0 {
		first = exported[0].First
	}
	r.Lost, r.Reason = segment.Gaps(first, last, exported), err
	return r, nil
}

// isDamage reports whether err means that bytes are damaged or can't be read.
func isDamage(err error) bool {
	var damage *DamageError
	var unread *UnreadableError
	return errors.As(err, &damage) || errors.As(err, &unread)
}
