package shipper

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
}

// lossKey names the object of a loss note, outside of what readers of the data
// match.
func lossKey(n wal.LossNote) string {
	return fmt.Sprintf(ownDir+"/lost/%s-%016x-%020d-%020d-%016x.json", n.Node, n.LogID, n.FirstSeq, n.LastSeq, n.Run)
}

// shipLosses brings the log's loss notes to the storage and removes them here.
func (s *Shipper) shipLosses(ctx context.Context) error {
	notes, err := s.log.Losses()
	if err != nil {
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
	return nil
}

func (s *Shipper) shipLoss(ctx context.Context, n wal.LossNote) error {
	text, err := json.Marshal(lossObject{
		Format: objectFormat, Node: n.Node, LogID: hexID(n.LogID), Run: hexID(n.Run),
		FirstSeq: n.FirstSeq, LastSeq: n.LastSeq, Records: n.LastSeq - n.FirstSeq + 1,
		Reason: n.Reason, At: n.At.UTC().Format(time.RFC3339Nano),
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
