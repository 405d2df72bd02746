package udpserver

import (
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	batchSize    = 32       // messages per system call
	maxMessage   = 64 << 10 // bytes; more than UDP can transmit without jumbograms
	smallMessage = 8 << 10  // average size in bytes up to which the pages of a batch are kept
)

// messages is the memory for one batch, reused for the next. It lies outside the
// garbage collector's heap: pages that no message reached use no memory, and do not
// trigger collections.
//
// The datagrams of a message have the same sender and size; the last may be shorter (UDP_GRO
// in udp(7)).
type messages struct {
	headers     [batchSize]mmsghdr
	iovecs      [batchSize]unix.Iovec
	senderAddrs [batchSize]unix.RawSockaddrInet6 // large enough for an IPv4 address too
	controls    [batchSize]control
	read        int // messages of the last call
	memory      []byte
	withSenders bool // the kernel writes the senders' addresses
}

// control is the memory for the control messages of a message: that of UDP_GRO, and before it
// those of other options of a socket that a service manager has passed.
type control [32]uint64

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	unix.Msghdr
	length uint32
	_      [4]byte
}

func newMessages() (*messages, error) {
	memory, err := unix.Mmap(-1, 0, batchSize*maxMessage, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("memory for datagrams: %w", err)
	}
	m := &messages{memory: memory, read: batchSize}
	for i := range m.headers {
		m.iovecs[i].Base = &m.memory[i*maxMessage]
		m.iovecs[i].SetLen(maxMessage)
		m.headers[i].Iov = &m.iovecs[i]
		m.headers[i].SetIovlen(1)
		m.headers[i].Control = (*byte)(unsafe.Pointer(&m.controls[i]))
	}
	return m, nil
}

// freeLargePages returns the pages of the batch to the kernel if its messages were large (size
// bytes in total). Otherwise the memory of many sockets would add up. No reference to a
// datagram may remain.
func (m *messages) freeLargePages(size int) {
	if size > batchSize*smallMessage {
		_ = unix.Madvise(m.memory, unix.MADV_DONTNEED) // an error only leaves the pages allocated
	}
}

// free unmaps the memory. No reference to a datagram may remain.
func (m *messages) free() error { return unix.Munmap(m.memory) }

// receive reads the queued messages without waiting, and returns their number. EAGAIN
// means that the queue is empty. The kernel writes the senders' addresses only if
// withSenders is true, because that costs time.
//
// The raw system call bypasses the scheduler, because the call never blocks. Otherwise
// the runtime's monitor would check it every 20 µs.
func (m *messages) receive(fd int, withSenders bool) (int, error) {
	if withSenders || m.withSenders {
		m.setWithSenders(withSenders)
	}
	for i := range m.headers[:m.read] { // the kernel overwrote them
		m.headers[i].SetControllen(int(unsafe.Sizeof(m.controls[i])))
	}
	m.read = 0
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&m.headers)), batchSize, unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			m.read = int(n)
			return m.read, nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// setWithSenders sets whether the kernel writes the senders' addresses.
func (m *messages) setWithSenders(withSenders bool) {
	m.withSenders = withSenders
	for i := range m.headers {
		m.headers[i].Name, m.headers[i].Namelen = nil, 0
		if withSenders {
			m.headers[i].Name, m.headers[i].Namelen = (*byte)(unsafe.Pointer(&m.senderAddrs[i])), unix.SizeofSockaddrInet6
		}
	}
}

// message returns the i-th message, and the size in bytes of its datagrams, or 0 if it is
// one datagram.
func (m *messages) message(i int) (body []byte, datagramSize int, truncated bool) {
	h, from := &m.headers[i], i*maxMessage
	control := unsafe.Slice((*byte)(unsafe.Pointer(&m.controls[i])), h.Controllen)
	return m.memory[from : from+int(h.length) : from+int(h.length)], groSize(control), h.Flags&unix.MSG_TRUNC != 0
}

// groSize returns the size that the control message of UDP_GRO contains, or 0 if there is
// none.
func groSize(control []byte) int {
	for len(control) >= unix.SizeofCmsghdr {
		h, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			return 0 // cut off
		}
		if h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && len(data) >= 4 {
			return int(*(*int32)(unsafe.Pointer(&data[0])))
		}
		control = rest
	}
	return 0
}

// sender returns the source address of the i-th message. It is valid only if receive
// was called with withSenders.
func (m *messages) sender(i int) netip.Addr {
	name := &m.senderAddrs[i]
	if name.Family == unix.AF_INET {
		return netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(name)).Addr)
	}
	return netip.AddrFrom16(name.Addr).Unmap()
}
