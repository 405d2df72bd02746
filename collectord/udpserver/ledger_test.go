package udpserver

import (
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"collectord/wal"
)

// countingLog counts usages and stores none.
type countingLog struct{ enqueued, rejected, yields atomic.Int64 }

func (*countingLog) Full() error                            { return nil }
func (l *countingLog) YieldToIngest()                       { l.yields.Add(1) }
func (l *countingLog) Reject(_ wal.Source, _ string, n int) { l.rejected.Add(int64(n)) }

func (l *countingLog) Enqueue(recs ...wal.Record) int {
	l.enqueued.Add(int64(len(recs)))
	return len(recs)
}

// sender sends and counts datagrams as fast as it can, until stop is set or the kernel
// refuses one.
type sender struct {
	conn    *net.UDPConn
	sent    atomic.Int64
	stopped chan struct{}
	stop    atomic.Bool
	refused int // datagrams that the kernel refused, because no socket listened
}

func startSender(t *testing.T, addr net.Addr) *sender {
	t.Helper()
	conn, err := net.DialUDP("udp", nil, addr.(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	control := func(f func(fd int) error) {
		if e := raw.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil || err != nil {
			t.Error(e, err)
		}
	}
	// The error queue keeps each refusal, so that all are counted.
	control(func(fd int) error {
		if addr.(*net.UDPAddr).IP.To4() == nil {
			return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1)
		}
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1)
	})
	s := &sender{conn: conn, stopped: make(chan struct{})}
	go func() {
		defer close(s.stopped)
		defer conn.Close()
		for body := []byte(`{"n":1}`); !s.stop.Load(); s.sent.Add(1) {
			if _, err := conn.Write(body); errors.Is(err, syscall.ECONNREFUSED) {
				break
			} else if err != nil {
				t.Error(err)
				return
			}
		}
		control(func(fd int) error {
			for b := make([]byte, 512); ; s.refused++ {
				_, _, _, _, err := unix.Recvmsg(fd, b, b, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
				if errors.Is(err, unix.EAGAIN) {
					return nil
				}
				if err != nil {
					return err
				}
			}
		})
	}()
	return s
}

// total waits until the sender has stopped, and returns how many of its datagrams were not
// refused.
func (s *sender) total() uint64 {
	<-s.stopped
	return uint64(int(s.sent.Load()) - s.refused)
}

func TestEveryDatagramSentIsReadOrDroppedByTheKernelOrRefused(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0", "0.0.0.0:0"} {
		for _, buffer := range []int{8 << 10, 4 << 20} {
			log := &countingLog{}
			o := Options{Sockets: 4, ReceiveBuffer: buffer}
			conns, err := Listen(netip.MustParseAddrPort(addr), o)
			if err != nil {
				t.Fatal(err)
			}
			u, err := New(log, conns, o)
			if err != nil {
				t.Fatal(err)
			}
			to := conns[0].LocalAddr().(*net.UDPAddr)
			if to.IP.IsUnspecified() {
				to.IP = net.IPv4(127, 0, 0, 1)
			}
			u.Start()
			senders := make([]*sender, 4) // several, so that more than one socket is used
			for i := range senders {
				senders[i] = startSender(t, to)
			}
			for _, s := range senders {
				waitFor(t, func() bool { return s.sent.Load() > 3_000 })
			}
			drain(t, u) // while the senders send
			sent, refused := uint64(0), 0
			for _, s := range senders {
				sent += s.total()
				refused += s.refused
			}
			read, _ := u.Datagrams()
			if read+u.KernelDrops() != sent || refused == 0 {
				t.Errorf("%s: %d read and %d dropped of %d sent; %d refused", addr, read, u.KernelDrops(), sent, refused)
			}
			if accepted, rejected := log.enqueued.Load(), log.rejected.Load(); int64(read) != accepted+rejected {
				t.Errorf("%s: %d read, %d accepted and %d rejected", addr, read, accepted, rejected)
			}
			t.Logf("%s, %d bytes: %d sent, %d read, %d dropped, %d refused", addr, buffer, sent, read, u.KernelDrops(), refused)
		}
	}
}

