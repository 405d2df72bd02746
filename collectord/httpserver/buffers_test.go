package httpserver

import (
	"strings"
	"testing"

	"collectord/wal"
)

func TestWhereBytesAreRead(t *testing.T) {
	m := newManual(t, Options{})
	body := `{"a":"` + strings.Repeat("x", 9000) + `"}`
	head := strings.TrimSuffix(post(body), body)
	m.gives(head, 100)
	for _, sent := range []int{0, 1, 5000} {
		m.gives(body[len(m.request.arriving):sent], 3000)
		if s := m.gives("", 1); s != stepRead || !m.direct || cap(m.in) != firstRead || m.arrived != sent {
			t.Fatalf("after %d bytes of the body: %d, direct: %t, a buffer of %d, %d have arrived", sent, s, m.direct, cap(m.in), m.arrived)
		}
		r := m.request
		if at := r.arriving[:len(r.arriving)+1]; &at[len(r.arriving)] != &m.space[0] {
			t.Errorf("after %d bytes of the body it is read elsewhere", sent)
		}
	}
	m.gives(body[5000:], 100_000)
	if got := m.answers(); got != "201" || m.log.usages[0] != body {
		t.Errorf("%s", got)
	}
	m.gives("POST /api/usages HTTP/1.1\r\nX: "+strings.Repeat("x", 3000), 5000)
	if cap(m.in) != m.server.opts.MaxHeader {
		t.Errorf("a buffer of %d bytes for a long header", cap(m.in))
	}
	m = newManual(t, Options{})
	one := post("{}")
	m.gives(one[:20], 1000)
	for range 100 { // of what is consumed nothing stays in the buffer
		if s := m.gives(one[20:]+one[:20], 1000); s != stepWrite {
			t.Fatal(s)
		}
		m.answers()
		if s := m.gives("", 1); s != stepRead || string(m.in) != one[:20] || m.from != 0 || cap(m.in) != firstRead {
			t.Fatalf("%d, a buffer of %d bytes with %q, from %d on", s, cap(m.in), m.in, m.from)
		}
	}
}

func TestARequestWithoutMemoryIsRejected(t *testing.T) {
	body := strings.Repeat(" ", 5000) + "{}"
	for name, text := range map[string]string{"length": post(body), "chunks": chunked(body)} {
		for _, most := range []int{100, 3000, 100_000} {
			m := newManual(t, Options{MaxInFlight: 1})
			m.server.small.take(smallBodies)
			if s := m.gives(text, most); s != stepWrite {
				t.Fatal(s)
			}
			if got := m.answers(); got != "503 closed" || m.log.rejected["http overloaded"] != 1 || !m.unread {
				t.Errorf("%s, %d bytes at once: %s, counted %v", name, most, got, m.log.rejected)
			}
		}
	}
}

func TestAReleasedRequestGivesItsBuffersBack(t *testing.T) {
	h := newServer(t, newMemoryLog(), Options{})
	for len(h.spareParts)+len(h.spareIDs)+len(h.largeBodies.idle) > 0 {
		select {
		case <-h.spareParts:
		case <-h.spareIDs:
		case <-h.largeBodies.idle:
		}
	}
	for _, coding := range []coding{identity, gzipped} {
		r := &request{coding: coding, parts: make([]part, 0, freeParts+1), ids: make([]wal.ID, 0, freeParts+1), answer: make([]byte, 0, freeBytes+1)}
		var err error
		if r.arriving, err = h.grow(nil, smallBody+1); err != nil {
			t.Fatal(err)
		}
		if r.body = r.arriving; coding != identity {
			if r.body, err = h.grow(nil, smallBody+1); err != nil {
				t.Fatal(err)
			}
		}
		h.release(r)
		want := map[bool]int{true: 1, false: 2}[coding == identity]
		if len(h.spareParts) != 1 || len(h.spareIDs) != 1 || len(h.largeBodies.idle) != want || cap(r.parts)+cap(r.ids)+cap(r.answer)+cap(r.arriving) > 0 {
			t.Fatalf("%d, %d and %d buffers for others; it keeps %+v", len(h.spareParts), len(h.spareIDs), len(h.largeBodies.idle), r)
		}
		<-h.spareParts
		<-h.spareIDs
		for range want {
			<-h.largeBodies.idle
		}
	}
}

func TestABodyWithoutAMappingIsRejected(t *testing.T) {
	for name, text := range map[string]string{"length": post(strings.Repeat(" ", 2*smallBody)), "chunks": chunked(strings.Repeat(" ", 2*smallBody))} {
		m := newManual(t, Options{})
		m.server.largeBodies = newMappings(1 << 60) // more than any address space
		if s := m.gives(text, 100_000); s != stepWrite {
			t.Fatal(s)
		}
		if got := m.answers(); got != "503 closed" || m.log.rejected["http overloaded"] != 1 {
			t.Errorf("%s: %s, counted %v", name, got, m.log.rejected)
		}
	}
}
