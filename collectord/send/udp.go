package send

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	datagramsPerCall    = 64  // datagrams per system call
	maxDatagramsPerCall = 512 // the same, with Offload
	maxSegments         = 64  // datagrams the kernel splits one message into (UDP_MAX_SEGMENTS of older kernels)
)

// mmsghdr is struct mmsghdr of sendmmsg(2).
type mmsghdr struct {
	unix.Msghdr
	length uint32
	_      [4]byte
}

// segmentSize is a control message that asks the kernel to split the message into
// datagrams of size bytes (UDP_SEGMENT, udp(7)).
type segmentSize struct {
	unix.Cmsghdr
	size uint16
	_    [6]byte
}

// message is the content of one header: a datagram or, with Offload, several.
type message struct {
	first, datagrams int
	usages           int64
}

// socket sends datagrams from reused memory.
type socket struct {
	conn    *net.UDPConn
	raw     syscall.RawConn
	plan    *plan
	counts  *counts
	batches *batcher
	offload bool // cleared when the kernel or the route refuses it

	// indexed by datagram
	iovecs [maxDatagramsPerCall]unix.Iovec
	usages [maxDatagramsPerCall]int64
	memory [maxDatagramsPerCall][]byte
	// indexed by message
	headers  [maxDatagramsPerCall]mmsghdr
	controls [maxDatagramsPerCall]segmentSize
	messages [maxDatagramsPerCall]message

	// State of the current call. send is created once, since a closure allocates.
	firstMessage, endMessage, sentMessages int
	errno                                  syscall.Errno
	send                                   func(fd uintptr) bool
}

func (r *run) dialUDP(ctx context.Context) (*socket, error) {
	c, err := (&net.Dialer{Timeout: r.opts.Timeout}).DialContext(ctx, "udp", r.target.address)
	if err != nil {
		return nil, err
	}
	s := &socket{conn: c.(*net.UDPConn), plan: r.plan, counts: r.counts, batches: r.newBatcher(), offload: r.opts.Offload} //nolint:forcetypeassert // DialContext returns a *net.UDPConn for udp
	if s.raw, err = s.conn.SyscallConn(); err != nil {
		c.Close()
		return nil, err
	}
	for i := range s.controls {
		s.controls[i].Level, s.controls[i].Type = unix.SOL_UDP, unix.UDP_SEGMENT
		s.controls[i].SetLen(unix.CmsgLen(2))
	}
	s.send = s.sendmmsg
	return s, nil
}

// run sends datagrams when they are due, until none is left.
func (s *socket) run(ctx context.Context) error {
	limit := int64(datagramsPerCall)
	if s.offload {
		limit = maxDatagramsPerCall
	}
	for ctx.Err() == nil {
		k, n, wait := s.plan.claim(limit)
		if n == 0 {
			if wait == 0 {
				return nil
			}
			shortSleep(wait)
			continue
		}
		for i := range int(n) {
			body := s.batches.body(&s.memory[i], k+int64(i))
			s.iovecs[i].Base = unsafe.SliceData(body)
			s.iovecs[i].SetLen(len(body))
			s.usages[i] = s.plan.size(k + int64(i))
		}
		for at := 0; at < int(n); {
			var err error
			if at, err = s.sendAll(s.pack(at, int(n))); err != nil {
				return err
			}
		}
	}
	return nil
}

// lastError waits up to 20 ms for an ICMP error about the last datagrams and counts it,
// since no later call would return it.
func (s *socket) lastError() error {
	return s.raw.Control(func(fd uintptr) {
		const wait = 20                       // ms; on the same host it arrives at once
		fds := []unix.PollFd{{Fd: int32(fd)}} // errors are always polled for
		if n, err := unix.Poll(fds, wait); n == 0 || err != nil {
			return
		}
		if errno, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR); err == nil && errno != 0 {
			s.countError(syscall.Errno(errno))
		}
	})
}

