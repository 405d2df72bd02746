package httpserver

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// pipeListener is a listener of unbuffered connections.
type pipeListener struct {
	net.Listener
	accepted chan net.Conn
}

func (p pipeListener) Accept() (net.Conn, error) {
	if c, ok := <-p.accepted; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (p pipeListener) Close() error   { close(p.accepted); return nil }
func (p pipeListener) Addr() net.Addr { return &net.UnixAddr{} }

// A response that was formatted before the shutdown began, and is read during it, does not
// delay the shutdown.
func TestShutdownDoesNotWaitForConnectionsThatBecomeIdle(t *testing.T) {
	t.Parallel()
	h := newServer(t, newMemoryLog(), Options{})
	ln := pipeListener{accepted: make(chan net.Conn, 1)}
	go func() { _ = h.Serve(ln) }()
	client, server := net.Pipe()
	defer client.Close()
	ln.accepted <- server
	_ = client.SetDeadline(time.Now().Add(testTimeout))
	if _, err := io.WriteString(client, post(`{"a":1}`)); err != nil {
		t.Fatal(err)
	}
	first := make([]byte, 1) // of the response, which is formatted by then
	if _, err := io.ReadFull(client, first); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	over := make(chan error, 1)
	go func() { over <- h.Shutdown(ctx) }()
	waitFor(t, func() bool {
		h.conns.mu.Lock()
		defer h.conns.mu.Unlock()
		return h.conns.drained != nil
	})
	resp, err := http.ReadResponse(bufio.NewReader(io.MultiReader(bytes.NewReader(first), client)), nil)
	if err != nil || resp.StatusCode != http.StatusCreated || resp.Close {
		t.Error(resp, err)
	}
	if err := <-over; err != nil {
		t.Error(err)
	}
}

// A request that has arrived before the shutdown begins is answered.
func TestShutdownAnswersArrivedRequests(t *testing.T) {
	t.Parallel()
	for range 50 {
		h, addr := startServer(t, newMemoryLog(), Options{})
		v := dialRaw(t, addr)
		v.send(post(`{"a":1}`))
		if status, _ := v.readResponse(); status != http.StatusCreated {
			t.Fatal(status)
		}
		v.send(post(`{"a":2}`))
		ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
		if err := h.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		if status, text := v.readResponse(); status != http.StatusCreated {
			t.Fatal(status, text)
		}
	}
}
