package udpserver

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// openNotStarted returns a server that does not read before Start, and a connection to its
// first socket.
func openNotStarted(t *testing.T, log Log, addr string, o Options) (u *Server, conn net.Conn) {
	t.Helper()
	conns, err := Listen(netip.MustParseAddrPort(addr), o)
	if err != nil {
		t.Fatal(err)
	}
	u, err = New(log, conns, o)
	if err != nil {
		t.Fatal(err)
	}
	conn, err = net.Dial("udp", conns[0].LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return u, conn
}

// open is openNotStarted with a logger that writes to the test's output.
func open(t *testing.T, log Log, addr string, o Options) (u *Server, conn net.Conn) {
	t.Helper()
	o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	u, conn = openNotStarted(t, log, addr, o)
	return u, conn
}

func drain(t *testing.T, u *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := u.Drain(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestDatagramsAreSplitIntoUsages(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		log := newMemoryLog()
		u, conn := open(t, log, addr, Options{Sockets: 2})
		u.Start()
		for _, datagram := range []string{
			`{"n":1}`,
			`{"n":2}{"n":3} {"n":4}` + "\n",
			`{"n":5}` + "\n" + `{"bad": oops}{"lost":1}` + "\n" + `{"n":6}`,
			`{"n":7`, // never continued by the next datagram
			`}`,
			"",
			`[{"n":8}]`,
			`{"big":"` + strings.Repeat("x", 60_000) + `"}`,
		} {
			if _, err := conn.Write([]byte(datagram)); err != nil {
				t.Fatal(err)
			}
		}
		waitFor(t, func() bool { n, _ := u.Datagrams(); return n == 8 })
		drain(t, u)
		log.mu.Lock()
		small := slices.DeleteFunc(slices.Clone(log.usages), func(s string) bool { return len(s) > 100 })
		if want := []string{`{"n":1}`, `{"n":2}`, `{"n":3}`, `{"n":4}`, `{"n":5}`, `{"n":6}`}; !slices.Equal(small, want) || len(log.usages) != 7 {
			t.Errorf("%s: %v", addr, small)
		}
		if log.rejected["udp invalid_json"] != 3 || log.rejected["udp empty"] != 1 || log.rejected["udp not_an_object"] != 1 {
			t.Errorf("%s: rejected %v", addr, log.rejected)
		}
		log.mu.Unlock()
	}
}

func TestSendersThatAreNotAllowedAreCounted(t *testing.T) {
	log := newMemoryLog()
	u, conn := open(t, log, "127.0.0.1:0", Options{Limits: Limits{Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}})
	u.Start()
	if _, err := conn.Write([]byte(`{"n":1}`)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { n, _ := u.Datagrams(); return n == 1 })
	drain(t, u)
	if len(log.usages) > 0 || log.rejected["udp not_allowed"] != 1 {
		t.Errorf("%v, rejected %v", log.usages, log.rejected)
	}
}

func TestDrainReadsQueuedDatagrams(t *testing.T) {
	log := newMemoryLog()
	u, conn := open(t, log, "127.0.0.1:0", Options{Sockets: 1})
	const n = 500 // sent before the server reads
	for range n {
		if _, err := conn.Write([]byte(`{"n":1}`)); err != nil {
			t.Fatal(err)
		}
	}
	drain(t, u)
	if len(log.usages) != n {
		t.Errorf("%d usages of %d", len(log.usages), n)
	}
	if log.batches > n/batchSize+1 {
		t.Errorf("%d batches for %d datagrams", log.batches, n)
	}
}

func TestKernelDropsAreCounted(t *testing.T) {
	log := newMemoryLog()
	u, conn := open(t, log, "127.0.0.1:0", Options{Sockets: 1, ReceiveBuffer: 8 << 10})
	const n = 1000
	for range n {
		if _, err := conn.Write([]byte(`{"n":1}`)); err != nil {
			t.Fatal(err)
		}
	}
	dropped := u.KernelDrops()
	drain(t, u)
	if dropped == 0 || uint64(len(log.usages))+u.KernelDrops() != n {
		t.Errorf("%d dropped, %d read, %d sent", u.KernelDrops(), len(log.usages), n)
	}
}

func TestTooLongDatagramsAreCounted(t *testing.T) {
	log := newMemoryLog()
	u, conn := open(t, log, "127.0.0.1:0", Options{MaxDatagram: 512, Limits: Limits{MaxRecord: 100}})
	u.Start()
	send := func(n int, datagrams ...string) {
		t.Helper()
		for _, d := range datagrams {
			if _, err := conn.Write([]byte(d)); err != nil {
				t.Fatal(err)
			}
		}
		waitFor(t, func() bool { all, _ := u.Datagrams(); return all == uint64(n) })
	}
	usage := func(size int) string { return `{"a":"` + strings.Repeat("x", size-8) + `"}` }
	send(3,
		usage(100)+usage(101)+"{}\n"+usage(99),
		usage(513),
		strings.Replace(usage(110), ":", ":"+strings.Repeat("\n", 10), 1)[:111]+usage(10)+"\n"+strings.Replace(usage(90), ":", ":"+strings.Repeat("\n", 50), 1),
	)
	u.SetLimits(Limits{MaxRecord: 200})
	send(4, usage(101))
	u.SetLimits(Limits{Allow: []netip.Prefix{netip.MustParsePrefix("::/0")}})
	send(5, usage(10))
	drain(t, u)
	var sizes []int
	for _, s := range log.usages {
		sizes = append(sizes, len(s))
	}
	if !slices.Equal(sizes, []int{100, 99, 90, 101}) {
		t.Errorf("usages of %v bytes", sizes)
	}
	if log.rejected["udp too_large"] != 1 || log.rejected["udp truncated"] != 1 || log.rejected["udp not_allowed"] != 1 || log.rejected["udp invalid_json"] != 1 {
		t.Errorf("rejected %v", log.rejected)
	}
}

func TestLossesAreLoggedOncePerCheck(t *testing.T) {
	var logged strings.Builder
	log := newMemoryLog()
	o := Options{Sockets: 1, ReceiveBuffer: 8 << 10, Logger: slog.New(slog.NewTextHandler(&logged, nil))}
	u, conn := openNotStarted(t, log, "127.0.0.1:0", o)
	for range 1000 {
		if _, err := conn.Write([]byte("secret")); err != nil {
			t.Fatal(err)
		}
	}
	n, limits, err := u.readers[0].receive()
	if err != nil {
		t.Fatal(err)
	}
	u.readers[0].ingest(n, limits)
	u.checkLosses()
	lost := u.KernelDrops()
	for _, line := range []string{
		fmt.Sprintf("trouble=udp_invalid_json reason=invalid_json usages=%d\n", n),
		fmt.Sprintf("trouble=udp_kernel_drops datagrams=%d\n", lost),
	} {
		if strings.Count(logged.String(), line) != 1 {
			t.Errorf("%q is not in the log once:\n%s", line, logged.String())
		}
	}
	logged.Reset()
	u.checkLosses()
	if strings.Count(logged.String(), "any more") != 2 || strings.Contains(logged.String(), "secret") {
		t.Error(logged.String())
	}
	logged.Reset()
	u.checkLosses()
	if logged.Len() > 0 {
		t.Error(logged.String())
	}
	drain(t, u)
}

// TestASmallReceiveBufferIsLogged requests a larger buffer than net.core.rmem_max, without
// the capability to exceed it.
func TestASmallReceiveBufferIsLogged(t *testing.T) {
	type outcome struct {
		logged  string
		granted int
		err     error
	}
	done := make(chan outcome)
	const asked = 1 << 30
	go func() {
		runtime.LockOSThread() // the thread, whose rights are dropped, ends with the goroutine
		if os.Geteuid() == 0 {
			if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, ^uintptr(0), 65534, ^uintptr(0)); errno != 0 {
				done <- outcome{err: errno}
				return
			}
		}
		var logged strings.Builder
		o := Options{Sockets: 2, ReceiveBuffer: asked, Logger: slog.New(slog.NewTextHandler(&logged, nil))}
		conns, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"), o)
		if err != nil {
			done <- outcome{err: err}
			return
		}
		u, err := New(newMemoryLog(), conns, o)
		if err != nil {
			done <- outcome{err: err}
			return
		}
		err = u.Drain(context.Background())
		done <- outcome{logged.String(), u.ReceiveBuffer(), err}
	}()
	o := <-done
	rmemMax, err := os.ReadFile("/proc/sys/net/core/rmem_max")
	if err != nil || o.err != nil {
		t.Fatal(err, o.err)
	}
	if n, err := strconv.Atoi(strings.TrimSpace(string(rmemMax))); err != nil || o.granted != 2*n {
		t.Errorf("2 sockets got %d bytes, the kernel's maximum is %d each: %v", o.granted, n, err)
	}
	if !strings.Contains(o.logged, "net.core.rmem_max") || !strings.Contains(o.logged, fmt.Sprintf("asked=%d given=%d", asked, o.granted)) {
		t.Errorf("logged %q", o.logged)
	}
}
