package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
)

func TestThePortHolderIsNamed(t *testing.T) {
	tcp4, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp4.Close()
	wildcard, err := net.ListenPacket("udp", ":0") // both families, if the host has both
	if err != nil {
		t.Fatal(err)
	}
	defer wildcard.Close()
	of := func(a net.Addr) uint16 { return a.(interface{ AddrPort() netip.AddrPort }).AddrPort().Port() }
	for _, c := range []struct {
		key, network, address string
		port                  uint16
	}{
		{"http.listen", "tcp4", "127.0.0.1", of(tcp4.Addr())},
		{"admin.listen", "tcp4", "0.0.0.0", of(tcp4.Addr())},
		{"udp.listen", "udp4", "127.0.0.1", of(wildcard.LocalAddr())},
	} {
		listen := func() (err error) {
			if strings.HasPrefix(c.network, "udp") {
				_, err = net.ListenPacket(c.network, fmt.Sprintf("%s:%d", c.address, c.port))
			} else {
				_, err = net.Listen(c.network, fmt.Sprintf("%s:%d", c.address, c.port))
			}
			return err
		}
		flag := strings.ReplaceAll(c.key, ".", "-")
		text := bindError(c.key, listen()).Error()
		for _, part := range []string{c.key + ": listen " + c.network, fmt.Sprintf("(process %d): stop that", os.Getpid()), "--" + flag, "COLLECTORD_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))} {
			if !strings.Contains(text, part) {
				t.Errorf("%s lacks %q", text, part)
			}
		}
	}
	// A socket on another address of the port is no conflict.
	if got := (socketTables{}).findHolder("tcp4", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), of(tcp4.Addr()))).String(); strings.Contains(got, fmt.Sprint(os.Getpid())) {
		t.Error(got)
	}
}

func TestProcNetAddressesAreParsed(t *testing.T) {
	for text, want := range map[string]string{
		"0100007F:0BB8":                         "127.0.0.1:3000",
		"00000000000000000000000001000000:0BB8": "[::1]:3000",
		"0000000000000000FFFF00000100007F:0050": "127.0.0.1:80",
		"B80D0120000000000000000001000000:0050": "[2001:db8::1]:80",
	} {
		if got, ok := parseLocal(text); !ok || got.String() != want {
			t.Errorf("%s is read as %v (%t), want %s", text, got, ok, want)
		}
	}
	for _, text := range []string{"", ":", "0100007F", "0100:0BB8", "0100007F:10000"} {
		if got, ok := parseLocal(text); ok {
			t.Errorf("%q is read as %v", text, got)
		}
	}
}
