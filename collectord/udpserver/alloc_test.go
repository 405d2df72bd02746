//go:build !race

// The race detector drops items of pools at random, which allocates.

package udpserver

import (
	"net/netip"
	"strings"
	"testing"
)

func TestReadingDatagramsAllocatesNothing(t *testing.T) {
	good := `{"patientId":"100","timestamp":"2026-11-23T08:30:12Z","medication":"Salbutamol","puffs":2}`
	for name, c := range map[string]struct {
		text             string
		usages, rejected int
	}{
		"a usage":          {good, 1, 0},
		"several":          {strings.Repeat(good+"\n", 14), 14, 0},
		"not JSON":         {"\x00\x01garbage", 0, 1},
		"bad UTF-8":        {"{\"a\":\"\xff\"}", 0, 1},
		"invalid lines":    {strings.Repeat("{\n", 500), 0, 500},
		"other values":     {strings.Repeat("[1e400,{\"a\":1,\"a\":2}]\n", 50), 0, 50},
		"good after bad":   {`{"a":1e400}{}` + "\n" + good, 1, 1},
		"too deep":         {strings.Repeat(`{"a":`, 200), 0, 1},
		"a duplicate name": {`{"a":1,"a":2}`, 0, 1},
		"an escaped name":  {strings.Repeat(`{"\u0061":1,"\u0061":2}`+"\n", 50), 0, 50},
		"a lone surrogate": {`{"a":"\ud800"}`, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			log := &countingLog{}
			o := Options{Sockets: 1, Limits: Limits{Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8")}}}
			u, conn := openNotStarted(t, log, "127.0.0.1:0", o)
			r, datagram, runs := u.readers[0], []byte(c.text), 0
			batch := func() {
				for range 8 {
					if _, err := conn.Write(datagram); err != nil {
						t.Fatal(err)
					}
				}
				n, limits, err := r.receive()
				if n != 8 || err != nil {
					t.Fatal(n, err)
				}
				r.ingest(n, limits)
				runs++
			}
			for range 3 { // allocates the memory
				batch()
			}
			if n := testing.AllocsPerRun(100, batch); n > 0 {
				t.Errorf("%v allocations for 8 datagrams", n)
			}
			if accepted, rejected := log.enqueued.Load(), log.rejected.Load(); accepted != int64(8*runs*c.usages) || rejected != int64(8*runs*c.rejected) {
				t.Errorf("%d usages accepted and %d rejected of %d datagrams", accepted, rejected, 8*runs)
			}
			drain(t, u)
		})
	}
}
