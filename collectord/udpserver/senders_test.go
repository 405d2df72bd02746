package udpserver

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
)

// TestSendersAreDistinguishedWhenTheLimitsChange has datagrams of two senders in each
// batch. The kernel writes the senders' addresses only while the limits restrict them.
func TestSendersAreDistinguishedWhenTheLimitsChange(t *testing.T) {
	for _, c := range []struct{ first, second, neither string }{
		{"127.0.0.1", "127.0.0.2", "192.0.2.1"},
		{"::1", "::1", "2001:db8::1"},
	} {
		log := newMemoryLog()
		u, first := openNotStarted(t, log, net.JoinHostPort(c.first, "0"), Options{Sockets: 1})
		second, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(c.second)}, first.RemoteAddr().(*net.UDPAddr))
		if err != nil {
			t.Fatal(err)
		}
		defer second.Close()
		r, rejected := u.readers[0], 0
		for _, allowed := range []string{"", c.second, c.first, "", c.neither, "", c.second} {
			var allow []netip.Prefix
			if allowed != "" {
				addr := netip.MustParseAddr(allowed)
				allow = []netip.Prefix{netip.PrefixFrom(addr, addr.BitLen())}
			}
			u.SetLimits(Limits{Allow: allow})
			var want []string
			for n := range 20 {
				conn, from := first, c.first
				if n%2 > 0 {
					conn, from = second, c.second
				}
				text := fmt.Sprintf(`{"only":%q,"n":%d}`, allowed, n)
				if _, err := conn.Write([]byte(text)); err != nil {
					t.Fatal(err)
				}
				if allowed == "" || allowed == from {
					want = append(want, text)
				} else {
					rejected++
				}
			}
			n, limits, err := r.receive()
			if n != 20 || err != nil {
				t.Fatal(n, err)
			}
			if allowed == "" {
				allow = []netip.Prefix{netip.MustParsePrefix("::/128")} // from the next batch on
			}
			u.SetLimits(Limits{Allow: allow})
			r.ingest(n, limits)
			if !slices.Equal(log.usages, want) || log.rejected["udp not_allowed"] != rejected {
				t.Errorf("allowed %q: %q, want %q; %d rejected, want %d", allowed, log.usages, want, log.rejected["udp not_allowed"], rejected)
			}
			log.usages = nil
		}
		drain(t, u)
	}
}
