// Package epoll waits for many sockets at once, and reads and writes them without waiting
// (epoll(7)). The event loop of package httpserver is built on it.
package epoll

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Poller reports what sockets are ready for. Only one goroutine may call Poll and Wait.
type Poller struct {
	fd     int
	wake   int // an eventfd
	events []unix.EpollEvent

	woken  atomic.Bool // Wake was called, and Wait has not returned since
	asleep atomic.Bool // Wait is in the kernel, or about to be

	mu     sync.Mutex // guards what follows, and wake, whose number may be another file's once it is closed
	closed bool
}

// New returns a Poller that reports at most so many sockets at a time.
func New(most int) (*Poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errors.Join(os.NewSyscallError("eventfd", err), unix.Close(fd))
	}
	p := &Poller{fd: fd, wake: wake, events: make([]unix.EpollEvent, most)}
	// It is never read: each time it is written to is an event of its own.
	if err := p.add(wake, unix.EPOLLIN|unix.EPOLLET); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// Add has a socket reported each time it becomes ready to be read or written, until it is
// closed. It must not block.
func (p *Poller) Add(fd int) error {
	return p.add(fd, unix.EPOLLIN|unix.EPOLLOUT|unix.EPOLLRDHUP|unix.EPOLLET)
}

func (p *Poller) add(fd int, events uint32) error {
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}))
}

// Event is what a socket became ready for.
type Event struct {
	FD       int
	Readable bool // there are bytes, an end, or an error
	Writable bool // there is room, or an error
	HungUp   bool // the peer sends no more
}

// Poll calls each for whatever is ready now, and returns how many that were: no more than
// it reports at a time.
func (p *Poller) Poll(each func(Event)) (int, error) {
	n, err := pollNow(p.fd, p.events)
	return p.report(n, each), os.NewSyscallError("epoll_pwait", err)
}

// Wait waits until Poll has something to report, or Wake is called.
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
	const failed = unix.EPOLLHUP | unix.EPOLLERR
	for i := range p.events[:max(n, 0)] {
		fd, e := int(p.events[i].Fd), p.events[i].Events
		if fd == p.wake {
			continue
		}
		reported++
		each(Event{
			FD: fd, Readable: e&(unix.EPOLLIN|unix.EPOLLRDHUP|failed) != 0,
			Writable: e&(unix.EPOLLOUT|failed) != 0, HungUp: e&(unix.EPOLLRDHUP|failed) != 0,
		})
	}
	return reported
}

// Wake ends Wait, or the next one. Any goroutine may call it, also once the Poller is
// closed.
func (p *Poller) Wake() {
	p.woken.Store(true)
	if !p.asleep.Load() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		wake(p.wake)
	}
}

// Close closes the Poller, but none of the sockets.
func (p *Poller) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return os.ErrClosed
	}
	p.closed = true
	return errors.Join(unix.Close(p.wake), unix.Close(p.fd))
}
