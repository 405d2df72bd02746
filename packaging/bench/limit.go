package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// limitFlag makes this program the durable limit, which writes to a file.
const limitFlag = "durable-limit"

const (
	limitFileBytes = 256 << 20 // preallocated bytes of the file
	limitWrapBytes = 200 << 20 // after this offset it restarts at the beginning of the file
)

// limit is the durable limit: the upper bound for a server that stores each POST before it
// responds. One thread waits in epoll and collects request bodies by their Content-Length.
// Another thread writes and fdatasyncs all collected bodies in one commit. Then each
// client gets a constant 201. limit checks nothing, and supports only the HTTP of the load
// generators here.
type limit struct {
	file           *os.File
	poll, listener int
	begin, done    int // eventfds that signal the begin and the end of a commit
	conns          []*limitConn

	gathered, writing []byte // the bodies of the next and the current commit
	posted, awaiting  []int  // the sockets of these bodies
	committing        bool

	mu    sync.Mutex // guards syncs
	syncs []time.Duration
}

type limitConn struct {
	received int
	buf      [4096]byte
}

// ab asks for keep-alive with HTTP/1.0, so the response has to confirm it.
const limitResponse = "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nConnection: keep-alive\r\nContent-Length: 45\r\n\r\n" +
	`{"id":"019aaf5e-6c1e-7b3a-9c41-1f2e3d4c5b6a"}`

// serveLimit prints its address. On SIGTERM it prints the number of commits, and the p99
// of write and sync in nanoseconds.
func serveLimit(file string) error {
	l, addr, err := newLimit(file)
	if err != nil {
		return err
	}
	failed := make(chan error, 2)
	go func() { failed <- l.commits() }()
	go func() { failed <- l.serve() }()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	fmt.Println(addr)
	select {
	case err := <-failed:
		return err
	case <-signals:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Println(len(l.syncs), int64(percentile(l.syncs, 0.99)))
	return nil
}

// percentile returns the exact quantile q of the samples, without rounding to buckets.
func percentile(samples []time.Duration, q float64) time.Duration {
	if len(samples) == 0 {
		return 0
	}
	samples = slices.Clone(samples)
	slices.Sort(samples)
	return samples[min(len(samples)-1, int(q*float64(len(samples))))]
}

func newLimit(file string) (l *limit, addr string, err error) {
	l = &limit{
		conns: make([]*limitConn, 1<<16), gathered: make([]byte, 0, 8<<20), writing: make([]byte, 0, 8<<20),
		syncs: make([]time.Duration, 0, 1<<20),
	}
	if l.file, err = os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, "", err
	}
	zeros := make([]byte, 1<<20)
	info, err := l.file.Stat()
	for at := int64(0); err == nil && info.Size() < limitFileBytes && at < limitFileBytes; at += int64(len(zeros)) {
		_, err = l.file.WriteAt(zeros, at)
	}
	if err := errors.Join(err, l.file.Sync()); err != nil {
		return nil, "", err
	}
	port, err := freePort()
	if err != nil {
		return nil, "", err
	}
	if l.listener, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0); err != nil {
		return nil, "", err
	}
	err = errors.Join(unix.SetsockoptInt(l.listener, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1), // accepted sockets inherit it
		unix.Bind(l.listener, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(l.listener, 4096))
	if err != nil {
		return nil, "", err
	}
	if l.poll, err = unix.EpollCreate1(0); err != nil {
		return nil, "", err
	}
	if l.begin, err = unix.Eventfd(0, 0); err != nil {
		return nil, "", err
	}
	if l.done, err = unix.Eventfd(0, unix.EFD_NONBLOCK); err != nil {
		return nil, "", err
	}
	return l, fmt.Sprintf("127.0.0.1:%d", port), errors.Join(l.watch(l.listener, unix.EPOLLIN), l.watch(l.done, unix.EPOLLIN))
}

