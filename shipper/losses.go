package shipper

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"collectord/wal"
)

// lossObject is what the bucket is told of records that will never come.
type lossObject struct {
	Format   int    `json:"format"`
	Node     string `json:"node"`
	LogID    string `json:"log_id"`
	Run      string `json:"run"`
	FirstSeq uint64 `json:"first_seq"`
	LastSeq  uint64 `json:"last_seq"`
	Records  uint64 `json:"records"`
	Reason   string `json:"reason"`
	At       string `json:"at"` // RFC 3339
	// Checked says that the storage was asked first, and has no whole object with
	// any of these records. An upload may have succeeded without an answer.
	Checked bool `json:"checked"`
}

// lossKey names the object of a loss note, outside of what readers of the data
// match.
func lossKey(n wal.LossNote) string {
	return fmt.Sprintf(ownDir+"/lost/%s-%016x-%020d-%020d-%016x.json", n.Node, n.LogID, n.FirstSeq, n.LastSeq, n.Run)
}

// shipLosses brings the log's loss notes to the storage and removes them here.
func (s *Shipper) shipLosses(ctx context.Context) error {
	for {
		notes, err := s.log.Losses() // some of them
		if err != nil || len(notes) == 0 {
			return err
		}
		for _, n := range notes {
			if err := s.shipLoss(ctx, n); err != nil {
				return err
			}
			if err := s.log.LossStored(n); err != nil {
				return err
			}
		}
	}
}

// shipLoss uploads what a note says, except of records that the storage has.
func (s *Shipper) shipLoss(ctx context.Context, n wal.LossNote) error {
	there, checked, err := s.stored(ctx, n)
	if err != nil {
		return err
	}
	next := n.FirstSeq
	var found uint64
	for _, r := range there {
		if r.first > next {
			if err := s.putLoss(ctx, n, next, r.first-1, checked); err != nil {
				return err
			}
		}
		if r.last >= next {
			found += min(r.last, n.LastSeq) - max(r.first, next) + 1
			next = r.last + 1
		}
	}
	if found > 0 {
		s.opts.Logger.Info("the storage has records that were to be noted as lost: their upload was never confirmed",
			"reason", n.Reason, "first_seq", n.FirstSeq, "last_seq", n.LastSeq, "records", found)
	}
	if next > n.LastSeq {
		return nil
	}
	return s.putLoss(ctx, n, next, n.LastSeq, checked)
}

// stored lists, by seq, the objects that hold records of a note, each read to its
// end. asked is false where the storage does not let us see, or it is not known
// where they would be.
func (s *Shipper) stored(ctx context.Context, n wal.LossNote) (there []name, asked bool, err error) {
	hours := map[int64]bool{}
	for _, h := range n.Hours {
		hours[h-1], hours[h] = true, true // a piece may be of an object of the hour before
	}
	for _, h := range slices.Sorted(maps.Keys(hours)) {
		var found []name
		if err := patiently(ctx, func() (err error) { found, err = s.holders(ctx, n, h); return err }); err != nil {
			return nil, false, unlessRefused(err)
		}
		there = append(there, found...)
	}
	if len(there) > 0 {
		examiner, err := newExaminer()
		if err != nil {
			return nil, false, err
		}
		defer examiner.close()
		whole := there[:0]
		for _, is := range there {
			var c contents
			err := patiently(ctx, func() (err error) { c, err = examiner.object(ctx, s.store, is.key()); return err })
			if err != nil && !errors.Is(err, ErrNotFound) {
				return nil, false, unlessRefused(err)
			}
			if _, wrong := c.wrong(is); err == nil && wrong == "" {
				whole = append(whole, is)
			}
		}
		there = whole
		slices.SortFunc(there, func(a, b name) int { return cmp.Compare(a.first, b.first) })
	}
	return there, len(n.Hours) > 0, nil
}

// holders lists the objects of an hour whose names say that they hold records of a
// note.
func (s *Shipper) holders(ctx context.Context, n wal.LossNote, hour int64) (found []name, err error) {
	for key, err := range s.store.List(ctx, partition(hour)+fmt.Sprintf("%s-%016x-", n.Node, n.LogID)) {
		if err != nil {
			return nil, err
		}
		is, ok := parseKey(key)
		if ok && is.logID == n.LogID && (is.run == n.Run || n.Run == 0) && is.first <= n.LastSeq && is.last >= n.FirstSeq {
			found = append(found, is)
		}
	}
	return found, nil
}

// unlessRefused drops the error of a storage that does not let us look.
func unlessRefused(err error) error {
	var refused *StoreError
	if errors.As(err, &refused) && refused.Permanent {
		return nil
	}
	return err
}

func (s *Shipper) putLoss(ctx context.Context, n wal.LossNote, first, last uint64, checked bool) error {
	n.FirstSeq, n.LastSeq = first, last
	text, err := json.Marshal(lossObject{
		Format: objectFormat, Node: n.Node, LogID: hexID(n.LogID), Run: hexID(n.Run),
		FirstSeq: n.FirstSeq, LastSeq: n.LastSeq, Records: n.LastSeq - n.FirstSeq + 1,
		Reason: n.Reason, At: n.At.UTC().Format(time.RFC3339Nano), Checked: checked,
	})
	if err != nil {
		return err
	}
	text = append(text, '\n')
	sum := sha256.Sum256(text)
	o := bytesObject(lossKey(n), text)
	o.Metadata = Metadata{
		Format: objectFormat, Node: n.Node, LogID: hexID(n.LogID), Run: hexID(n.Run),
		FirstSeq: n.FirstSeq, LastSeq: n.LastSeq, SHA256: hex.EncodeToString(sum[:]), RawBytes: int64(len(text)),
	}
	err = s.store.Put(ctx, o)
	if errors.Is(err, ErrExists) {
		return s.noted(ctx, o) // from before a crash
	}
	return err
}

// noted returns nil if the storage has a note of the same losses under the key:
// that the name is taken does not say what is under it.
func (s *Shipper) noted(ctx context.Context, o *Object) error {
	body, err := s.store.Open(ctx, o.Key)
	if err != nil {
		return s.contradiction(o, err)
	}
	defer body.Close()
	in := &faultKeeper{in: io.LimitReader(body, maxMetadata)}
	var n lossObject
	err = json.NewDecoder(in).Decode(&n)
	switch {
	case in.err != nil:
		return in.err
	case err != nil || n.LogID != o.LogID || n.Run != o.Run || n.FirstSeq != o.FirstSeq || n.LastSeq != o.LastSeq || n.Reason == "":
		return &StoreError{
			Op: "put", Key: o.Key, Kind: "conflict", Permanent: true, OwnTrouble: true, Err: ErrExists,
			Hint: "the storage holds something else under the name of a loss note: look at it, and move it away",
		}
	}
	return nil
}
