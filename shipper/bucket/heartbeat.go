package bucket

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Heartbeat is the state of a host and one of its logs, which the host writes regularly.
// Each heartbeat replaces the one before.
type Heartbeat struct {
	Format  int    `json:"format"`
	Node    string `json:"node"`
	LogID   string `json:"log_id"`
	Run     string `json:"run"`
	Version string `json:"version"` // of collectord

	LastSeq uint64 `json:"last_seq"` // of the last acknowledged record; 0: none
	// ConfirmedBelow is a seq, at least 1. Each record with a lower seq was in the
	// storage, or noted there as lost.
	ConfirmedBelow uint64 `json:"confirmed_below"`
	Pending        uint64 `json:"pending"` // records that the storage has not confirmed
	// Trouble lists what fails, by names that are stable; empty: nothing.
	Trouble []Trouble `json:"trouble"`
	// Vanished counts the segments of this run that the storage confirmed and lost
	// permanently: see shipper.Stats.
	Vanished uint64 `json:"vanished"`
	Retired  bool   `json:"retired"` // everything is shipped, and the host is taken out of service
	// Cloned means that another host also writes this log and this heartbeat.
	Cloned bool `json:"cloned"`

	// Most of the fields below differ in each heartbeat: see SameState.

	// NextSeconds is the time until the next heartbeat if all is well; 0: not known, or
	// there is none.
	NextSeconds int64 `json:"next_seconds"`
	// DayUsages were acknowledged in the last DaySeconds: about a day, or the time since
	// the run began.
	DayUsages        uint64    `json:"day_usages"`
	DaySeconds       int64     `json:"day_seconds"`
	ClientsKnown     int       `json:"clients_known"`
	Clients          []Client  `json:"clients,omitempty"`        // as many of them as fit
	OldestUnshipped  int64     `json:"oldest_unshipped_seconds"` // age of the oldest record that is not shipped; 0: none
	SecondsUntilFull *int64    `json:"seconds_until_full"`       // nil: the log does not fill
	FreeBytes        int64     `json:"free_bytes"`               // on the disk of the log
	At               time.Time `json:"at"`
	RunSeconds       int64     `json:"run_seconds"` // duration of the run by the monotonic clock

	// Stored is when the storage accepted the heartbeat, by the storage's clock; zero:
	// not known.
	Stored time.Time `json:"-"`
}

// Trouble is a failure on a host.
type Trouble struct {
	Name    string     `json:"name"`
	Since   *time.Time `json:"since"` // by the host's clock; nil: not known
	Message string     `json:"message"`
}

// Client is a named client of a host.
type Client struct {
	Name     string     `json:"name"`
	LastSeen *time.Time `json:"last_seen"` // when its input was last accepted; nil: never in this run
	Usages   uint64     `json:"usages"`    // stored, in this run
}

// Limits of a heartbeat.
const (
	maxHeartbeatBytes = 128 << 10
	maxClientsBytes   = 64 << 10 // bytes of all listed clients
	maxTextBytes      = 200      // bytes of a text
	maxNameBytes      = 63       // bytes of the name of a client or a trouble
	maxTroubles       = 10
)

// SameState reports whether two heartbeats differ only in values that always change.
func (h Heartbeat) SameState(o Heartbeat) bool {
	withoutVolatile := func(h Heartbeat) Heartbeat {
		h.OldestUnshipped, h.SecondsUntilFull, h.FreeBytes, h.At, h.RunSeconds, h.Stored = 0, nil, 0, time.Time{}, 0, time.Time{}
		h.NextSeconds, h.DayUsages, h.DaySeconds = 0, 0, 0
		names := make([]Client, len(h.Clients)) // without the order, which depends on when clients were seen
		for i, c := range h.Clients {
			names[i].Name = c.Name
		}
		slices.SortFunc(names, func(a, b Client) int { return strings.Compare(a.Name, b.Name) })
		h.Clients = names
		return h
	}
	return reflect.DeepEqual(withoutVolatile(h), withoutVolatile(o))
}

// OldestAt returns when the oldest unconfirmed record was received, or At if that is not
// known.
func (h *Heartbeat) OldestAt() time.Time {
	return h.At.Add(-boundedAge(h.OldestUnshipped))
}

// RunDuration returns how long the run had lasted when the heartbeat was made, at most MaxAge.
func (h *Heartbeat) RunDuration() time.Duration {
	return boundedAge(h.RunSeconds)
}

