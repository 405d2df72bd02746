package httpserver

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// listeners are those of a server, of which there will be no more once they are closed.
type listeners struct {
	mu     sync.Mutex // guards what follows
	all    []*listener
	closed bool
}

// listener is one of them.
type listener struct {
	net.Listener
	closed atomic.Bool
}

// add takes in ln, which it closes if it comes too late.
func (l *listeners) add(ln net.Listener) *listener {
	l.mu.Lock()
	defer l.mu.Unlock()
	added := &listener{Listener: ln}
	if l.closed {
		added.close()
	}
	l.all = append(l.all, added)
	return added
}

func (l *listeners) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, ln := range l.all {
		ln.close()
	}
}

func (l *listener) close() {
	l.closed.Store(true)
	_ = l.Listener.Close()
}

// Serve takes ln over and answers on it until StopListening or Shutdown.
func (h *Server) Serve(ln net.Listener) error {
	prepare(ln)
	addr := ln.Addr()
	ln, err := takeOver(ln)
	if err == nil {
		err = h.accept(h.listeners.add(ln))
	}
	if err != nil {
		return fmt.Errorf("http listener %s: %w", addr, err)
	}
	return nil
}

// accept serves each connection in a goroutine of its own. Those that there is no room
// for are told so: a client that is merely cut off would not know to go elsewhere.
func (h *Server) accept(ln *listener) error {
	failing := false
	for {
		if !h.open.awaitDescriptor(&ln.closed) {
			return nil
		}
		c, err := ln.Accept()
		switch {
		case isPassing(err):
			failing = true
			h.opts.Logger.Error("can't accept connections: the kernel or the process lacks what the error names (if it is open files, raise LimitNOFILE=)", "trouble", "accept", "address", ln.Addr(), "error", err)
			<-time.After(acceptPause)
			continue
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return err
		}
		if failing {
			failing = false
			h.opts.Logger.Info("connections are accepted again", "trouble", "accept", "address", ln.Addr())
		}
		if added := h.open.add(c); added != nil {
			go added.serve()
			continue
		}
		h.statuses[http.StatusServiceUnavailable].Add(1)
		h.open.room.away.Add(1)
		h.open.turnAway(c, h.policy.Load().Handshake(isLocal(c)))
	}
}

// acceptPause is how long a listener waits for others to give back what it lacks.
const acceptPause = 100 * time.Millisecond

// isPassing reports whether accept(2) may work again by itself.
func isPassing(err error) bool {
	for _, passing := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}
