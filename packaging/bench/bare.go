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

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	unix.Msghdr
	_ [8]byte // received length, and padding
}

// bareFlag makes this program a minimal UDP receiver for comparison.
const bareFlag = "bare-receiver"

// receiveBare counts datagrams in a loop over a blocking recvmmsg, until SIGTERM arrives
// and none is left. It prints the count and its CPU time in nanoseconds. It runs in its
// own process, so that its CPU time is separate from the sender's.
func receiveBare() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	addr := unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	socket, err := net.ListenPacket("udp4", "127.0.0.1:0") // a free port
	if err != nil {
		return err
	}
	addr.Port = socket.LocalAddr().(*net.UDPAddr).Port
	if err := errors.Join(socket.Close(), unix.Bind(fd, &addr)); err != nil {
		return err
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20) // same as a socket of the daemon
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}); err != nil {
		return err
	}
	var stopped atomic.Bool
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	go func() {
		<-signals
		stopped.Store(true)
	}()
	fmt.Printf("127.0.0.1:%d\n", addr.Port)
	const batch, size = 64, 2048
	var headers [batch]mmsghdr
	var iovecs [batch]unix.Iovec
	memory := make([]byte, batch*size)
	for i := range headers {
		iovecs[i].Base = &memory[i*size]
		iovecs[i].SetLen(size)
		headers[i].Iov = &iovecs[i]
		headers[i].SetIovlen(1)
	}
	received := uintptr(0)
	for drained := false; !drained; {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&headers)), batch, unix.MSG_WAITFORONE, 0, 0)
		switch errno {
		case 0:
			received += n
		case unix.EAGAIN: // nothing arrived for 100 ms
			drained = stopped.Load()
		case unix.EINTR:
		default:
			return errno
		}
	}
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		return err
	}
	fmt.Println(received, usage.Utime.Nano()+usage.Stime.Nano())
	return nil
}

// receiver is this program in its own process, as a server to compare with.
type receiver struct {
	cmd  *exec.Cmd
	out  *bufio.Reader
	addr string
}

func startReceiver(flags ...string) (*receiver, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	r := &receiver{cmd: exec.Command(program, flags...)}
	r.cmd.Stderr = os.Stderr
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	r.out = bufio.NewReader(out)
	line, err := r.out.ReadString('\n')
	r.addr = strings.TrimSpace(line)
	return r, err
}

// stop terminates the receiver and returns the two numbers that it prints.
func (r *receiver) stop() (n, nanoseconds float64, err error) {
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return 0, 0, err
	}
	if _, err := fmt.Fscan(r.out, &n, &nanoseconds); err != nil {
		return 0, 0, errors.Join(err, r.cmd.Wait())
	}
	return n, nanoseconds, r.cmd.Wait()
}
