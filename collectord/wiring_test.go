package main

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"collectord/config"
)

func TestDatagramsOfBothFamiliesAreReceivedOnOnePort(t *testing.T) {
	port := uint16(freePorts(t, 1)[0])
	cfg := &config.Config{UDP: config.UDP{Sockets: 2, ReceiveBuffer: 1 << 16, MaxDatagram: 1 << 10}}
	for _, ip := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		cfg.UDP.Listen = append(cfg.UDP.Listen, config.Address{Network: "udp", IP: netip.AddrPortFrom(ip, port)})
	}
	logger := slog.New(slog.DiscardHandler)
	withoutManager := newSocketStore("", nil, logger) // without a service manager
	listening, err := listen(cfg, nil, withoutManager, logger)
	if err != nil {
		t.Fatal(err)
	}
	defer listening.close()
	if len(listening.udp) != 4 {
		t.Errorf("%d sockets", len(listening.udp))
	}
	for _, a := range cfg.UDP.Listen {
		again := &config.Config{UDP: cfg.UDP}
		again.UDP.Listen = []config.Address{a}
		if second, err := listen(again, nil, withoutManager, logger); err == nil {
			second.close()
			t.Errorf("a second daemon shares %s", a)
		} else if !strings.Contains(err.Error(), "address already in use") {
			t.Error(err)
		}
	}
}
