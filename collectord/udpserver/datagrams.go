package udpserver

import (
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	batchSize     = 32      // datagrams per system call
	smallDatagram = 8 << 10 // average size in bytes up to which the pages of a batch are kept
)

// datagrams is the memory for one batch, reused for the next. It lies outside the
// garbage collector's heap: pages that no datagram reached use no memory, and do not
// trigger collections.
type datagrams struct {
	headers     [batchSize]mmsghdr
	iovecs      [batchSize]unix.Iovec
	senderAddrs [batchSize]unix.RawSockaddrInet6 // large enough for an IPv4 address too
	memory      []byte
	size        int  // bytes per datagram
	withSenders bool // the kernel writes the senders' addresses
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	unix.Msghdr
	length uint32
	_      [4]byte
}

func newDatagrams(size int) (*datagrams, error) {
	memory, err := unix.Mmap(-1, 0, batchSize*size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("memory for datagrams: %w", err)
	}
	d := &datagrams{memory: memory, size: size}
	for i := range d.headers {
		d.iovecs[i].Base = &d.memory[i*size]
		d.iovecs[i].SetLen(size)
		d.headers[i].Iov = &d.iovecs[i]
		d.headers[i].SetIovlen(1)
	}
	return d, nil
}

// freeLargePages returns the pages of the batch to the kernel if its datagrams were large (size
// bytes in total). Otherwise the memory of many sockets would add up. No reference to a
// datagram may remain.
func (d *datagrams) freeLargePages(size int) {
	if size > batchSize*smallDatagram {
		_ = unix.Madvise(d.memory, unix.MADV_DONTNEED) // an error only leaves the pages allocated
	}
}

// free unmaps the memory. No reference to a datagram may remain.
func (d *datagrams) free() error { return unix.Munmap(d.memory) }

// receive reads the queued datagrams without waiting, and returns their number. EAGAIN
// means that the queue is empty. The kernel writes the senders' addresses only if
// withSenders is true, because that costs time.
//
// The raw system call bypasses the scheduler, because the call never blocks. Otherwise
// the runtime's monitor would check it every 20 µs.
func (d *datagrams) receive(fd int, withSenders bool) (int, error) {
	if withSenders || d.withSenders {
		d.setWithSenders(withSenders)
	}
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&d.headers)), batchSize, unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// setWithSenders sets whether the kernel writes the senders' addresses.
func (d *datagrams) setWithSenders(withSenders bool) {
	d.withSenders = withSenders
	for i := range d.headers {
		d.headers[i].Name, d.headers[i].Namelen = nil, 0
		if withSenders {
			d.headers[i].Name, d.headers[i].Namelen = (*byte)(unsafe.Pointer(&d.senderAddrs[i])), unix.SizeofSockaddrInet6
		}
	}
}

func (d *datagrams) datagram(i int) (body []byte, truncated bool) {
	h := &d.headers[i]
	from := i * d.size
	return d.memory[from : from+int(h.length) : from+int(h.length)], h.Flags&unix.MSG_TRUNC != 0
}

// sender returns the source address of the i-th datagram. It is valid only if receive
// was called with withSenders.
func (d *datagrams) sender(i int) netip.Addr {
	name := &d.senderAddrs[i]
	if name.Family == unix.AF_INET {
		return netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(name)).Addr)
	}
	return netip.AddrFrom16(name.Addr).Unmap()
}
