package wal_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"collectord/collectord/udpserver"
	"collectord/wal"
	"collectord/wal/vfs"
)

// TestLossesOfAStalledDiskAtAnHourBoundaryAreCountedExactly sends numbered datagrams at
// full speed across the turn of an hour, while a sync takes two seconds, or longer
// until some are lost. The kernel or the log must have counted each lost datagram. The
// others are in the log, once and in order.
func TestLossesOfAStalledDiskAtAnHourBoundaryAreCountedExactly(t *testing.T) {
	t.Parallel()
	const stall = 500 * time.Millisecond
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	hour := time.Now().Truncate(time.Hour).Add(time.Hour)
	var syncs atomic.Int64
	var began atomic.Pointer[time.Time] // when the stall began
	someLost, stallEnded := make(chan struct{}), make(chan struct{})
	endStall := sync.OnceFunc(func() { close(someLost) })
	log, err := wal.Open(t.TempDir(), wal.Options{SegmentSize: 4 << 20, QueueBytes: 2 << 20, CommitTimeout: testLimit, Logger: logger}.
		WithClock(func() time.Time { // the hour changes during the stall
			if at := began.Load(); at != nil {
				return hour.Add(time.Since(*at) - stall/2)
			}
			return hour.Add(-stall / 2)
		}).
		WithDatasync(func(f vfs.File) error {
			if syncs.Add(1) == 20 {
				now := time.Now()
				began.Store(&now)
				<-time.After(stall)
				<-someLost
				close(stallEnded)
			}
			return f.Datasync()
		}))
	if err != nil {
		t.Fatal(err)
	}
	o := udpserver.Options{Sockets: 2, ReceiveBuffer: 1 << 20, Logger: logger}
	conns, err := udpserver.Listen(netip.MustParseAddrPort("127.0.0.1:0"), o)
	if err != nil {
		t.Fatal(err)
	}
	server, err := udpserver.New(log, conns, o)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("udp", conns[0].LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	server.Start()
	ctx, cancel := context.WithTimeout(context.Background(), testLimit)
	defer cancel()

	start, sent, body := time.Now(), uint64(0), []byte(nil)
	defer endStall()
	for end := (time.Time{}); end.IsZero() || time.Now().Before(end); sent++ {
		body = fmt.Appendf(body[:0], `{"n":%d,"timestamp":"2026-11-23T08:30:12Z","medication":"Salbutamol"}`, sent)
		if _, err := conn.Write(body); err != nil {
			t.Fatal(err)
		}
		if time.Since(start) > testLimit {
			t.Fatal("no datagram is lost")
		}
		if sent%1000 == 0 && log.Ledger().BySource[wal.UDP].Rejected[wal.ReasonOverloaded] > 0 {
			endStall()
		}
		select {
		case <-stallEnded:
			if end.IsZero() {
				end = time.Now().Add(stall / 5)
			}
		default:
		}
	}
	if err := server.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	if err := log.Seal(ctx); err != nil {
		t.Fatal(err)
	}
	read, _ := server.Datagrams()
	kernel := server.KernelDrops()
	g := log.Ledger().BySource[wal.UDP]
	overloaded := g.Rejected[wal.ReasonOverloaded]
	if sent != read+kernel || read != g.Received || g.Received != g.Accepted+overloaded || g.Accepted != g.Appended || g.Waiting != 0 {
		t.Errorf("%d sent, %d read, %d dropped by the kernel; %+v", sent, read, kernel, g)
	}
	if overloaded == 0 {
		t.Error("the stall lost no record, so the test proves nothing")
	}

	sealed, _ := log.Sealed()
	records, last, hours := uint64(0), -1, map[int64]bool{}
	for _, s := range sealed {
		var own int64
		for r, err := range s.Records() {
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			if _, err := fmt.Sscanf(string(r.Usage), `{"n":%d,`, &n); err != nil || n <= last {
				t.Fatalf("%s after number %d: %v", r.Usage, last, err)
			}
			last = n
			records++
			if own = max(own, r.ReceivedAt/time.Hour.Microseconds()); own != r.ReceivedAt/time.Hour.Microseconds() {
				t.Fatalf("segment %s spans two hours", s)
			}
		}
		hours[own] = true
	}
	if records != g.Appended || len(hours) != 2 {
		t.Errorf("%d records of %d hours in the log, want %d of 2 hours", records, len(hours), g.Appended)
	}
	t.Logf("%d sent: %d dropped by the kernel, %d refused by a full queue, %d in the log, in %d segments", sent, kernel, overloaded, records, len(sealed))
	if err := log.Close(); err != nil {
		t.Error(err)
	}
}
