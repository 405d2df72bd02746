package shipper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"collectord/shipper/bucket"
	"collectord/wal"
)

// shipLosses stores the log's loss notes at the destination and removes them from the
// log.
func (s *Shipper) shipLosses(ctx context.Context) error {
	for {
		notes, err := s.log.Losses() // Losses returns a limited number at a time
		if err != nil {
			return fmt.Errorf("read the loss notes: %w", err)
		}
		if len(notes) == 0 {
			return nil
		}
		for _, n := range notes {
			err := s.shipLoss(ctx, n)
			if err == nil {
				err = s.log.LossStored(n)
			}
			if err != nil {
				return fmt.Errorf("loss note of the records %d to %d: %w", n.FirstSeq, n.LastSeq, err)
			}
		}
	}
}

// shipLoss stores a note of the records that the storage does not have.
func (s *Shipper) shipLoss(ctx context.Context, n wal.LossNote) error {
	objects, checked, err := s.findStored(ctx, n)
	if err != nil {
		return err
	}
	next := n.FirstSeq
	var foundRecords uint64 // records that the storage has
	for _, r := range objects {
		if r.FirstSeq > next {
			if err := s.putLoss(ctx, n, next, r.FirstSeq-1, checked); err != nil {
				return err
			}
		}
		if r.LastSeq >= next {
			foundRecords += min(r.LastSeq, n.LastSeq) - max(r.FirstSeq, next) + 1
			next = r.LastSeq + 1
		}
	}
	if foundRecords > 0 {
		s.opts.Logger.Info("the storage has records that the log was about to note as lost: their upload was never confirmed",
			"reason", n.Reason, "first_seq", n.FirstSeq, "last_seq", n.LastSeq, "records", foundRecords)
	}
	if next > n.LastSeq {
		return nil
	}
	return s.putLoss(ctx, n, next, n.LastSeq, checked)
}

// findStored returns the intact objects that contain records of a note, in order of seq.
// checked is false if the storage forbids reading, or if the note does not contain the
// hours to search.
func (s *Shipper) findStored(ctx context.Context, n wal.LossNote) (objects []bucket.Key, checked bool, err error) {
	hours := map[int64]bool{}
	for _, h := range n.Hours {
		hours[h-1], hours[h] = true, true // the records may be in an object that began in the hour before
	}
	for _, h := range slices.Sorted(maps.Keys(hours)) {
		var found []bucket.Key
		if err := bucket.Retry(ctx, func() (err error) { found, err = s.listOverlapping(ctx, n, h); return err }); err != nil {
			return nil, false, ignorePermanent(err)
		}
		objects = append(objects, found...)
	}
	if len(objects) > 0 {
		verifier, err := bucket.NewVerifier()
		if err != nil {
			return nil, false, err
		}
		defer verifier.Close()
		intact := objects[:0]
		for _, k := range objects {
			var c bucket.Contents
			err := bucket.Retry(ctx, func() (err error) { c, err = verifier.Read(ctx, s.store, k.String()); return err })
			if err != nil && !errors.Is(err, bucket.ErrNotFound) {
				return nil, false, ignorePermanent(err)
			}
			if err == nil && c.Problem(k) == "" {
				intact = append(intact, k)
			}
		}
		objects = intact
		slices.SortFunc(objects, func(a, b bucket.Key) int { return cmp.Compare(a.FirstSeq, b.FirstSeq) })
	}
	return objects, len(n.Hours) > 0, nil
}

// listOverlapping lists the objects of an hour whose keys overlap with the records of a note.
func (s *Shipper) listOverlapping(ctx context.Context, n wal.LossNote, hour int64) (found []bucket.Key, err error) {
	for key, err := range s.store.List(ctx, bucket.Key{Node: n.Node, LogID: n.LogID, Hour: hour}.LogPrefix()) {
		if err != nil {
			return nil, err
		}
		k, ok := bucket.ParseKey(key)
		if ok && k.LogID == n.LogID && (k.Run == n.Run || n.Run == 0) && k.FirstSeq <= n.LastSeq && k.LastSeq >= n.FirstSeq {
			found = append(found, k)
		}
	}
	return found, nil
}

// ignorePermanent returns nil for a permanent error of the storage: the note is then stored
// without a check.
func ignorePermanent(err error) error {
	var refused *bucket.Error
	if errors.As(err, &refused) && refused.Permanent {
		return nil
	}
	return err
}

// lossKey returns the key of a note's records.
func lossKey(n wal.LossNote) bucket.Key {
	return bucket.Key{Node: n.Node, LogID: n.LogID, Run: n.Run, FirstSeq: n.FirstSeq, LastSeq: n.LastSeq}
}

func (s *Shipper) putLoss(ctx context.Context, n wal.LossNote, first, last uint64, checked bool) error {
	k := lossKey(n)
	k.FirstSeq, k.LastSeq = first, last
	o, err := bucket.NewLossNote(k, n.Reason, n.At, checked)
	if err != nil {
		return err
	}
	if err = s.store.Put(ctx, o); errors.Is(err, bucket.ErrExists) {
		return s.confirmLoss(ctx, k) // stored before a crash
	}
	return err
}

// confirmLoss returns nil if the object under the key is a note of the same losses. A
// taken key alone does not prove that.
func (s *Shipper) confirmLoss(ctx context.Context, k bucket.Key) error {
	_, err := bucket.ReadLossNote(ctx, s.store, k)
	if damage := (*bucket.Damage)(nil); errors.As(err, &damage) {
		return &bucket.Error{
			Op: "put", Key: k.LossKey(), Kind: "conflict", Permanent: true, ThisObjectOnly: true, Err: bucket.ErrExists,
			Hint: "an object that is not this loss note has its name: look at it, and move it away",
		}
	}
	return contradiction(k.LossKey(), err)
}
