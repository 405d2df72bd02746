package bucket

import (
	"context"
	"net"
	"sync"
	"time"
)

// An early answer arrives while the body is still being sent, such as a proxy's 413. The
// proxy then closes the connection, and net/http returns the error of the write although
// the answer can be read.

// responseWait is how long a failed write waits for an answer.
const responseWait = time.Second

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// withEarlyResponses makes connections whose answers are read before a write fails.
func withEarlyResponses(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &earlyResponseConn{Conn: c, ended: make(chan struct{})}, nil
	}
}

// earlyResponseConn delays the error of a write until everything that arrived is read.
type earlyResponseConn struct {
	net.Conn
	once  sync.Once
	ended chan struct{} // closed when nothing more can be read
}

func (c *earlyResponseConn) end() { c.once.Do(func() { close(c.ended) }) }

func (c *earlyResponseConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.end()
	}
	return n, err
}

func (c *earlyResponseConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		wait := time.NewTimer(responseWait)
		defer wait.Stop()
		select {
		case <-c.ended:
		case <-wait.C:
		}
	}
	return n, err
}

func (c *earlyResponseConn) Close() error {
	c.end()
	return c.Conn.Close()
}

// NetConn returns the connection below, for watch.setConn.
func (c *earlyResponseConn) NetConn() net.Conn { return c.Conn }
