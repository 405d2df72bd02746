package wal

import (
	"bytes"
	"testing"
)

func TestIDsRiseWhateverTheClockDoes(t *testing.T) {
	var s idSource
	s.reseed()
	var last ID
	clock := int64(1_700_000_000_000)
	for i := range 10_000 {
		switch i % 1000 {
		case 100:
			clock += 3_600_000
		case 300:
			clock -= 86_400_000
		case 500:
			s.reseed()
		case 700:
			s.lo = 1<<62 - 2 // about to overflow into hi
		}
		id := s.next(clock)
		if bytes.Compare(id[:], last[:]) <= 0 {
			t.Fatalf("id %d: %s follows %s", i, id, last)
		}
		if id[6]>>4 != 7 || id[8]>>6 != 2 {
			t.Fatalf("%s is not a UUIDv7", id)
		}
		last = id
	}
}

func TestIDText(t *testing.T) {
	id := ID{0x01, 0x9a, 0xaf, 0x5e, 0x6c, 0x1e, 0x7b, 0x3a, 0x9c, 0x41, 0x1f, 0x2e, 0x3d, 0x4c, 0x5b, 0x6a}
	if got := id.String(); got != "019aaf5e-6c1e-7b3a-9c41-1f2e3d4c5b6a" {
		t.Error(got)
	}
}
