package wal

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"collectord/wal/segment"
)

func TestStagedRecordsKeepTheirOrderWithinTheLimit(t *testing.T) {
	s := staging{buffers: &buffers{}}
	const limit = 4 << 20
	in, out := 0, 0
	record := func(i int) Record {
		text := fmt.Sprintf(`{"n":%d}`, i)
		if i%50000 == 999 { // larger than a block
			text = fmt.Sprintf(`{"n":%d,"x":%q}`, i, strings.Repeat("x", segment.MaxFrame))
		}
		return Record{Usage: []byte(text), Source: UDP}
	}
	for round := range 3 {
		for r := record(in); s.add(&r, limit); r = record(in) {
			in++
		}
		if s.size() > limit || s.size() < limit-2*segment.MaxFrame {
			t.Fatalf("%d bytes are staged at the limit", s.size())
		}
		for ; out < in-round*100; out++ { // some remain
			want := record(out)
			head := s.head()
			if !bytes.Equal(head, segment.AppendRecord(nil, &want)) {
				t.Fatalf("record %d is %d bytes, not %d", out, len(head), want.Size())
			}
			s.consume(len(head))
		}
	}
	for s.head() != nil {
		s.consume(len(s.head()))
		out++
	}
	defer s.buffers.free()
	if in != out || s.size() != 0 || len(s.blocks) > 0 || len(s.buffers.spare) > keptBuffers {
		t.Errorf("%d in, %d out; %d bytes, %d blocks and %d spare buffers left", in, out, s.size(), len(s.blocks), len(s.buffers.spare))
	}
}

func TestStagingAllocatesNothingWhileItKeepsUp(t *testing.T) {
	s := staging{buffers: &buffers{}}
	r := Record{Usage: bytes.Repeat([]byte("x"), 100), Source: UDP}
	if n := testing.AllocsPerRun(100, func() {
		for range 2 * segment.MaxFrame / r.Size() {
			s.add(&r, 8<<20)
		}
		for s.head() != nil {
			s.consume(len(s.head()))
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
