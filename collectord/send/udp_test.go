package send

import (
	"context"
	"io"
	"log"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

func discard() *log.Logger { return log.New(io.Discard, "", 0) }

// receive reads n datagrams.
func receive(t *testing.T, c *net.UDPConn, n int) (all []string) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, 64<<10)
	for range n {
		size, err := c.Read(b)
		if err != nil {
			t.Fatalf("%d of %d: %v", len(all), n, err)
		}
		all = append(all, string(b[:size]))
	}
	return all
}

func TestDatagramsHaveTheExpectedUsagesInEveryRun(t *testing.T) {
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, o := range []Options{
		{Count: 100},
		{Count: 100, Batch: 7},
		{Count: 100, Batch: 7, Connections: 3},
		{Count: 103, Batch: 10, Prepared: 2},
		{Count: 100, Rate: 10_000},
		{Count: 150, Offload: true},
		{Count: 1003, Batch: 10, Offload: true, Connections: 2},
		{Count: 140, Offload: true, Payload: &Payload{usages: [][]byte{[]byte(`{"a":1}`), []byte(`{"a":2}`), []byte(`{"b":22}`)}}},
		{Count: 7, Batch: 2, Payload: &Payload{usages: [][]byte{[]byte(`{"a":1}`), []byte(`{"b":22}`), []byte(`{"c":333}`)}}},
	} {
		o.Target, o.Seed = "udp://"+c.LocalAddr().String(), 7
		n := int(newPlan(o.withDefaults()).batches)
		var runs [2][]string
		for i := range runs {
			s := mustRun(t, o)
			runs[i] = receive(t, c, n)
			size, usages := 0, 0
			for _, d := range runs[i] {
				size += len(d)
				usages += strings.Count(d, "\n") + 1
			}
			if s.Datagrams != int64(n) || s.UsagesSent != o.Count || usages != int(o.Count) || s.BytesSent != int64(size) || !s.Complete() {
				t.Errorf("%+v: received %d usages in %d bytes, summary %+v", o, usages, size, s)
			}
			slices.Sort(runs[i])
		}
		var want []string
		for i := range o.Count {
			if o.Prepared > 0 { // the prepared ones again and again, except a shorter last one
				if limit := int64(o.Prepared * o.Batch); i < o.Count-o.Count%int64(o.Batch) {
					i %= limit
				}
			}
			want = append(want, string(o.source().appendUsage(nil, i)))
		}
		slices.Sort(want)
		got := strings.Split(strings.Join(runs[0], "\n"), "\n")
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%+v: the received usages are not the expected ones", o)
		}
		if !slices.Equal(runs[0], runs[1]) {
			t.Errorf("%+v: the second run sent other datagrams", o)
		}
	}
}

func TestConnectionRefusedIsReportedEvenForOneDatagram(t *testing.T) {
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	target := "udp://" + c.LocalAddr().String()
	c.Close()
	for _, n := range []int64{1, 2, 500} {
		for _, offload := range []bool{false, true} {
			s := mustRun(t, Options{Target: target, Count: n, Offload: offload})
			minErrors := int64(1)
			if n == 500 && !offload { // also errors before that of the last datagram
				minErrors = 20
			}
			if s.Errors["connection refused: nobody listens"] < minErrors || s.UsagesSent != n || s.Complete() {
				t.Errorf("summary %+v", s)
			}
		}
	}
}

func TestATooLargeDatagramIsAnErrorBeforeAnythingIsSent(t *testing.T) {
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	large := &Payload{usages: [][]byte{[]byte("{}"), []byte("{}"), make([]byte, maxDatagram-1)}}
	o := Options{Target: "udp://" + c.LocalAddr().String(), Payload: large, Batch: 2, Count: 6}
	if _, err := Run(context.Background(), o); err == nil || !strings.Contains(err.Error(), "datagram 1 would have 65509 bytes") {
		t.Errorf("want an error that names datagram 1, got %v", err)
	}
	o.Batch = 1
	mustRun(t, o)
	if got := receive(t, c, 6); len(got[2]) != maxDatagram-1 {
		t.Errorf("the third datagram has %d bytes, want %d", len(got[2]), maxDatagram-1)
	}
}
