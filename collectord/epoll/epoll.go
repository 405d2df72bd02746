// Package epoll waits for events of many sockets, and reads and writes sockets without
// blocking (epoll(7)). The event loop of package httpserver uses it.
package epoll

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Poller reports the readiness of sockets. Only one goroutine may call Poll and Wait.
type Poller struct {
	fd     int
	wakeFD int // an eventfd
	events []unix.EpollEvent

	woken  atomic.Bool // Wake was called after the last return of Wait
	asleep atomic.Bool // Wait is blocked in the kernel, or about to block

	mu     sync.Mutex // guards closed, and writes to wakeFD: its number may belong to another file after Close
	closed bool
}

// New returns a Poller that reports up to maxEvents events per Poll.
func New(maxEvents int) (*Poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errors.Join(os.NewSyscallError("eventfd", err), unix.Close(fd))
	}
	p := &Poller{fd: fd, wakeFD: wake, events: make([]unix.EpollEvent, maxEvents)}
	// The eventfd is never read. It is edge-triggered, so each write is a new event.
	if err := p.add(wake, unix.EPOLLIN|unix.EPOLLET); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// Add registers a non-blocking socket. Each time it becomes readable or writable Poll
// reports it, until the socket is closed.
func (p *Poller) Add(fd int) error {
	return p.add(fd, unix.EPOLLIN|unix.EPOLLOUT|unix.EPOLLRDHUP|unix.EPOLLET)
}

func (p *Poller) add(fd int, events uint32) error {
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}))
}

// Event is a change in the readiness of a socket.
type Event struct {
	FD       int
	Readable bool // data, end of stream or an error is available
	Writable bool // the send buffer has room, or there is an error
	HungUp   bool // the peer has shut down its side, or there is an error
}

// Poll calls each for every socket that is ready now, and returns the number of calls.
// It reports up to the number of events given to New.
func (p *Poller) Poll(each func(Event)) (int, error) {
	n, err := pollNow(p.fd, p.events)
	return p.report(n, each), os.NewSyscallError("epoll_pwait", err)
}

// Wait blocks until Poll has an event to report, or Wake is called.
func (p *Poller) Wait() error {
	p.asleep.Store(true)
	defer p.asleep.Store(false)
	if p.woken.Swap(false) {
		return nil
	}
	_, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, -1)
	p.woken.Store(false)
	if errors.Is(err, unix.EINTR) {
		return nil
	}
	return os.NewSyscallError("poll", err)
}

func (p *Poller) report(n int, each func(Event)) (reported int) {
	const failedEvents = unix.EPOLLHUP | unix.EPOLLERR
	for i := range p.events[:max(n, 0)] {
		fd, e := int(p.events[i].Fd), p.events[i].Events
		if fd == p.wakeFD {
			continue
		}
		reported++
		each(Event{
			FD: fd, Readable: e&(unix.EPOLLIN|unix.EPOLLRDHUP|failedEvents) != 0,
			Writable: e&(unix.EPOLLOUT|failedEvents) != 0, HungUp: e&(unix.EPOLLRDHUP|failedEvents) != 0,
		})
	}
	return reported
}

// Wake ends the current or the next Wait. Any goroutine may call it, also after Close.
func (p *Poller) Wake() {
	p.woken.Store(true)
	if !p.asleep.Load() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		wake(p.wakeFD)
	}
}

// Close closes the Poller, but no sockets.
func (p *Poller) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return os.ErrClosed
	}
	p.closed = true
	return errors.Join(unix.Close(p.wakeFD), unix.Close(p.fd))
}
