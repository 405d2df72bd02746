package httpserver

import (
	"strings"
	"testing"

	"collectord/wal"
)

func TestWhichBufferBytesAreReadInto(t *testing.T) {
	m := newManualConn(t, Options{})
	body := `{"a":"` + strings.Repeat("x", 9000) + `"}`
	head := strings.TrimSuffix(post(body), body)
	m.feed(head, 100)
	for _, sent := range []int{0, 1, 5000} {
		m.feed(body[len(m.request.rawBody):sent], 3000)
		if s := m.feed("", 1); s != stepRead || !m.readsIntoBody || cap(m.in) != firstReadBytes || m.bodyReceived != sent {
			t.Fatalf("after %d bytes of the body: %d, direct: %t, a buffer of %d, %d have arrived", sent, s, m.readsIntoBody, cap(m.in), m.bodyReceived)
		}
		r := m.request
		if at := r.rawBody[:len(r.rawBody)+1]; &at[len(r.rawBody)] != &m.readSpace[0] {
			t.Errorf("after %d bytes, the body is not read into its own memory", sent)
		}
	}
	m.feed(body[5000:], 100_000)
	if got := m.writeStatuses(); got != "201" || m.log.usages[0] != body {
		t.Errorf("status %s, stored %.60q", got, m.log.usages)
	}
	m.feed("POST /api/usages HTTP/1.1\r\nX: "+strings.Repeat("x", 3000), 5000)
	if cap(m.in) != m.server.opts.MaxHeader {
		t.Errorf("a buffer of %d bytes for a long header", cap(m.in))
	}
	m = newManualConn(t, Options{})
	one := post("{}")
	m.feed(one[:20], 1000)
	for range 100 { // consumed bytes do not stay in the buffer
		if s := m.feed(one[20:]+one[:20], 1000); s != stepWrite {
			t.Fatal(s)
		}
		m.writeStatuses()
		if s := m.feed("", 1); s != stepRead || string(m.in) != one[:20] || m.consumed != 0 || cap(m.in) != firstReadBytes {
			t.Fatalf("%d, a buffer of %d bytes with %q, from %d on", s, cap(m.in), m.in, m.consumed)
		}
	}
}

func TestARequestWithoutMemoryIsRejected(t *testing.T) {
	body := strings.Repeat(" ", 5000) + "{}"
	for name, text := range map[string]string{"length": post(body), "chunks": postChunked(body)} {
		for _, maxRead := range []int{100, 3000, 100_000} {
			m := newManualConn(t, Options{MaxInFlight: 1})
			m.server.small.tryReserve(smallBodiesBytes)
			if s := m.feed(text, maxRead); s != stepWrite {
				t.Fatal(s)
			}
			if got := m.writeStatuses(); got != "503 closed" || m.log.rejected["http overloaded"] != 1 || !m.clientMaySend {
				t.Errorf("%s, reads of %d bytes: %s, rejected %v", name, maxRead, got, m.log.rejected)
			}
		}
	}
}

func TestAReleasedRequestReturnsItsBuffers(t *testing.T) {
	h := newServer(t, newMemoryLog(), Options{})
	for len(h.spareRanges)+len(h.spareIDs)+len(h.largeBodies.idle) > 0 {
		select {
		case <-h.spareRanges:
		case <-h.spareIDs:
		case <-h.largeBodies.idle:
		}
	}
	for _, coding := range []coding{identity, gzipped} {
		r := &request{coding: coding, ranges: make([]byteRange, 0, unbudgetedUsages+1), ids: make([]wal.ID, 0, unbudgetedUsages+1), responseBuf: make([]byte, 0, unbudgetedBytes+1)}
		var err error
		if r.rawBody, err = h.grow(nil, smallBodyBytes+1); err != nil {
			t.Fatal(err)
		}
		if r.body = r.rawBody; coding != identity {
			if r.body, err = h.grow(nil, smallBodyBytes+1); err != nil {
				t.Fatal(err)
			}
		}
		h.release(r)
		want := map[bool]int{true: 1, false: 2}[coding == identity]
		if len(h.spareRanges) != 1 || len(h.spareIDs) != 1 || len(h.largeBodies.idle) != want || cap(r.ranges)+cap(r.ids)+cap(r.responseBuf)+cap(r.rawBody) > 0 {
			t.Fatalf("%d spare ranges, %d spare ids, %d spare mappings; the request keeps %+v", len(h.spareRanges), len(h.spareIDs), len(h.largeBodies.idle), r)
		}
		<-h.spareRanges
		<-h.spareIDs
		for range want {
			<-h.largeBodies.idle
		}
	}
}

func TestABodyWithoutAMappingIsRejected(t *testing.T) {
	for name, text := range map[string]string{"length": post(strings.Repeat(" ", 2*smallBodyBytes)), "chunks": postChunked(strings.Repeat(" ", 2*smallBodyBytes))} {
		m := newManualConn(t, Options{})
		m.server.largeBodies = newMappings(1 << 60) // more than any address space
		if s := m.feed(text, 100_000); s != stepWrite {
			t.Fatal(s)
		}
		if got := m.writeStatuses(); got != "503 closed" || m.log.rejected["http overloaded"] != 1 {
			t.Errorf("%s: %s, rejected %v", name, got, m.log.rejected)
		}
	}
}
