package bucket

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"
)

// Heartbeat is the state of a host and one log of its, which it writes from time to
// time. The latest replaces the one before.
type Heartbeat struct {
	Format  int    `json:"format"`
	Node    string `json:"node"`
	LogID   string `json:"log_id"`
	Run     string `json:"run"`
	Version string `json:"version"` // of collectord

	LastSeq uint64 `json:"last_seq"` // of the last acknowledged record; 0: there was none
	// ConfirmedBelow is the seq below which each record was in the storage, or noted
	// there as lost; at least 1.
	ConfirmedBelow uint64 `json:"confirmed_below"`
	Pending        uint64 `json:"pending"` // records that the storage has not confirmed
	// Trouble names what fails, in a few words that others can rely on; empty: nothing.
	Trouble string `json:"trouble"`
	// Vanished counts the segments of this run that the storage had confirmed and lost for
	// good: see shipper.Stats.
	Vanished uint64 `json:"vanished"`
	Retired  bool   `json:"retired"` // all was shipped, to take the host out of service
	// Cloned means that another host writes this log, and this heartbeat, too.
	Cloned bool `json:"cloned"`

	// What differs each time it is looked at.
	OldestUnshipped  int64     `json:"oldest_unshipped_seconds"` // its age; 0: there is none
	SecondsUntilFull *int64    `json:"seconds_until_full"`       // nil: the log does not fill
	FreeBytes        int64     `json:"free_bytes"`               // on the disk of the log
	At               time.Time `json:"at"`
	RunSeconds       int64     `json:"run_seconds"` // how long the run has lasted, whatever clock was set meanwhile

	// Stored is when the storage took it, by the storage's clock; zero: not known.
	Stored time.Time `json:"-"`
}

// Bounds of what is read of a heartbeat.
const (
	maxHeartbeat = 16 << 10
	maxWords     = 500 // bytes of a text in one
)

// Same reports whether nothing has changed but what always does.
func (h Heartbeat) Same(o Heartbeat) bool {
	steady := func(h Heartbeat) Heartbeat {
		h.OldestUnshipped, h.SecondsUntilFull, h.FreeBytes, h.At, h.RunSeconds, h.Stored = 0, nil, 0, time.Time{}, 0, time.Time{}
		return h
	}
	return steady(h) == steady(o)
}

// OldestAt is when the oldest record was received that the storage had not confirmed;
// when the heartbeat was made if that is not known.
func (h *Heartbeat) OldestAt() time.Time {
	return h.At.Add(-time.Duration(min(max(h.OldestUnshipped, 0), maxAge)) * time.Second)
}

// Lasted is how long the run had lasted by then.
func (h *Heartbeat) Lasted() time.Duration {
	return time.Duration(min(max(h.RunSeconds, 0), maxAge)) * time.Second
}

// maxAge bounds what is believed of an age: ten years, in seconds.
const maxAge = 10 * 366 * 24 * 3600

// NewHeartbeat makes the object of a heartbeat of the log that k names.
func NewHeartbeat(k Key, h Heartbeat) (*Object, error) {
	h.Format, h.Node, h.LogID, h.Run, h.At = Format, k.Node, HexID(k.LogID), HexID(k.Run), h.At.UTC().Truncate(time.Second)
	text, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	o := NewObject(k.HeartbeatKey(), append(text, '\n'))
	o.Latest = true
	return o, nil
}

// ReadHeartbeat reads the heartbeat of the log that k names. What is there and is no
// such heartbeat is a *Damage.
func ReadHeartbeat(ctx context.Context, store Store, k Key) (h Heartbeat, err error) {
	body, stored, err := store.Open(ctx, k.HeartbeatKey())
	if err != nil {
		return h, err
	}
	defer body.Close()
	in := &source{in: body, size: stored.Size}
	text, err := io.ReadAll(io.LimitReader(in, maxHeartbeat+1))
	if in.err != nil {
		return h, in.err
	}
	if err == nil {
		err = h.parse(k, text)
	}
	if err != nil {
		return Heartbeat{}, &Damage{Err: err}
	}
	h.Stored = stored.Modified
	return h, nil
}

// parse reads and checks what strangers may have written.
func (h *Heartbeat) parse(k Key, text []byte) error {
	if len(text) > maxHeartbeat {
		return errors.New("it is too long for a heartbeat")
	}
	if json.Unmarshal(text, h) != nil { // its error would repeat what is in there
		return errors.New("not the JSON of a heartbeat")
	}
	h.At = h.At.UTC()
	switch {
	case h.Format != Format:
		return errors.New("a heartbeat of another format: a later version reads it")
	case h.Node != k.Node, h.LogID != HexID(k.LogID):
		return errors.New("not the heartbeat of its name")
	case h.LastSeq > maxSeq, h.ConfirmedBelow < 1, h.ConfirmedBelow > h.LastSeq+1, h.At.Year() < 1970, h.At.Year() > 9999,
		len(h.Run) != len(HexID(0)), len(h.Version) > maxWords, len(h.Trouble) > maxWords:
		return errors.New("a heartbeat that no host writes")
	}
	return nil
}
