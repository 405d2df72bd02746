package bucket

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"collectord/shipper/bucket/s3test"
)

// TestAMeterCountsEachByteOnce: bytes are counted when they are read or when the kernel has
// received them, whichever comes first.
func TestAMeterCountsEachByteOnce(t *testing.T) {
	const before = 1_000_000 // bytes of earlier answers on the connection
	read := func(n int) func(*meter) { return func(m *meter) { m.beginWait(); m.endWait(n) } }
	kernel := func(n uint64) func(*meter) { return func(m *meter) { m.arrived(before + n) } }
	wait := (*meter).beginWait
	reconnect := (*meter).connected
	for name, c := range map[string]struct {
		steps []func(*meter)
		want  int64
	}{
		"read":                                 {[]func(*meter){read(10), read(20)}, 30},
		"the kernel was not asked before":      {[]func(*meter){kernel(50)}, 0},
		"the kernel has more than was read":    {[]func(*meter){kernel(0), read(10), kernel(50)}, 50},
		"while the reader waits":               {[]func(*meter){kernel(0), wait, kernel(50)}, 50},
		"then it is read":                      {[]func(*meter){kernel(0), kernel(50), read(10), read(40)}, 50},
		"more is read than the kernel said":    {[]func(*meter){kernel(0), kernel(50), read(60), kernel(60)}, 60},
		"a burst between two questions":        {[]func(*meter){kernel(0), read(3000), kernel(3000), read(10), read(20)}, 3030},
		"a burst before the first question":    {[]func(*meter){read(3000), kernel(3000), kernel(3010)}, 3010},
		"the connection is closed":             {[]func(*meter){kernel(0), kernel(50), func(m *meter) { m.arrived(0) }, read(60)}, 60},
		"another connection, with a past":      {[]func(*meter){kernel(0), kernel(50), reconnect, kernel(7000), kernel(7010)}, 60},
		"a past that is shorter than the read": {[]func(*meter){read(100), reconnect, func(m *meter) { m.arrived(10) }, func(m *meter) { m.arrived(20) }}, 110},
	} {
		pace := &Pace{}
		m := newMeter(pace, DefaultStall)
		for _, step := range c.steps {
			step(m)
		}
		if got := pace.received.Load(); got != c.want {
			t.Errorf("%s: %d bytes are counted, want %d", name, got, c.want)
		}
	}
}

// TestAMeterChecksOnlyWhatTheCallerWaitsFor simulates seconds.
func TestAMeterChecksOnlyWhatTheCallerWaitsFor(t *testing.T) {
	const stall = 20 * time.Second
	for name, c := range map[string]struct {
		header  int // seconds until the header arrives
		seconds int // after the header
		rate    int // bytes a second of the answer
		others  int // number of other answers that are waited for
		rates   int // bytes a second of all other answers
		idle    bool
		want    bool // given up
	}{
		"a late header":                       {header: 19, seconds: 19},
		"a late header, and nothing after it": {header: 19, seconds: 20, want: true},
		"nobody waits":                        {seconds: 100, idle: true},
		"an even share of 40":                 {seconds: 100, rate: 400, others: 39, rates: 39 * 400},
		"half of it":                          {seconds: 100, rate: 200, others: 39, rates: 39 * 400},
		"a hundredth of it":                   {seconds: 100, rate: 4, others: 39, rates: 39 * 400, want: true},
		"a slow disk beside quick ones":       {seconds: 100, rate: 5000, others: 3, rates: 50_000_000},
		"a slower one":                        {seconds: 100, rate: 4000, others: 3, rates: 50_000_000, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pace := &Pace{}
				m, gaveUp := newMeter(pace, stall), false
				for range c.others {
					newMeter(pace, stall)
				}
				step := func(arrived int) {
					time.Sleep(time.Second)
					m.endWait(arrived)
					if !c.idle {
						m.beginWait()
					}
					pace.received.Add(int64(c.rates))
					gaveUp = gaveUp || m.check() != nil
				}
				for range c.header {
					time.Sleep(time.Second)
					gaveUp = gaveUp || m.check() != nil
				}
				m.endWait(0)
				m.answered()
				if !c.idle {
					m.beginWait()
				}
				for range c.seconds {
					step(c.rate)
				}
				if gaveUp != c.want {
					t.Errorf("given up: %v", gaveUp)
				}
			})
		})
	}
}

// TestAMeterForgetsTheFormerConnection: the second connection has received a megabyte of earlier
// answers.
func TestAMeterForgetsTheFormerConnection(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	pace := &Pace{}
	w := newWatch(t.Context(), &CallOptions{Pace: pace})
	defer w.end()
	for _, size := range []int{1000, 1_000_000} {
		out, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		in, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		sent := make(chan error, 1)
		go func() {
			_, err := in.Write(make([]byte, size))
			sent <- err
		}()
		for n := 0; n < size; {
			k, err := out.Read(make([]byte, size))
			if n += k; err != nil {
				t.Fatal(err)
			}
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		w.setConn(out)
		w.setSending(true)
		w.setSending(true)
	}
	if n := pace.received.Load(); n != 0 {
		t.Errorf("%d bytes are counted", n)
	}
}

func TestAFailedCallWaitsNoLonger(t *testing.T) {
	f, err := s3test.New()
	if err != nil {
		t.Fatal(err)
	}
	s := testS3(t, f.URL, s3test.Bucket, "")
	f.Close()
	pace := &Pace{}
	if _, _, err := s.Open(WithCallOptions(t.Context(), &CallOptions{Pace: pace}), "a"); err == nil {
		t.Error("a closed storage answers")
	}
	if n := pace.waiting.Load(); n != 0 {
		t.Errorf("%d answers are waited for", n)
	}
}
