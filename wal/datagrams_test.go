package wal_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"collectord/collectord/udpserver"
	"collectord/wal"
	"collectord/wal/vfs"
)

// TestWhatAStalledDiskAndAnHourBoundaryCostIsCountedToTheRecord sends numbered
// datagrams as fast as it can, over the turn of an hour, while a sync of the disk
// takes two seconds. Some are lost: each is one that the kernel or the log
// counted, and the rest is in the log, once and in order.
func TestWhatAStalledDiskAndAnHourBoundaryCostIsCountedToTheRecord(t *testing.T) {
	t.Parallel()
	const stall = 2 * time.Second
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	began := time.Now()
	hour := began.Truncate(time.Hour).Add(time.Hour)
	var stalled atomic.Int64 // 0: not yet, 1: now, 2: over
	log, err := wal.Open(t.TempDir(), wal.Options{SegmentSize: 4 << 20, QueueBytes: 2 << 20, Logger: logger}.
		WithClock(func() time.Time { return hour.Add(time.Since(began) - stall/2) }). // the hour turns while the disk stalls
		WithDatasync(func(f vfs.File) error {
			if time.Since(began) > stall/5 && stalled.CompareAndSwap(0, 1) {
				<-time.After(stall)
				stalled.Store(2)
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
	door, err := udpserver.New(log, conns, o)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("udp", conns[0].LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	door.Start()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	sent, body := uint64(0), []byte(nil)
	for end := (time.Time{}); end.IsZero() || time.Now().Before(end); sent++ {
		body = fmt.Appendf(body[:0], `{"n":%d,"timestamp":"2026-11-23T08:30:12Z","medication":"Salbutamol"}`, sent)
		if _, err := conn.Write(body); err != nil {
			t.Fatal(err)
		}
		if end.IsZero() && stalled.Load() == 2 {
			end = time.Now().Add(stall / 5)
		}
	}
	if err := door.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	if err := log.Seal(ctx); err != nil {
		t.Fatal(err)
	}
	read, _ := door.Datagrams()
	kernel := door.KernelDrops()
	g := log.Ledger().BySource[wal.UDP]
	overloaded := g.Rejected[wal.ReasonOverloaded]
	if sent != read+kernel || read != g.Received || g.Received != g.Accepted+overloaded || g.Accepted != g.Appended || g.Waiting != 0 {
		t.Errorf("%d sent, %d read, %d dropped by the kernel; %+v", sent, read, kernel, g)
	}
	if overloaded == 0 {
		t.Error("the stall cost nothing, so this proves nothing")
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
		t.Errorf("%d records of %d hours in the log, %d appended", records, len(hours), g.Appended)
	}
	t.Logf("%d sent: %d dropped by the kernel, %d refused by a full queue, %d in the log, in %d segments", sent, kernel, overloaded, records, len(sealed))
	if err := log.Close(); err != nil {
		t.Error(err)
	}
}
