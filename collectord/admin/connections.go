package admin

import (
	"net"
	"net/http"
	"slices"
	"sync"
)

// DefaultMaxConnections is how many are open at a time, by default. One more takes
// the place of the one that has been without a request for the longest, or, where all
// have one, of the one whose request has taken longest: neither forgotten nor silent
// nor slow clients keep a scraper out.
const DefaultMaxConnections = 64

// connections are the server's open ones.
type connections struct {
	most int
	mu   sync.Mutex
	open []*connection // the one whose state changed last at the end
}

type connection struct {
	net.Conn
	busy bool // with a request
}

// changed is the server's ConnState hook.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
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
	if state == http.StateNew && len(c.open) >= c.most {
		c.makeRoomLocked()
	}
	c.open = append(c.open, &connection{conn, state == http.StateActive})
}

// makeRoomLocked closes the connection that is needed least. The server will tell that
// it is closed.
func (c *connections) makeRoomLocked() {
	least := max(0, slices.IndexFunc(c.open, func(o *connection) bool { return !o.busy }))
	_ = c.open[least].Close()
	c.open = slices.Delete(c.open, least, least+1)
}
