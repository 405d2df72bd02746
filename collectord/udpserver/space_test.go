package udpserver

import (
	"bytes"
	"log/slog"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// ReceiveSpace falls by what the datagrams that wait take, with the kernel's data, and returns
// to all of the buffers once they are read. The reserve of package main is made of it.
func TestReceiveSpaceIsWhatTheKernelMayStillUse(t *testing.T) {
	const sockets, buffer = 2, 64 << 10
	u, conn := openNotStarted(t, newMemoryLog(), "127.0.0.1:0", Options{Sockets: sockets, ReceiveBuffer: buffer})
	const all = 2 * buffer // the kernel doubles the size for its own data
	if got := u.ReceiveSpace(); got != all || got != int64(2*u.ReceiveBuffer()) {
		t.Fatalf("%d bytes while nothing waits, want %d", got, all)
	}
	body := bytes.Repeat([]byte(" "), 1000)
	before := u.ReceiveSpace()
	for n := int64(1); n <= 10; n++ {
		if _, err := conn.Write(body); err != nil {
			t.Fatal(err)
		}
		got := u.ReceiveSpace()
		if got > all-n*int64(len(body)) || got >= before {
			t.Errorf("%d bytes while %d datagrams wait, %d before the last", got, n, before)
		}
		before = got
	}
	for range 1000 { // more than the socket has room for
		if _, err := conn.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	// The other socket is empty, and the kernel lets a buffer exceed its size by a datagram.
	if got := u.ReceiveSpace(); got < all/sockets || got > all/sockets+4<<10 || u.KernelDrops() == 0 {
		t.Errorf("%d bytes while one buffer of two is full, and %d drops", got, u.KernelDrops())
	}
	for _, r := range u.readers {
		if err := r.drain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := u.ReceiveSpace(); got != all {
		t.Errorf("%d bytes after all was read, want %d", got, all)
	}
	drain(t, u)
	if got := u.ReceiveSpace(); got != 0 {
		t.Errorf("%d bytes after the server is closed", got)
	}
}

// A socket that is passed by a service manager can have options for which the kernel returns
// more control messages, before the one of UDP_GRO.
func TestSegmentsAreKeptApartWhateverOptionsASocketHas(t *testing.T) {
	for name, options := range map[string][][2]int{
		"timestamp":       {{unix.SO_TIMESTAMP, 1}},
		"nanoseconds":     {{unix.SO_TIMESTAMPNS, 1}},
		"drops":           {{unix.SO_RXQ_OVFL, 1}},
		"mark":            {{unix.SO_RCVMARK, 1}},
		"several of them": {{unix.SO_TIMESTAMPING, unix.SOF_TIMESTAMPING_SOFTWARE | unix.SOF_TIMESTAMPING_RX_SOFTWARE}, {unix.SO_TIMESTAMPNS, 1}, {unix.SO_RXQ_OVFL, 1}, {unix.SO_RCVMARK, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			log, o := newMemoryLog(), Options{Sockets: 1}
			conns, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"), o)
			if err != nil {
				t.Fatal(err)
			}
			to := conns[0].LocalAddr()
			raw, err := conns[0].SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			for _, option := range options {
				if e := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, option[0], option[1]) }); e != nil || err != nil {
					t.Fatal(e, err)
				}
			}
			u, err := New(log, conns, o)
			if err != nil {
				t.Fatal(err)
			}
			write(t, segmentingConn(t, to, 10), `{"n":   6 `+`}         `+numbered(7, 1))
			n, limits, err := u.readers[0].receive()
			if n != 1 || err != nil {
				t.Fatal(n, err)
			}
			u.readers[0].ingest(n, limits)
			if want := []string{`{"n":   7}`}; !slices.Equal(log.usages, want) || log.rejected["udp invalid_json"] != 2 {
				t.Errorf("%q, rejected %v", log.usages, log.rejected)
			}
			drain(t, u)
		})
	}
}

// Drops that an earlier server reported are not reported again once this one knows how many
// datagrams a message has.
func TestInheritedDropsAreNotReportedAgain(t *testing.T) {
	var text bytes.Buffer
	o := Options{Sockets: 1, ReceiveBuffer: 64 << 10, Inherited: true, Logger: slog.New(slog.NewTextHandler(&text, nil))}
	conns, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"), o)
	if err != nil {
		t.Fatal(err)
	}
	conn := segmentingConn(t, conns[0].LocalAddr(), 10)
	raw, err := conns[0].SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if e := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, 1) }); e != nil || err != nil {
		t.Fatal(e, err)
	}
	for range 1000 {
		write(t, conn, numbered(0, 64))
	}
	u, err := New(&countingLog{}, conns, o)
	if err != nil {
		t.Fatal(err)
	}
	before := u.KernelDrops()
	if err := u.readers[0].drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	u.checkLosses()
	if got := u.KernelDrops(); got != before || before == 0 || text.Len() > 0 {
		t.Errorf("%d drops, %d before; log: %s", got, before, text.String())
	}
	for range 1000 { // drops of this server are datagrams
		write(t, conn, numbered(0, 64))
	}
	if got := u.KernelDrops() - before; got == 0 || got%64 > 0 {
		t.Errorf("%d more drops, want a multiple of 64", got)
	}
	drain(t, u)
}
