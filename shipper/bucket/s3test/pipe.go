package s3test

import (
	"context"
	"net"
	"sync"
)

// Pipe is a server in its own network without sockets, so that a test can use it in a
// bubble of testing/synctest.
type Pipe struct {
	*Server
	listener pipeListener
}

// NewPipe starts a server that is reachable only through Dial.
func NewPipe() *Pipe {
	p := &Pipe{newServer("http://storage"), pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}}
	go func() { _ = p.server.Serve(&p.listener) }()
	return p
}

// Dial connects to the server, for any address.
func (p *Pipe) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.listener.conns <- server:
		return client, nil
	case <-p.listener.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// pipeListener is the net.Listener of a Pipe.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "storage", Net: "pipe"} }
