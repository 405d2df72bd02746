package udpserver

import (
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	batchSize     = 32      // datagrams a system call reads
	smallDatagram = 8 << 10 // on average in a batch, whose pages are kept
)

// datagrams is memory for one batch, used again for the next. The datagrams lie
// outside the garbage collector's heap: pages that none was long enough to touch
// cost nothing, and do not make it collect more often.
type datagrams struct {
	headers [batchSize]mmsghdr
	iovecs  [batchSize]unix.Iovec
	names   [batchSize]unix.RawSockaddrInet6 // large enough for IPv4 too
	memory  []byte
	size    int  // of a datagram
	named   bool // the kernel writes where datagrams come from
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

// forget gives back the pages of datagrams that were large, of size bytes together,
// once nothing refers to them: those of many sockets would add up.
func (d *datagrams) forget(size int) {
	if size > batchSize*smallDatagram {
		_ = unix.Madvise(d.memory, unix.MADV_DONTNEED) // no harm if they stay
	}
}

// free gives the memory back. Nothing may refer to a datagram any more.
func (d *datagrams) free() error { return unix.Munmap(d.memory) }

// receive reads what is there, without waiting, and returns how many datagrams
// that were: EAGAIN means none. Only with named does the kernel write where they
// come from, which takes it time.
//
// The call can't block, so the scheduler is not told of it: the runtime's monitor
// would look after it every 20 µs.
func (d *datagrams) receive(fd int, named bool) (int, error) {
	if named || d.named {
		d.nameSenders(named)
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

// nameSenders has the kernel write where datagrams come from, or not any more.
func (d *datagrams) nameSenders(named bool) {
	d.named = named
	for i := range d.headers {
		d.headers[i].Name, d.headers[i].Namelen = nil, 0
		if named {
			d.headers[i].Name, d.headers[i].Namelen = (*byte)(unsafe.Pointer(&d.names[i])), unix.SizeofSockaddrInet6
		}
	}
}

// datagram returns the i-th datagram of the batch.
func (d *datagrams) datagram(i int) (body []byte, truncated bool) {
	h := &d.headers[i]
	from := i * d.size
	return d.memory[from : from+int(h.length) : from+int(h.length)], h.Flags&unix.MSG_TRUNC != 0
}

// sender returns where the i-th datagram says it comes from, if receive asked for that.
func (d *datagrams) sender(i int) netip.Addr {
	name := &d.names[i]
	if name.Family == unix.AF_INET {
		return netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(name)).Addr)
	}
	return netip.AddrFrom16(name.Addr).Unmap()
}
