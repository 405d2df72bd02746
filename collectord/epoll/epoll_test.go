package epoll

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pair returns a non-blocking socket and its other end.
func pair(t *testing.T) (fd int, other net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fds[1]), "pair")
	defer file.Close()
	if other, err = net.FileConn(file); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close(); _ = unix.Close(fds[0]) })
	return fds[0], other
}

func newPoller(t *testing.T, maxEvents int) *Poller {
	t.Helper()
	p, err := New(maxEvents)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// events returns the events that poll reports.
func events(t *testing.T, poll func(func(Event)) (int, error)) (all []Event) {
	t.Helper()
	n, err := poll(func(e Event) { all = append(all, e) })
	if err != nil || n != len(all) {
		t.Fatalf("poll returned %d for %+v: %v", n, all, err)
	}
	return all
}

// Each change of a socket is reported once.
func TestEachChangeIsReportedOnce(t *testing.T) {
	p := newPoller(t, 8)
	fd, other := pair(t)
	if err := p.Add(fd); err != nil {
		t.Fatal(err)
	}
	expect := func(want ...Event) {
		t.Helper()
		if got := events(t, p.Poll); !slices.Equal(got, want) {
			t.Fatalf("%+v, want %+v", got, want)
		}
	}
	writable := Event{FD: fd, Writable: true}
	readable := Event{FD: fd, Writable: true, Readable: true}
	ended := Event{FD: fd, Writable: true, Readable: true, HungUp: true}
	expect(writable)
	expect()
	if _, err := Recv(fd, make([]byte, 9)); !errors.Is(err, syscall.EAGAIN) {
		t.Fatal(err)
	}
	for range 2 { // unread data is reported once, and further data again
		if _, err := other.Write([]byte("abc")); err != nil {
			t.Fatal(err)
		}
		expect(readable)
		expect()
	}
	b := make([]byte, 9)
	if n, err := Recv(fd, b); n != 6 || err != nil || string(b[:6]) != "abcabc" {
		t.Fatal(n, err)
	}
	if err := other.(*net.UnixConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	expect(ended)
	if n, err := Recv(fd, b); n != 0 || err != nil {
		t.Fatal(n, err)
	}

	// A full socket is reported once its send buffer has room.
	sent := 0
	for {
		n, err := Send(fd, make([]byte, 64<<10))
		if sent += n; errors.Is(err, syscall.EAGAIN) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	expect()
	if _, err := io.CopyN(io.Discard, other, int64(sent)); err != nil {
		t.Fatal(err)
	}
	wait := func() {
		t.Helper()
		if err := p.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	wait()
	wait() // it does not consume the event
	if all := events(t, p.Poll); len(all) != 1 || !all[0].Writable {
		t.Fatalf("events %+v", all)
	}
	other.Close()
	wait()
	if all := events(t, p.Poll); len(all) != 1 || !all[0].HungUp || !all[0].Readable || !all[0].Writable {
		t.Fatalf("events %+v", all)
	}
	if _, err := Send(fd, b); !errors.Is(err, syscall.EPIPE) { // an error, not SIGPIPE
		t.Fatal(err)
	}
}

// No Wake is lost, before, during or after the start of Wait.
func TestWakeEndsWaitWheneverItComes(t *testing.T) {
	p := newPoller(t, 8)
	p.Wake()
	p.Wake()
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	const n = 20_000
	woken, next := make(chan struct{}), make(chan struct{})
	go func() {
		for range next {
			p.Wake()
		}
	}()
	go func() {
		defer close(woken)
		for range n {
			next <- struct{}{}
			if err := p.Wait(); err != nil {
				t.Error(err)
			}
			if n, err := p.Poll(nil); n > 0 || err != nil { // and consumes the wake
				t.Error(n, err)
			}
		}
	}()
	select {
	case <-woken:
	case <-time.After(time.Minute):
		t.Fatal("a wake was lost")
	}
	close(next)
}

// Poll reports at most maxEvents events, and the rest in the next calls.
func TestPollReportsAtMostMaxEventsAtATime(t *testing.T) {
	p := newPoller(t, 2)
	for range 5 {
		fd, _ := pair(t)
		if err := p.Add(fd); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[int]int{}
	for _, want := range []int{2, 2, 1, 0} {
		all := events(t, p.Poll)
		if len(all) != want {
			t.Fatalf("%d events, want %d", len(all), want)
		}
		for _, e := range all {
			seen[e.FD]++
		}
	}
	if len(seen) != 5 {
		t.Errorf("events by socket: %v, want 5 sockets", seen)
	}
}

// After Close, another file may get the Poller's descriptor number. The Poller then neither
// writes to nor closes that file.
func TestAClosedPollerTouchesNoDescriptor(t *testing.T) {
	p := newPoller(t, 1)
	number := p.wakeFD
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	other, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	if other != number {
		if err := unix.Dup3(other, number, unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(other)
	}
	defer unix.Close(number)
	p.asleep.Store(true) // as it was when the wake began
	p.Wake()
	if n, err := unix.Read(number, make([]byte, 8)); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("the Poller wrote to a file of another owner: %d, %v", n, err)
	}
	if err := p.Close(); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
	if _, err := unix.FcntlInt(uintptr(number), unix.F_GETFD, 0); err != nil {
		t.Errorf("the Poller closed a file of another owner: %v", err)
	}
}

// A signal interrupts Wait without an error.
func TestASignalIsNoErrorOfWait(t *testing.T) {
	p := newPoller(t, 1)
	thread, done := make(chan int), make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		thread <- unix.Gettid()
		done <- p.Wait()
	}()
	tid := <-thread
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		case <-time.After(time.Millisecond): // until it is in the kernel
			if err := unix.Tgkill(os.Getpid(), tid, unix.SIGURG); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// New closes its descriptors if it fails.
func TestAPollerNeedsDescriptors(t *testing.T) {
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	lowestFree := func() int { // the lowest free descriptor
		fd, err := unix.Dup(0)
		if err != nil {
			t.Fatal(err)
		}
		_ = unix.Close(fd)
		return fd
	}
	lowest := lowestFree()
	for spare, call := range []string{"epoll_create1", "eventfd"} {
		limit := before
		limit.Cur = uint64(lowest + spare)
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
		p, err := New(1)
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
			t.Fatal(err)
		}
		if p != nil || !errors.Is(err, unix.EMFILE) || !strings.HasPrefix(err.Error(), call) {
			t.Errorf("%d free descriptors: %v, want only an error of %s", spare, err, call)
		}
		if fd := lowestFree(); fd != lowest {
			t.Errorf("%d free descriptors: descriptor %d is left open", spare, lowest)
		}
	}
}

// A wake is no event of a socket.
func TestAWakeIsNotReported(t *testing.T) {
	p, err := New(4)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	p.asleep.Store(true) // otherwise Wake only sets woken
	p.Wake()
	if n, err := p.Poll(func(e Event) { t.Errorf("reported %+v", e) }); n != 0 || err != nil {
		t.Errorf("reported %d events, %v", n, err)
	}
}
