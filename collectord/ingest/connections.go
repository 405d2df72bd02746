package ingest

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// limitedListener turns connections away once too many are open. It tells them
// so: a client that is merely cut off would not know to go elsewhere.
type limitedListener struct {
	net.Listener
	door *HTTP
}

func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.door.open.Add(1) <= int64(l.door.opts.MaxConnections) {
			return &countedConn{Conn: c, door: l.door}, nil
		}
		l.door.open.Add(-1)
		l.door.statuses[http.StatusServiceUnavailable].Add(1)
		turnAway(c)
	}
}

// turnAway answers without reading and without waiting for the client.
func turnAway(c net.Conn) {
	p := unavailable(CodeOverloaded, "too many connections are open (http.max_connections)")
	body := p.body()
	_ = c.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
	fmt.Fprintf(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: %s\r\nRetry-After: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		problemType, p.header[1], len(body), body)
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
	_ = c.Close()
}

// countedConn counts itself out when it is closed.
type countedConn struct {
	net.Conn
	door   *HTTP
	closed sync.Once
}

func (c *countedConn) Close() error {
	c.closed.Do(func() { c.door.open.Add(-1) })
	return c.Conn.Close()
}

// Close may follow another: the daemon stops listening before it shuts down.
func (l *limitedListener) Close() error {
	if err := l.Listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
