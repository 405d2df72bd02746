package httpserver

import (
	"io"
	"net"
	"os"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// receiveBuffer returns how many received bytes of a socket the kernel buffers, and how many
// it may buffer.
func receiveBuffer(t *testing.T, fd int) (used, limit int) {
	t.Helper()
	var info [9]uint32 // SK_MEMINFO_RMEM_ALLOC, SK_MEMINFO_RCVBUF, …
	size := uint32(unsafe.Sizeof(info))
	_, _, err := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO, uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if err != 0 {
		t.Fatal(err)
	}
	return int(info[0]), int(info[1])
}

// The kernel buffers few bytes until the server reads, and more once the server reads.
func TestTheKernelBuffersFewUnreadBytes(t *testing.T) {
	t.Parallel()
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	plain, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const requestBuffer = 32 << 10
	setSocketOptions(plain, requestBuffer)
	ln, err := adopt(plain)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if _, err := client.Write([]byte("x")); err != nil { // the connection is accepted with its first bytes
		t.Fatal(err)
	}
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	fd := c.(*socket).fd
	if unlockRequestBuffer(uintptr(fd)) != nil {
		t.Skip("this kernel, before 5.14, can't begin with a small buffer that grows")
	}

	// Fill the kernel's buffers of both sockets.
	text := make([]byte, 4<<10)
	for err = nil; err == nil; _, err = client.Write(text) {
		_ = client.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	}
	if used, limit := receiveBuffer(t, fd); limit > 2*requestBuffer || used > 3*requestBuffer { // one segment may exceed the limit
		t.Errorf("%v: the kernel buffers %d bytes, limit %d", err, used, limit)
	}
	_ = client.SetWriteDeadline(time.Time{})
	go func() {
		for err := error(nil); err == nil; _, err = client.Write(text) {
		}
	}()
	limit := 0
	for read := int64(0); limit <= 2*requestBuffer; read += 1 << 20 {
		if _, err := io.CopyN(io.Discard, c, 1<<20); err != nil || read == 1<<30 {
			t.Fatalf("after reading %d bytes, the kernel may buffer %d: %v", read, limit, err)
		}
		if f := c.(*socket).file.Load(); f != nil { // the descriptor moves there when a call waits
			fd = descriptor(t, f)
		}
		_, limit = receiveBuffer(t, fd)
	}
}

func descriptor(t *testing.T, f *os.File) (fd int) {
	t.Helper()
	raw, err := f.SyscallConn()
	if err == nil {
		err = raw.Control(func(n uintptr) { fd = int(n) })
	}
	if err != nil {
		t.Fatal(err)
	}
	return fd
}