// TestSocketsPassedToTheNextDaemonLoseNothing passes sockets that stay open from one server
// to the next, as a service manager does. In between, the kernel queues datagrams, and
// counts the datagrams that it drops.
func TestSocketsPassedToTheNextDaemonLoseNothing(t *testing.T) {
	for _, buffer := range []int{64 << 10, 8 << 20} {
		o := Options{Sockets: 2, ReceiveBuffer: buffer, KeptOpen: true}
		conns, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"), o)
		if err != nil {
			t.Fatal(err)
		}
		s := startSender(t, conns[0].LocalAddr())
		var read, drops uint64
		const handovers = 5
		for i := range handovers + 1 {
			var own []*net.UDPConn
			for _, c := range conns {
				f, err := c.File() // as a service manager passes it
				if err != nil {
					t.Fatal(err)
				}
				pc, err := net.FilePacketConn(f)
				if err != nil {
					t.Fatal(err)
				}
				f.Close()
				own = append(own, pc.(*net.UDPConn))
			}
			u, err := New(&countingLog{}, own, o)
			if err != nil {
				t.Fatal(err)
			}
			u.Start()
			waitFor(t, func() bool { n, _ := u.Datagrams(); return n > 5000 })
			if i == handovers {
				s.stop.Store(true)
				<-s.stopped
			}
			drain(t, u)
			n, _ := u.Datagrams()
			read += n
			if u.KernelDrops() < drops {
				t.Errorf("%d drops, %d before", u.KernelDrops(), drops)
			}
			drops = u.KernelDrops()
		}
		if sent := s.total(); read+drops != sent || s.refused > 0 {
			t.Errorf("%d read and %d dropped of %d sent, %d refused", read, drops, sent, s.refused)
		}
		for _, c := range conns {
			c.Close()
		}
		t.Logf("%d bytes: %d read, %d dropped", buffer, read, drops)
	}
}

func TestDropsAreCountedAcrossAWrapOfTheKernelsCounter(t *testing.T) {
	var d dropCount
	for _, c := range []struct {
		counter uint32
		want    uint64
	}{{0, 0}, {10, 10}, {1<<32 - 1, 1<<32 - 1}, {4, 1<<32 + 4}, {4, 1<<32 + 4}, {3, 2<<32 + 3}} {
		if got := d.update(c.counter, 1, 1); got != c.want {
			t.Errorf("%d after %d, want %d", got, c.counter, c.want)
		}
	}
}

func TestDropsOfMessagesAreCountedAsDatagrams(t *testing.T) {
	var d dropCount
	for _, c := range []struct {
		counter             uint32
		messages, datagrams uint64
		want                uint64
	}{
		{5, 0, 0, 5}, // nothing was read yet
		{7, 10, 20, 14},
		{8, 20, 660, 14 + 64},
		{9, 20, 660, 78 + 64}, // none was read meanwhile
		{11, 30, 670, 142 + 2},
	} {
		if got := d.update(c.counter, c.messages, c.datagrams); got != c.want {
			t.Errorf("%d after %+v", got, c)
		}
	}
}

func TestAReaderThatFallsBehindAsksTheLogToYield(t *testing.T) {
	for _, c := range []struct {
		datagrams int
		yields    bool
	}{{busyCheckBatches * batchSize / 2, false}, {4 * busyCheckBatches * batchSize, true}} {
		log := &countingLog{}
		o := Options{Sockets: 1, ReceiveBuffer: 4 << 20}
		conns, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"), o)
		if err != nil {
			t.Fatal(err)
		}
		client, err := net.Dial("udp", conns[0].LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		for range c.datagrams { // before the server reads
			if _, err := client.Write([]byte(`{"a":1}`)); err != nil {
				t.Fatal(err)
			}
		}
		client.Close()
		u, err := New(log, conns, o)
		if err != nil {
			t.Fatal(err)
		}
		u.Start()
		waitFor(t, func() bool { return int(log.enqueued.Load())+int(u.KernelDrops()) == c.datagrams })
		drain(t, u)
		if got := log.yields.Load() > 0; got != c.yields {
			t.Errorf("%d datagrams waiting: %d calls of YieldToIngest", c.datagrams, log.yields.Load())
		}
	}
}
