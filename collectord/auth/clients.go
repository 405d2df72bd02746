package auth

import (
	"cmp"
	"container/list"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of Clients.
const (
	// MaxCertificates limits how many names of certificates are tracked at a time. The
	// number of tokens is limited by their file.
	MaxCertificates = 10_000
	// MaxOwnSeries limits how many clients have a series of their own in the metrics.
	MaxOwnSeries = 1_000
)

// Clients counts the accepted usages of each named client. A client with a token is
// tracked from the start, and a client with a certificate from its first accepted
// request. The zero value tracks no client.
//
// Counting for a client with a token takes no lock, and at most two atomic writes.
type Clients struct {
	tokens atomic.Pointer[map[string]*client] // the map is replaced as a whole, never modified

	mu           sync.Mutex               // guards the fields below, and changes of the set of tokens
	certificates map[string]*list.Element // of *client
	byRecency    list.List                // most recently seen first
	ownSeries    int                      // number of clients with a series of their own
	restUsages   uint64                   // usages of removed clients that had no series of their own
	evicted      uint64
}

// client is the counts of one client.
type client struct {
	name           string
	ownSeries      bool          // has a series of its own, as long as it is tracked
	usages         atomic.Uint64 // stored
	lastSeenSecond atomic.Int64  // Unix time of the last accepted request; 0 means never
}

// Client is a copy of the counts of one client since the start.
type Client struct {
	Name      string
	LastSeen  time.Time // time of the last accepted request, in whole seconds; zero means never
	Usages    uint64    // stored usages; a repeated request adds none
	OwnSeries bool      // the client has a series of its own in the metrics
}

// ClientCounts is a copy of all counts. The caller owns its slice.
type ClientCounts struct {
	Clients []Client // in no order
	Rest    uint64   // usages of clients without a series of their own, including removed clients
	Evicted uint64   // names of certificates that were removed to make room for others
}

// SortByLastSeen sorts the clients by the time they were last seen, the longest ago
// first. Clients that were never seen come last, sorted by name.
func (c *ClientCounts) SortByLastSeen() {
	slices.SortFunc(c.Clients, func(a, b Client) int {
		if a.LastSeen.IsZero() != b.LastSeen.IsZero() {
			return -a.LastSeen.Compare(b.LastSeen)
		}
		return cmp.Or(a.LastSeen.Compare(b.LastSeen), strings.Compare(a.Name, b.Name))
	})
}

// Accepted counts n stored usages of a client and sets the time it was last seen. For a
// repeated request n is 0. An empty name is ignored.
func (c *Clients) Accepted(name string, n int, now time.Time) {
	if name == "" {
		return
	}
	if tokens := c.tokens.Load(); tokens != nil {
		if known := (*tokens)[name]; known != nil {
			known.accepted(n, now)
			return
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.certificateClientLocked(name).accepted(n, now)
}

func (c *client) accepted(n int, now time.Time) {
	if second := now.Unix(); c.lastSeenSecond.Load() != second { // skip the write if nothing changes, because Counts reads it concurrently
		c.lastSeenSecond.Store(second)
	}
	c.usages.Add(uint64(n))
}

// certificateClientLocked returns the client of a certificate, and marks it as most recently
// seen. It adds an unknown client, and removes the least recently seen one if there are
// MaxCertificates.
func (c *Clients) certificateClientLocked(name string) *client {
	if e := c.certificates[name]; e != nil {
		c.byRecency.MoveToFront(e)
		return e.Value.(*client) //nolint:forcetypeassert // the list contains only *client
	}
	if c.certificates == nil {
		c.certificates = map[string]*list.Element{}
	}
	if len(c.certificates) == MaxCertificates {
		c.evicted++
		c.retireLocked(c.removeLocked(c.byRecency.Back()))
	}
	added := &client{name: name}
	c.assignSeriesLocked(added)
	c.certificates[name] = c.byRecency.PushFront(added)
	return added
}

// removeLocked removes a client from the clients with certificates.
func (c *Clients) removeLocked(e *list.Element) *client {
	removed := c.byRecency.Remove(e).(*client) //nolint:forcetypeassert // the list contains only *client
	delete(c.certificates, removed.name)
	return removed
}

func (c *Clients) assignSeriesLocked(added *client) {
	if added.ownSeries = c.ownSeries < MaxOwnSeries; added.ownSeries {
		c.ownSeries++
	}
}

// retireLocked updates the totals for a removed client. Its usages stay in restUsages,
// because a counter must never decrease.
func (c *Clients) retireLocked(removed *client) {
	if removed.ownSeries {
		c.ownSeries--
	} else {
		c.restUsages += removed.usages.Load()
	}
}

// SetTokens replaces the set of clients with tokens; t may be nil. A client whose name
// stays keeps its counts.
func (c *Clients) SetTokens(t *Tokens) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := map[string]*client{}
	if known := c.tokens.Load(); known != nil {
		before = *known
	}
	names := t.names()
	next := make(map[string]*client, len(names))
	for _, name := range names {
		next[name] = before[name]
	}
	for name, removed := range before {
		if _, stays := next[name]; !stays {
			c.retireLocked(removed)
		}
	}
	for _, name := range names {
		switch e := c.certificates[name]; {
		case next[name] != nil:
		case e != nil: // the client had only a certificate so far
			next[name] = c.removeLocked(e)
		default:
			added := &client{name: name}
			c.assignSeriesLocked(added)
			next[name] = added
		}
	}
	c.tokens.Store(&next)
}

// Counts returns a copy of the counts of all clients.
func (c *Clients) Counts() (all ClientCounts) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all.Rest, all.Evicted = c.restUsages, c.evicted
	add := func(known *client) {
		one := Client{Name: known.name, Usages: known.usages.Load(), OwnSeries: known.ownSeries}
		if seconds := known.lastSeenSecond.Load(); seconds != 0 {
			one.LastSeen = time.Unix(seconds, 0).UTC()
		}
		if !one.OwnSeries {
			all.Rest += one.Usages
		}
		all.Clients = append(all.Clients, one)
	}
	if tokens := c.tokens.Load(); tokens != nil {
		for _, known := range *tokens {
			add(known)
		}
	}
	for e := c.byRecency.Front(); e != nil; e = e.Next() {
		add(e.Value.(*client)) //nolint:forcetypeassert // the list contains only *client
	}
	return all
}
