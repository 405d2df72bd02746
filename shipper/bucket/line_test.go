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
