package bucket

import (
	"testing"
)

func TestALineTellsItsPartsWhoeverWroteIt(t *testing.T) {
	id := "01a20a8b-0000-7000-8000-000000000001"
	for _, line := range []string{
		`{"id":"` + id + `","received_at":"2026-11-23T08:30:12.123456Z","via":"http","client":"x,\"usage\":","usage":{"usage":1}}` + "\n",
		`{"usage":{"usage":1},"received_at":"2026-11-23T08:30:12.123456Z","id":"` + id + `"}` + "\n",
	} {
		l := Line(line)
		if got, ok := l.ID(); !ok || got.String() != id || string(l.Usage()) != `{"usage":1}` || string(l.ReceivedAt()) != "2026-11-23T08:30:12.123456Z" {
			t.Errorf("%s: id %v, usage %s, received %s", line, got, l.Usage(), l.ReceivedAt())
		}
	}
	if _, ok := Line("nonsense\n").ID(); ok || len(Line("nonsense\n").Usage()) > 0 {
		t.Error("nonsense has an id")
	}
}

func TestAnIDIsTextOf36Characters(t *testing.T) {
	var id ID
	for i := range id {
		id[i] = byte(0x11*i + 0x80)
	}
	const text = "8091a2b3-c4d5-e6f7-0819-2a3b4c5d6e7f"
	if got := string(id.AppendTo([]byte("id: "))); got != "id: "+text {
		t.Errorf("%s", got)
	}
	if got, err := ParseID(text); got != id || err != nil {
		t.Errorf("%v, %v", got, err)
	}
}

func BenchmarkIDAppendTo(b *testing.B) {
	id := ID{0x01, 0xa2, 0x0a, 0x8b, 6: 0x70, 15: 1}
	dst := make([]byte, 0, len(textID{}))
	b.ReportAllocs()
	for b.Loop() {
		dst = id.AppendTo(dst[:0])
	}
}

func BenchmarkLineEncoder(b *testing.B) {
	r := &Record{ID: ID{6: 0x70, 15: 1}, Via: "http", Client: "edge", Usage: []byte(`{"device":"inhaler-17","at":"2026-11-23T08:30:12Z","dose":2}`)}
	var e LineEncoder
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst, _ = e.Append(dst[:0], r)
	}
}