func (s *socket) countError(errno syscall.Errno) {
	reason := errno.Error()
	if errors.Is(errno, unix.ECONNREFUSED) {
		reason += ": nobody listens"
	}
	s.counts.countError(reason)
}

// pack combines datagrams from..to-1 into messages, and returns the number of messages.
func (s *socket) pack(from, to int) (n int) {
	for from < to {
		next, size := from+1, s.iovecs[from].Len
		for all := size; s.offload && next < to && next-from < maxSegments && s.iovecs[next].Len == size && all+size <= maxDatagram; next++ {
			all += size
		}
		h, m := &s.headers[n], &s.messages[n]
		h.Iov = &s.iovecs[from]
		h.SetIovlen(next - from)
		h.Control = nil
		h.SetControllen(0)
		if next-from > 1 {
			s.controls[n].size = uint16(size)
			h.Control = (*byte)(unsafe.Pointer(&s.controls[n]))
			h.SetControllen(int(unsafe.Sizeof(s.controls[n])))
		}
		*m = message{first: from, datagrams: next - from}
		for _, usages := range s.usages[from:next] {
			m.usages += usages
		}
		from = next
		n++
	}
	return n
}

// sendAll sends the first n messages and returns the datagram to continue with. It counts
// refusals by the kernel by their reason. ECONNREFUSED is about an earlier datagram, so
// the message is sent again.
func (s *socket) sendAll(n int) (next int, err error) {
	single := false
	for s.firstMessage = 0; s.firstMessage < n; {
		// sendmmsg hides an error if it sent a message before. The next message is then
		// sent alone, so that its error is returned.
		s.endMessage = n
		if single {
			s.endMessage = s.firstMessage + 1
		}
		if err := s.raw.Write(s.send); err != nil {
			return 0, err
		}
		single = s.errno == 0 && s.firstMessage+s.sentMessages < s.endMessage
		size, datagrams, usages := int64(0), int64(0), int64(0)
		for i := s.firstMessage; i < s.firstMessage+s.sentMessages; i++ {
			size += int64(s.headers[i].length)
			datagrams += int64(s.messages[i].datagrams)
			usages += s.messages[i].usages
		}
		s.counts.datagrams.Add(datagrams)
		s.counts.sent.Add(usages)
		s.counts.bytesSent.Add(size)
		s.firstMessage += s.sentMessages
		if s.errno == 0 {
			continue
		}
		failed := s.messages[s.firstMessage]
		if failed.datagrams > 1 && !errors.Is(s.errno, unix.ECONNREFUSED) {
			s.offload = false // for example because a segment exceeds the MTU
			return failed.first, nil
		}
		s.countError(s.errno)
		if !errors.Is(s.errno, unix.ECONNREFUSED) {
			s.counts.failed.Add(failed.usages)
			s.firstMessage++
		}
	}
	last := s.messages[n-1]
	return last.first + last.datagrams, nil
}

// sendmmsg sends the messages from firstMessage up to, not including, endMessage. It
// returns false if the socket buffer is full.
func (s *socket) sendmmsg(fd uintptr) bool {
	for {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&s.headers[s.firstMessage])), uintptr(s.endMessage-s.firstMessage), 0, 0, 0)
		switch errno {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false
		case 0:
			s.sentMessages, s.errno = int(n), 0
		default:
			s.sentMessages, s.errno = 0, errno
		}
		return true
	}
}

// checkDatagrams returns an error if a batch does not fit into a datagram. It runs before
// anything is sent.
func (r *run) checkDatagrams() error {
	p := r.newBatcher()
	last := int64(1)
	if r.opts.Payload != nil { // the sizes repeat after as many datagrams as there are usages
		last = int64(len(r.opts.Payload.usages))
	}
	var memory []byte
	for k := range min(last, r.plan.batches) {
		if n := len(p.body(&memory, k)); n > maxDatagram {
			return fmt.Errorf("datagram %d would have %d bytes, at most %d fit: send fewer usages in each", k, n, maxDatagram)
		}
	}
	return nil
}