func (l *limit) watch(fd int, events uint32) error {
	return unix.EpollCtl(l.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
}

// commits is the thread that writes and syncs.
func (l *limit) commits() error {
	runtime.LockOSThread()
	var count [8]byte
	one := [8]byte{1}
	for at := int64(0); ; {
		if _, err := unix.Read(l.begin, count[:]); err != nil {
			return err
		}
		began := time.Now()
		_, err := unix.Pwrite(int(l.file.Fd()), l.writing, at)
		if err == nil {
			err = unix.Fdatasync(int(l.file.Fd()))
		}
		took := time.Since(began)
		if err != nil {
			return err
		}
		if at += int64(len(l.writing)); at > limitWrapBytes {
			at = 0
		}
		l.mu.Lock()
		l.syncs = append(l.syncs, took)
		l.mu.Unlock()
		if _, err := unix.Write(l.done, one[:]); err != nil {
			return err
		}
	}
}

// commit starts a commit of all collected bodies unless one is running.
func (l *limit) commit() {
	if l.committing || len(l.posted) == 0 {
		return
	}
	l.gathered, l.writing = l.writing[:0], l.gathered
	l.posted, l.awaiting = l.awaiting[:0], l.posted
	l.committing = true
	one := [8]byte{1}
	_, _, _ = unix.RawSyscall(unix.SYS_WRITE, uintptr(l.begin), uintptr(unsafe.Pointer(&one)), 8)
}

// serve is the thread that waits in epoll.
func (l *limit) serve() error {
	runtime.LockOSThread()
	events := make([]unix.EpollEvent, 1024)
	var answered []int
	for {
		n, err := unix.EpollWait(l.poll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		for _, e := range events[:max(n, 0)] {
			switch fd := int(e.Fd); fd {
			case l.listener:
				if err := l.accept(); err != nil {
					return err
				}
			case l.done:
				var count [8]byte
				_, _ = unix.Read(l.done, count[:])
				l.committing = false
				answered = append(answered[:0], l.awaiting...)
				l.commit()
				for _, fd := range answered {
					rawSend(fd, limitResponse)
				}
			default:
				l.receive(fd)
			}
		}
		l.commit()
	}
}

func (l *limit) accept() error {
	for {
		fd, _, err := unix.Accept4(l.listener, unix.SOCK_NONBLOCK)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.ECONNABORTED):
			continue
		case err != nil:
			return err
		}
		if l.conns[fd] == nil {
			l.conns[fd] = &limitConn{}
		}
		l.conns[fd].received = 0
		if err := l.watch(fd, unix.EPOLLIN|unix.EPOLLET); err != nil {
			return err
		}
	}
}

// receive reads from a socket and collects its body if it is complete.
func (l *limit) receive(fd int) {
	c := l.conns[fd]
	n, errno := rawReceive(fd, c.buf[c.received:])
	switch {
	case errno == unix.EAGAIN:
		return
	case errno != 0 || n == 0:
		unix.Close(fd)
		return
	}
	c.received += n
	b := c.buf[:c.received]
	header, _, whole := bytes.Cut(b, []byte("\r\n\r\n"))
	if !whole {
		return
	}
	begin := len(header) + 4
	end := begin + contentLength(header)
	if len(b) < end {
		return
	}
	l.gathered = append(l.gathered, b[begin:end]...)
	c.received = copy(c.buf[:], b[end:])
	l.posted = append(l.posted, fd)
}

// contentLength returns 0 without a Content-Length. wrk and ab spell its name differently.
func contentLength(header []byte) int {
	_, after, found := bytes.Cut(header, []byte("Content-Length: "))
	if !found {
		_, after, _ = bytes.Cut(header, []byte("Content-length: "))
	}
	digits, _, _ := bytes.Cut(after, []byte("\r"))
	n, _ := strconv.Atoi(string(digits))
	return n
}

// rawReceive and rawSend use raw system calls, since the sockets are non-blocking and the
// Go scheduler need not be involved.
func rawReceive(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), 0, 0, 0)
	return int(n), errno
}

func rawSend(fd int, s string) {
	_, _, _ = unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.StringData(s))), uintptr(len(s)), unix.MSG_NOSIGNAL, 0, 0)
}

// limitRun is the result of a load on the durable limit.
type limitRun struct {
	result
	syncP99 float64 // of write and fdatasync, in milliseconds
	commits float64
}

// againstLimit measures a durable limit in its own process, with its file in dir.
func againstLimit(dir string, load load, conns, seconds int) (r limitRun, err error) {
	p, err := startReceiver("-"+limitFlag, filepath.Join(dir, "durable-limit"))
	if err != nil {
		return r, err
	}
	r.result, err = load.run("http://"+p.addr+"/api/usages", conns, seconds)
	commits, nanoseconds, stopErr := p.stop()
	r.commits, r.syncP99 = commits, nanoseconds/1e6
	return r, errors.Join(err, stopErr)
}
