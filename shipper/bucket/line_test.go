package bucket

import (
	"encoding/hex"
	"testing"
	"time"
)

func TestLineReturnsItsMembersInAnyOrder(t *testing.T) {
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
		t.Error("a line that is not a record has an id or a usage")
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
	for i := range id { // every value of every byte
		for b := range 256 {
			one := ID{}
			one[i] = byte(b)
			plain := hex.EncodeToString(one[:])
			want := plain[:8] + "-" + plain[8:12] + "-" + plain[12:16] + "-" + plain[16:20] + "-" + plain[20:]
			if got := one.String(); got != want {
				t.Fatalf("%x formats to %s", one[:], got)
			}
		}
	}
}

func TestLineEncoderReusesNothingOfTheRecordBefore(t *testing.T) {
	at := time.Date(2026, 11, 23, 8, 30, 12, 123456000, time.UTC).UnixMicro()
	plain := Record{ID: ID{15: 1}, ReceivedAt: at, Via: "http", Usage: []byte(`{"n":1}`)}
	later, byUDP, named, other := plain, plain, plain, plain
	later.ReceivedAt++
	byUDP.Via = "udp"
	named.Client = `a "clinic"`
	other.Client = "b"
	bad := plain
	bad.Client = "\xff"
	const head = `{"id":"00000000-0000-0000-0000-000000000001","received_at":"2026-11-23T08:30:12.12345`
	var e LineEncoder
	for _, of := range []struct {
		record *Record
		want   string // empty: an error
	}{
		{&bad, ""},
		{&plain, head + `6Z","via":"http","client":null,"usage":{"n":1}}` + "\n"},
		{&plain, head + `6Z","via":"http","client":null,"usage":{"n":1}}` + "\n"},
		{&later, head + `7Z","via":"http","client":null,"usage":{"n":1}}` + "\n"},
		{&plain, head + `6Z","via":"http","client":null,"usage":{"n":1}}` + "\n"},
		{&byUDP, head + `6Z","via":"udp","client":null,"usage":{"n":1}}` + "\n"},
		{&named, head + `6Z","via":"http","client":"a \"clinic\"","usage":{"n":1}}` + "\n"},
		{&bad, ""},
		{&named, head + `6Z","via":"http","client":"a \"clinic\"","usage":{"n":1}}` + "\n"},
		{&other, head + `6Z","via":"http","client":"b","usage":{"n":1}}` + "\n"},
		{&plain, head + `6Z","via":"http","client":null,"usage":{"n":1}}` + "\n"},
	} {
		got, err := e.Append(nil, of.record)
		if string(got) != of.want || (err != nil) != (of.want == "") {
			t.Errorf("got %s, %v, want %s", got, err, of.want)
		}
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