// boundedAge converts seconds to a duration from 0 to MaxAge.
func boundedAge(seconds int64) time.Duration {
	return time.Duration(min(max(seconds, 0), int64(MaxAge/time.Second))) * time.Second
}

// Interval returns the time until the next heartbeat: DefaultInterval if that is not known, and at
// most MaxInterval, since a heartbeat may be forged.
func (h *Heartbeat) Interval() time.Duration {
	if h.NextSeconds <= 0 {
		return DefaultInterval
	}
	return time.Duration(min(h.NextSeconds, int64(MaxInterval/time.Second))) * time.Second
}

// Default and limit of Heartbeat.Interval.
const (
	DefaultInterval = time.Hour
	MaxInterval     = 25 * time.Hour
)

// MaxAge limits the ages in a heartbeat that are believed: ten years.
const MaxAge = 10 * 366 * 24 * time.Hour

// NewHeartbeat makes the object of a heartbeat of the log that k names. It contains as
// many clients and troubles as fit, and truncates long texts.
func NewHeartbeat(k Key, h Heartbeat) (*Object, error) {
	h.Format, h.Node, h.LogID, h.Run, h.At = Format, k.Node, HexID(k.LogID), HexID(k.Run), h.At.UTC().Truncate(time.Second)
	h.Clients = clientsThatFit(h.Clients)
	h.Trouble = append([]Trouble{}, h.Trouble[:min(len(h.Trouble), maxTroubles)]...)
	for i := range h.Trouble {
		t := &h.Trouble[i]
		t.Name, t.Message = truncate(t.Name, maxNameBytes), truncate(t.Message, maxTextBytes)
	}
	text, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	o := NewObject(k.HeartbeatKey(), append(text, '\n'))
	o.Latest = true
	return o, nil
}

// clientsThatFit returns the first clients that fit into maxClientsBytes bytes.
func clientsThatFit(all []Client) []Client {
	size := 0
	for i := range all {
		text, _ := json.Marshal(all[i]) // marshalling a Client can't fail
		if size += len(text) + len(","); size > maxClientsBytes {
			return all[:i]
		}
	}
	return all
}

// truncate truncates a text to at most maxBytes and splits no character.
func truncate(text string, maxBytes int) string {
	if len(text) <= maxBytes {
		return text
	}
	return strings.ToValidUTF8(text[:maxBytes-len("…")], "") + "…"
}

// ReadHeartbeat reads the heartbeat of the log that k names. Other content under its key
// is a *Damage.
func ReadHeartbeat(ctx context.Context, store Store, k Key) (h Heartbeat, err error) {
	body, stored, err := store.Open(ctx, k.HeartbeatKey())
	if err != nil {
		return h, err
	}
	defer body.Close()
	in := &source{in: body, size: stored.Size}
	text, err := io.ReadAll(io.LimitReader(in, maxHeartbeatBytes+1))
	if in.storageErr != nil {
		return h, in.storageErr
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

// parse decodes and validates a heartbeat, which may be forged.
func (h *Heartbeat) parse(k Key, text []byte) error {
	if len(text) > maxHeartbeatBytes {
		return errors.New("it is too long for a heartbeat")
	}
	if json.Unmarshal(text, h) != nil { // the error of Unmarshal would repeat a part of the content
		return errors.New("not the JSON of a heartbeat")
	}
	h.At = h.At.UTC()
	switch {
	case h.Format != Format:
		return errors.New("a heartbeat of another format: only a later version of collectord can read it")
	case h.Node != k.Node, h.LogID != HexID(k.LogID):
		return errors.New("its node or log id differs from its name")
	case h.LastSeq > maxSeq, h.ConfirmedBelow < 1, h.ConfirmedBelow > h.LastSeq+1, h.At.Year() < 1970, h.At.Year() > 9999,
		len(h.Run) != len(HexID(0)), len(h.Version) > maxTextBytes, len(h.Trouble) > maxTroubles, h.ClientsKnown < len(h.Clients), h.DaySeconds < 0,
		slices.ContainsFunc(h.Trouble, func(t Trouble) bool { return len(t.Name) > maxNameBytes || len(t.Message) > maxTextBytes }),
		slices.ContainsFunc(h.Clients, func(c Client) bool { return len(c.Name) > maxNameBytes }):
		return errors.New("a heartbeat with a value that no host writes")
	}
	return nil
}
