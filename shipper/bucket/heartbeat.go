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
	// Trouble is what fails, by names that others can rely on; empty: nothing.
	Trouble []Trouble `json:"trouble"`
	// Vanished counts the segments of this run that the storage had confirmed and lost for
	// good: see shipper.Stats.
	Vanished uint64 `json:"vanished"`
	Retired  bool   `json:"retired"` // all was shipped, to take the host out of service
	// Cloned means that another host writes this log, and this heartbeat, too.
	Cloned bool `json:"cloned"`

	// What differs each time it is looked at.

	// NextSeconds is within how many seconds the next heartbeat is written, if all is well;
	// 0: not known, or there is none.
	NextSeconds int64 `json:"next_seconds"`
	// DayUsages were acknowledged in the last DaySeconds: a day, or as long as the run lasts.
	DayUsages        uint64    `json:"day_usages"`
	DaySeconds       int64     `json:"day_seconds"`
	ClientsKnown     int       `json:"clients_known"`
	Clients          []Client  `json:"clients,omitempty"`        // of them, the first for which there is room
	OldestUnshipped  int64     `json:"oldest_unshipped_seconds"` // its age; 0: there is none
	SecondsUntilFull *int64    `json:"seconds_until_full"`       // nil: the log does not fill
	FreeBytes        int64     `json:"free_bytes"`               // on the disk of the log
	At               time.Time `json:"at"`
	RunSeconds       int64     `json:"run_seconds"` // how long the run has lasted, whatever clock was set meanwhile

	// Stored is when the storage took it, by the storage's clock; zero: not known.
	Stored time.Time `json:"-"`
}

// Trouble is something that fails on a host.
type Trouble struct {
	Name    string     `json:"name"`
	Since   *time.Time `json:"since"` // by the host's clock; nil: not known
	Message string     `json:"message"`
}

// Client is a client of a host that has a name.
type Client struct {
	Name     string     `json:"name"`
	LastSeen *time.Time `json:"last_seen"` // when something of it was accepted last; nil: never in this run
	Usages   uint64     `json:"usages"`    // stored, in this run
}

// Bounds of a heartbeat.
const (
	maxHeartbeat = 128 << 10
	maxClients   = 64 << 10 // bytes of all clients that are listed
	maxWords     = 200      // bytes of a text
	maxName      = 63       // bytes of the name of a client, or of a trouble
	maxTroubles  = 10
)

// Same reports whether nothing has changed but what always does.
func (h Heartbeat) Same(o Heartbeat) bool {
	steady := func(h Heartbeat) Heartbeat {
		h.OldestUnshipped, h.SecondsUntilFull, h.FreeBytes, h.At, h.RunSeconds, h.Stored = 0, nil, 0, time.Time{}, 0, time.Time{}
		h.NextSeconds, h.DayUsages, h.DaySeconds = 0, 0, 0
		names := make([]Client, len(h.Clients)) // whose order tells who was seen
		for i, c := range h.Clients {
			names[i].Name = c.Name
		}
		slices.SortFunc(names, func(a, b Client) int { return strings.Compare(a.Name, b.Name) })
		h.Clients = names
		return h
	}
	return reflect.DeepEqual(steady(h), steady(o))
}

// OldestAt is when the oldest record was received that the storage had not confirmed;
// when the heartbeat was made if that is not known.
func (h *Heartbeat) OldestAt() time.Time {
	return h.At.Add(-age(h.OldestUnshipped))
}

// Lasted is how long the run had lasted by then.
func (h *Heartbeat) Lasted() time.Duration {
	return age(h.RunSeconds)
}

// age is a time in seconds, as far as it is believed.
func age(seconds int64) time.Duration {
	return time.Duration(min(max(seconds, 0), int64(MaxAge/time.Second))) * time.Second
}

// Due is within how much time the next heartbeat is written. What strangers wrote is
// believed up to MaxDue.
func (h *Heartbeat) Due() time.Duration {
	if h.NextSeconds <= 0 {
		return DefaultDue
	}
	return time.Duration(min(h.NextSeconds, int64(MaxDue/time.Second))) * time.Second
}

// Bounds of Heartbeat.Due.
const (
	DefaultDue = time.Hour
	MaxDue     = 25 * time.Hour
)

// MaxAge bounds what is believed of an age: ten years.
const MaxAge = 10 * 366 * 24 * time.Hour

// NewHeartbeat makes the object of a heartbeat of the log that k names. It lists
// the first clients, as many as fit, and the first troubles; words are cut.
func NewHeartbeat(k Key, h Heartbeat) (*Object, error) {
	h.Format, h.Node, h.LogID, h.Run, h.At = Format, k.Node, HexID(k.LogID), HexID(k.Run), h.At.UTC().Truncate(time.Second)
	h.Clients = fitting(h.Clients)
	h.Trouble = append([]Trouble{}, h.Trouble[:min(len(h.Trouble), maxTroubles)]...)
	for i := range h.Trouble {
		t := &h.Trouble[i]
		t.Name, t.Message = cutOff(t.Name, maxName), cutOff(t.Message, maxWords)
	}
	text, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	o := NewObject(k.HeartbeatKey(), append(text, '\n'))
	o.Latest = true
	return o, nil
}

// fitting returns the clients that are listed.
func fitting(all []Client) []Client {
	size := 0
	for i := range all {
		text, _ := json.Marshal(all[i]) // it can't fail
		if size += len(text) + len(","); size > maxClients {
			return all[:i]
		}
	}
	return all
}

// cutOff returns at most so many bytes of a text, in which every character is whole.
func cutOff(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most-len("…")], "") + "…"
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
		len(h.Run) != len(HexID(0)), len(h.Version) > maxWords, len(h.Trouble) > maxTroubles, h.ClientsKnown < len(h.Clients), h.DaySeconds < 0,
		slices.ContainsFunc(h.Trouble, func(t Trouble) bool { return len(t.Name) > maxName || len(t.Message) > maxWords }),
		slices.ContainsFunc(h.Clients, func(c Client) bool { return len(c.Name) > maxName }):
		return errors.New("a heartbeat that no host writes")
	}
	return nil
}
