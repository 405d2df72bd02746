package udpserver

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// segmentingConn returns a connection of which the kernel cuts each message into datagrams of
// size bytes.
func segmentingConn(t *testing.T, to net.Addr, size int) *net.UDPConn {
	t.Helper()
	conn, err := net.DialUDP("udp", nil, to.(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if e := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, size) }); e != nil || err != nil {
		t.Fatal(e, err)
	}
	return conn
}

func write(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := conn.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

// numbered returns n usages of 10 bytes each.
func numbered(first, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"n":%4d}`, first+i)
	}
	return b.String()
}

// TestSegmentedMessagesAreReadAsDatagrams mixes senders that segment with others, in one batch.
func TestSegmentedMessagesAreReadAsDatagrams(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		log := newMemoryLog()
		u, plain := openNotStarted(t, log, addr, Options{Sockets: 1})
		r, segmented := u.readers[0], segmentingConn(t, plain.RemoteAddr(), 10)
		for round := range 2 { // the second reuses the memory of the first
			log.usages = nil
			write(t, segmented, numbered(0, 3)+`{"n":99}`) // the last is shorter
			write(t, plain, `{"n":   3}{"n":   4}`)
			write(t, segmented, numbered(5, 1)) // not segmented
			write(t, segmented, `{"n":   6 `+`}         `+numbered(7, 1))
			write(t, plain, "")
			n, limits, err := r.receive()
			if err != nil || n != 5 {
				t.Fatalf("%s: %d messages, %v: the kernel does not keep segments together", addr, n, err)
			}
			r.ingest(n, limits)
			want := []string{`{"n":   0}`, `{"n":   1}`, `{"n":   2}`, `{"n":99}`, `{"n":   3}`, `{"n":   4}`, `{"n":   5}`, `{"n":   7}`}
			if !slices.Equal(log.usages, want) {
				t.Errorf("%s: %q", addr, log.usages)
			}
			// A usage never continues in the next datagram, whatever message they came in.
			if got := log.rejected["udp invalid_json"]; got != 2*(round+1) || log.rejected["udp empty"] != round+1 {
				t.Errorf("%s: rejected %v", addr, log.rejected)
			}
			if n, size := u.Datagrams(); n != uint64(10*(round+1)) || size != uint64((38+20+10+30)*(round+1)) {
				t.Errorf("%s: %d datagrams of %d bytes", addr, n, size)
			}
		}
		drain(t, u)
	}
}

func TestLimitsApplyToEachDatagramOfAMessage(t *testing.T) {
	log := newMemoryLog()
	u, plain := openNotStarted(t, log, "127.0.0.1:0", Options{Sockets: 1, MaxDatagram: 512})
	ingest := func() {
		t.Helper()
		n, limits, err := u.readers[0].receive()
		if err != nil || n != 1 {
			t.Fatal(n, err)
		}
		u.readers[0].ingest(n, limits)
	}
	usage := func(size int) string { return `{"a":"` + strings.Repeat("x", size-8) + `"}` }
	write(t, segmentingConn(t, plain.RemoteAddr(), 512), strings.Repeat(usage(512), 100)) // far above max_datagram in total
	ingest()
	write(t, segmentingConn(t, plain.RemoteAddr(), 513), strings.Repeat(usage(513), 3)+usage(100))
	ingest()
	u.SetLimits(Limits{Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	write(t, segmentingConn(t, plain.RemoteAddr(), 10), numbered(0, 7))
	ingest()
	drain(t, u)
	if len(log.usages) != 101 || log.rejected["udp truncated"] != 3 || log.rejected["udp not_allowed"] != 7 {
		t.Errorf("%d usages, rejected %v", len(log.usages), log.rejected)
	}
}

// TestEveryDatagramOfASenderThatSegmentsIsCounted fills a small buffer before the server reads.
func TestEveryDatagramOfASenderThatSegmentsIsCounted(t *testing.T) {
	log := &countingLog{}
	u, plain := openNotStarted(t, log, "127.0.0.1:0", Options{Sockets: 1, ReceiveBuffer: 64 << 10})
	conn := segmentingConn(t, plain.RemoteAddr(), 10)
	const messages, each = 1000, 64
	for range messages {
		write(t, conn, numbered(0, each))
	}
	if u.KernelDrops() == 0 {
		t.Error("no drops are reported before the first read")
	}
	u.Start()
	waitFor(t, func() bool {
		read, _ := u.Datagrams()
		return read+u.KernelDrops() == messages*each
	})
	drain(t, u)
	read, _ := u.Datagrams()
	if read+u.KernelDrops() != messages*each || int64(read) != log.enqueued.Load() || read == 0 || u.KernelDrops() == 0 {
		t.Errorf("%d read, %d dropped, %d usages", read, u.KernelDrops(), log.enqueued.Load())
	}
	t.Logf("%d read, %d dropped", read, u.KernelDrops())
}
