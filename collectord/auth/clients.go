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
	// MaxCertificates is how many names of certificates are known at a time. Tokens are
	// as many as their file holds.
	MaxCertificates = 10_000
	// MaxOwnSeries is how many clients are told apart in metrics.
	MaxOwnSeries = 1_000
)

// Clients counts what was accepted of each client that has a name: those of tokens, which
// are known from the start, and those of certificates, from their first usage on. The
// zero value knows no client.
//
// What a client sends costs two atomic operations and no lock, if it shows a token.
type Clients struct {
	tokens atomic.Pointer[map[string]*client] // replaced as a whole

	mu           sync.Mutex               // guards what follows, and who is in tokens
	certificates map[string]*list.Element // of *client
	order        list.List                // the one seen last first
	own          int                      // clients with a series of their own
	rest         uint64                   // usages of clients that are gone and had none
	evicted      uint64
}

// client is what is counted of one.
type client struct {
	name    string
	own     bool          // has a series of its own, for as long as it is known
	usages  atomic.Uint64 // stored
	seconds atomic.Int64  // since 1970, when something was accepted last; 0: never
}

// Client is what was accepted of a client since the start.
type Client struct {
	Name      string
	LastSeen  time.Time // when something was accepted last, to the second; zero: never
	Usages    uint64    // that were stored; those of repeated requests are not counted again
	OwnSeries bool      // it is one of those told apart in metrics
}

// ClientCounts is all that is known of clients. Its slice is the caller's.
type ClientCounts struct {
	Clients []Client // in no order
	Rest    uint64   // usages of those without a series of their own, also of those that are gone
	Evicted uint64   // names of certificates that made room for others
}

// SilentLongestFirst sorts the clients: those that were never seen, by name, come last.
func (c *ClientCounts) SilentLongestFirst() {
	slices.SortFunc(c.Clients, func(a, b Client) int {
		if a.LastSeen.IsZero() != b.LastSeen.IsZero() {
			return -a.LastSeen.Compare(b.LastSeen)
		}
		return cmp.Or(a.LastSeen.Compare(b.LastSeen), strings.Compare(a.Name, b.Name))
	})
}

// Accepted notes that n usages of a client were stored. It was seen even if n is 0: its
// request was a repeated one.
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
	c.certificateLocked(name).accepted(n, now)
}

func (c *client) accepted(n int, now time.Time) {
	if second := now.Unix(); c.seconds.Load() != second { // others read it meanwhile
		c.seconds.Store(second)
	}
	c.usages.Add(uint64(n))
}

// certificateLocked returns the client of a certificate, which is now the one seen last.
func (c *Clients) certificateLocked(name string) *client {
	if e := c.certificates[name]; e != nil {
		c.order.MoveToFront(e)
		return e.Value.(*client) //nolint:forcetypeassert // the list holds nothing else
	}
	if c.certificates == nil {
		c.certificates = map[string]*list.Element{}
	}
	if len(c.certificates) == MaxCertificates {
		c.evicted++
		c.forgetLocked(c.takeLocked(c.order.Back()))
	}
	added := &client{name: name}
	c.giveSeriesLocked(added)
	c.certificates[name] = c.order.PushFront(added)
	return added
}

// takeLocked takes a client out of those of certificates.
func (c *Clients) takeLocked(e *list.Element) *client {
	taken := c.order.Remove(e).(*client) //nolint:forcetypeassert // the list holds nothing else
	delete(c.certificates, taken.name)
	return taken
}

func (c *Clients) giveSeriesLocked(added *client) {
	if added.own = c.own < MaxOwnSeries; added.own {
		c.own++
	}
}

// forgetLocked keeps the sum of the rest from falling.
func (c *Clients) forgetLocked(gone *client) {
	if gone.own {
		c.own--
	} else {
		c.rest += gone.usages.Load()
	}
}

// SetTokens replaces the clients that have tokens; t can be nil. Those whose name was
// there before keep what was counted.
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
	for name, gone := range before {
		if _, stays := next[name]; !stays {
			c.forgetLocked(gone)
		}
	}
	for _, name := range names {
		switch e := c.certificates[name]; {
		case next[name] != nil:
		case e != nil: // it had a certificate only
			next[name] = c.takeLocked(e)
		default:
			added := &client{name: name}
			c.giveSeriesLocked(added)
			next[name] = added
		}
	}
	c.tokens.Store(&next)
}

// Counts returns what was accepted of each client.
func (c *Clients) Counts() (all ClientCounts) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all.Rest, all.Evicted = c.rest, c.evicted
	add := func(known *client) {
		one := Client{Name: known.name, Usages: known.usages.Load(), OwnSeries: known.own}
		if seconds := known.seconds.Load(); seconds != 0 {
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
	for e := c.order.Front(); e != nil; e = e.Next() {
		add(e.Value.(*client)) //nolint:forcetypeassert // the list holds nothing else
	}
	return all
}
