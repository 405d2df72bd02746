package admin

import (
	"net"
	"net/http"
	"slices"
	"sync"
)

// DefaultMaxConnections is the default limit of open connections. A new connection
// beyond the limit replaces the one that has been without a request for the longest. If
// all have a request, it replaces the one with the longest-running request. Idle,
// silent and slow clients therefore can't block a scraper.
const DefaultMaxConnections = 64

// connections tracks the open connections of the server, and enforces their limit.
type connections struct {
	limit int
	mu    sync.Mutex
	open  []*connection // sorted by the time of the last change of state, the latest last
}

type connection struct {
	net.Conn
	busy bool // it has a request
}

// track is the ConnState hook of the server.
func (c *connections) track(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, o := range c.open {
		if o.Conn == conn {
			c.open = append(c.open[:i], c.open[i+1:]...)
			break
		}
	}
	if state == http.StateClosed || state == http.StateHijacked {
		return
	}
	if state == http.StateNew && len(c.open) >= c.limit {
		c.closeOneLocked()
	}
	c.open = append(c.open, &connection{conn, state == http.StateActive})
}

// closeOneLocked closes the least needed connection. The server's later call of track
// ignores it.
func (c *connections) closeOneLocked() {
	victim := max(0, slices.IndexFunc(c.open, func(o *connection) bool { return !o.busy }))
	_ = c.open[victim].Close()
	c.open = slices.Delete(c.open, victim, victim+1)
}
