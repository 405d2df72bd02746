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

// pair returns a socket that does not block, and its other end.
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

func newPoller(t *testing.T, most int) *Poller {
	t.Helper()
	p, err := New(most)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// events returns what Poll reports.
func events(t *testing.T, poll func(func(Event)) (int, error)) (all []Event) {
	t.Helper()
	n, err := poll(func(e Event) { all = append(all, e) })
	if err != nil || n != len(all) {
		t.Fatalf("%d of %+v: %v", n, all, err)
	}
	return all
}

// Each change of a socket is reported, once.
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
	for range 2 { // what is not read is not reported again, and what comes on top is
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

	// A socket that is full is reported once there is room.
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
	wait() // it takes nothing from Poll
	if all := events(t, p.Poll); len(all) != 1 || !all[0].Writable {
		t.Fatalf("%+v", all)
	}
	other.Close()
	wait()
	if all := events(t, p.Poll); len(all) != 1 || !all[0].HungUp || !all[0].Readable || !all[0].Writable {
		t.Fatalf("%+v", all)
	}
	if _, err := Send(fd, b); !errors.Is(err, syscall.EPIPE) { // and no signal
		t.Fatal(err)
	}
}

// Wait ends by whatever comes first: no wake is lost, whenever it comes.
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
			if n, err := p.Poll(nil); n > 0 || err != nil { // and takes the wake
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

// Poll reports no more than it may at a time, and the rest the next time.
func TestPollReportsSoManyAtATime(t *testing.T) {
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
			t.Fatalf("%d, want %d", len(all), want)
		}
		for _, e := range all {
			seen[e.FD]++
		}
	}
	if len(seen) != 5 {
		t.Errorf("%v", seen)
	}
}

// A Poller that is closed stays so, and writes to no file that has its number by now.
func TestAClosedPollerTouchesNothing(t *testing.T) {
	p := newPoller(t, 1)
	number := p.wake
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
		t.Errorf("another's file was written to: %d, %v", n, err)
	}
	if err := p.Close(); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
	if _, err := unix.FcntlInt(uintptr(number), unix.F_GETFD, 0); err != nil {
		t.Errorf("another's file was closed: %v", err)
	}
}

// A signal is no reason for Wait to fail.
func TestASignalEndsNoWait(t *testing.T) {
	p := newPoller(t, 1)
	thread, over := make(chan int), make(chan error)
	go func() {
		runtime.LockOSThread() // and ends with it
		thread <- unix.Gettid()
		over <- p.Wait()
	}()
	tid := <-thread
	for {
		select {
		case err := <-over:
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

// What a Poller that can't be made has taken is given back.
func TestAPollerNeedsDescriptors(t *testing.T) {
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	free := func() int { // the lowest descriptor that is free
		fd, err := unix.Dup(0)
		if err != nil {
			t.Fatal(err)
		}
		_ = unix.Close(fd)
		return fd
	}
	lowest := free()
	for room, call := range []string{"epoll_create1", "eventfd"} {
		limit := before
		limit.Cur = uint64(lowest + room)
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
		p, err := New(1)
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
			t.Fatal(err)
		}
		if p != nil || !errors.Is(err, unix.EMFILE) || !strings.HasPrefix(err.Error(), call) {
			t.Errorf("room for %d: %v, not an error of %s alone", room, err, call)
		}
		if fd := free(); fd != lowest {
			t.Errorf("room for %d: descriptor %d is left open", room, lowest)
		}
	}
}
