package ingest

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// udpDoor starts a UDP door and returns a socket connected to it.
func udpDoor(t *testing.T, log Log, addr string, o UDPOptions) (u *UDP, conn net.Conn) {
	t.Helper()
	o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	conns, err := ListenUDP(netip.MustParseAddrPort(addr), o)
	if err != nil {
		t.Fatal(err)
	}
	u, err = NewUDP(log, conns, o)
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

func drainUDP(t *testing.T, u *UDP) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := u.Drain(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestDatagramsAreSplitIntoUsages(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		log := newMemoryLog()
		u, conn := udpDoor(t, log, addr, UDPOptions{Sockets: 2})
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
		drainUDP(t, u)
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
	u, conn := udpDoor(t, log, "127.0.0.1:0", UDPOptions{Limits: UDPLimits{Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}})
	u.Start()
	if _, err := conn.Write([]byte(`{"n":1}`)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { n, _ := u.Datagrams(); return n == 1 })
	drainUDP(t, u)
	if len(log.usages) > 0 || log.rejected["udp not_allowed"] != 1 {
		t.Errorf("%v, rejected %v", log.usages, log.rejected)
	}
}

func TestDrainReadsWhatTheKernelHolds(t *testing.T) {
	log := newMemoryLog()
	u, conn := udpDoor(t, log, "127.0.0.1:0", UDPOptions{Sockets: 1})
	const n = 500 // nobody reads while they are sent
	for range n {
		if _, err := conn.Write([]byte(`{"n":1}`)); err != nil {
			t.Fatal(err)
		}
	}
	drainUDP(t, u)
	if len(log.usages) != n {
		t.Errorf("%d usages of %d", len(log.usages), n)
	}
	if log.batches > n/batchSize+1 {
		t.Errorf("%d batches for %d datagrams", log.batches, n)
	}
}

func TestWhatTheKernelDropsIsCounted(t *testing.T) {
	log := newMemoryLog()
	u, conn := udpDoor(t, log, "127.0.0.1:0", UDPOptions{Sockets: 1, ReceiveBuffer: 8 << 10})
	const n = 1000
	for range n {
		if _, err := conn.Write([]byte(`{"n":1}`)); err != nil {
			t.Fatal(err)
		}
	}
	dropped := u.KernelDrops()
	drainUDP(t, u)
	if dropped == 0 || uint64(len(log.usages))+u.KernelDrops() != n {
		t.Errorf("%d dropped, %d read, %d sent", u.KernelDrops(), len(log.usages), n)
	}
}
