package bucket

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"time"
)

// LossNote is a JSON object in the bucket. It names records that are lost and will not be
// stored.
type LossNote struct {
	Format   int    `json:"format"`
	Node     string `json:"node"`
	LogID    string `json:"log_id"`
	Run      string `json:"run"`
	FirstSeq uint64 `json:"first_seq"`
	LastSeq  uint64 `json:"last_seq"`
	Records  uint64 `json:"records"`
	Reason   string `json:"reason"`
	At       string `json:"at"` // RFC 3339
	// Checked means that the storage was searched first and has no whole object with any
	// of these records. An upload may have succeeded without an answer.
	Checked bool `json:"checked"`
}

// Limits of a note that is read, and of its reason, which a reader keeps in memory.
const (
	maxLossNoteBytes = 64 << 10
	maxReasonBytes   = 256
)

// NewLossNote makes the object of a note about the records that k names.
func NewLossNote(k Key, reason string, at time.Time, checked bool) (*Object, error) {
	n := LossNote{
		Format: Format, Node: k.Node, LogID: HexID(k.LogID), Run: HexID(k.Run), FirstSeq: k.FirstSeq, LastSeq: k.LastSeq,
		Records: k.LastSeq - k.FirstSeq + 1, Reason: reason, At: at.UTC().Format(time.RFC3339Nano), Checked: checked,
	}
	text, err := json.Marshal(n)
	if err != nil {
		return nil, err
	}
	text = append(text, '\n')
	sum := sha256.Sum256(text)
	o := NewObject(k.LossKey(), text)
	o.Metadata = Metadata{
		Format: Format, Node: n.Node, LogID: n.LogID, Run: n.Run,
		FirstSeq: n.FirstSeq, LastSeq: n.LastSeq, SHA256: hex.EncodeToString(sum[:]), RawBytes: int64(len(text)),
	}
	return o, nil
}

// ReadLossNote reads the note about the records that k names. Other content under its key
// is a *Damage.
func ReadLossNote(ctx context.Context, store Store, k Key) (n LossNote, err error) {
	body, stored, err := store.Open(ctx, k.LossKey())
	if err != nil {
		return n, err
	}
	defer body.Close()
	n, _, err = DecodeLossNote(&source{in: body, size: stored.Size}, k)
	return n, err
}

// DecodeLossNote decodes the note about the records that k names, and also returns its
// text. Other content is a *Damage.
func DecodeLossNote(in io.Reader, k Key) (n LossNote, text []byte, err error) {
	text, err = io.ReadAll(io.LimitReader(in, maxLossNoteBytes+1))
	if err != nil {
		return n, nil, err
	}
	err = json.Unmarshal(text, &n)
	switch {
	case len(text) > maxLossNoteBytes:
		err = errors.New("longer than any loss note")
	case err == nil && (n.LogID != HexID(k.LogID) || n.Run != HexID(k.Run) || n.FirstSeq != k.FirstSeq || n.LastSeq != k.LastSeq || n.Reason == "" || len(n.Reason) > maxReasonBytes):
		err = errors.New("its log id, run or range differs from its name, or its reason is empty or too long")
	}
	if err != nil {
		return n, nil, &Damage{Err: err}
	}
	return n, text, nil
}
