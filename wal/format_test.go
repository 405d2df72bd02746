package wal

import (
	"reflect"
	"testing"
	"time"
)

// TestGoldenIdentity pins the content of LOG in format version 1.
func TestGoldenIdentity(t *testing.T) {
	const golden = "collectord-log 1 0123456789abcdef 00112233445566778899aabbccddeeff 74872a23\n"
	id := identity{0x0123456789abcdef, "00112233445566778899aabbccddeeff"}
	if got := string(id.encode()); got != golden {
		t.Errorf("encoded %q, want %q", got, golden)
	}
	if got, err := decodeIdentity([]byte(golden)); err != nil || got != id {
		t.Errorf("decoded %+v, %v", got, err)
	}
}

// TestGoldenLossNote pins the content and the name of a loss note in format version 1.
func TestGoldenLossNote(t *testing.T) {
	const golden = "collectord-loss 1 0123456789abcdef fedcba9876543210 17 40 evicted 1790000000000000 497222,497223 \"edge-1\" ab964532\n"
	const name = "00000000000000000017-00000000000000000040-fedcba9876543210"
	note := LossNote{
		Node: "edge-1", LogID: 0x0123456789abcdef, Run: 0xfedcba9876543210, FirstSeq: 17, LastSeq: 40,
		Reason: LossEvicted, At: time.UnixMicro(1_790_000_000_000_000).UTC(), Hours: []int64{497222, 497223},
	}
	if got := string(note.encode()); got != golden || note.fileName() != name {
		t.Errorf("encoded %q as %s, want %q as %s", got, note.fileName(), golden, name)
	}
	if got, err := decodeLossNote([]byte(golden)); err != nil || !reflect.DeepEqual(got, note) {
		t.Errorf("decoded %+v, %v", got, err)
	}
}
