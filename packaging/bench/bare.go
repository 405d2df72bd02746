package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// bareFlag makes this program the receiver that does nothing but receive.
const bareFlag = "bare-receiver"

// receiveBare reads datagrams by recvmmsg and counts them until it is told to
// stop. It is what the machine can do at best, in a process of its own, so that
// its CPU time can be told from the sender's.
func receiveBare() error {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	const batch, size = 64, 2048
	var received atomic.Uint64
	stopped := make(chan os.Signal, 1)
	signal.Notify(stopped, syscall.SIGTERM)
	go func() {
		<-stopped
		conn.Close()
	}()
	fmt.Println(conn.LocalAddr())
	var headers [batch]mmsghdr
	var iovecs [batch]unix.Iovec
	memory := make([]byte, batch*size)
	for i := range headers {
		iovecs[i].Base = &memory[i*size]
		iovecs[i].SetLen(size)
		headers[i].Iov = &iovecs[i]
		headers[i].SetIovlen(1)
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20) // as much as one socket of the daemon
	})
	var errno syscall.Errno
	read := func(fd uintptr) bool {
		var n uintptr
		n, _, errno = unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&headers)), batch, unix.MSG_DONTWAIT, 0, 0)
		if errno == 0 {
			received.Add(uint64(n))
		}
		return errno != unix.EAGAIN
	}
	for err == nil {
		if err = raw.Read(read); err == nil && errno != 0 {
			err = errno
		}
	}
	var usage unix.Rusage
	if e := unix.Getrusage(unix.RUSAGE_SELF, &usage); e != nil {
		return e
	}
	fmt.Println(received.Load(), usage.Utime.Nano()+usage.Stime.Nano())
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// bare is a receiver in its own process.
type bare struct {
	cmd  *exec.Cmd
	out  *bufio.Reader
	addr string
}

func startBare() (*bare, error) {
	own, err := os.Executable()
	if err != nil {
		return nil, err
	}
	b := &bare{cmd: exec.Command(own, "-"+bareFlag)}
	b.cmd.Stderr = os.Stderr
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := b.cmd.Start(); err != nil {
		return nil, err
	}
	b.out = bufio.NewReader(out)
	line, err := b.out.ReadString('\n')
	b.addr = strings.TrimSpace(line)
	return b, err
}

// stop ends it and returns how many datagrams it has read, with how much CPU time.
func (b *bare) stop() (received, nanoseconds float64, err error) {
	if err := b.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return 0, 0, err
	}
	if _, err := fmt.Fscan(b.out, &received, &nanoseconds); err != nil {
		return 0, 0, err
	}
	return received, nanoseconds, b.cmd.Wait()
}
