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

// answerWait is how long a failed write waits for an answer.
const answerWait = time.Second

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// withEarlyAnswers makes connections whose answers are read before a write fails.
func withEarlyAnswers(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &answeredConn{Conn: c, ended: make(chan struct{})}, nil
	}
}

// answeredConn delays the error of a write until everything that arrived is read.
type answeredConn struct {
	net.Conn
	once  sync.Once
	ended chan struct{} // closed when nothing more can be read
}

func (c *answeredConn) end() { c.once.Do(func() { close(c.ended) }) }

func (c *answeredConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.end()
	}
	return n, err
}

func (c *answeredConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		wait := time.NewTimer(answerWait)
		defer wait.Stop()
		select {
		case <-c.ended:
		case <-wait.C:
		}
	}
	return n, err
}

func (c *answeredConn) Close() error {
	c.end()
	return c.Conn.Close()
}

// NetConn returns the connection below, for watch.setConn.
func (c *answeredConn) NetConn() net.Conn { return c.Conn }
