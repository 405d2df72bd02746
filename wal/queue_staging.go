package wal

import (
	"collectord/wal/segment"
)

// staging holds encoded records in the order in which they came, until a commit
// takes them. Their id and time are left blank until then, so that ids, times
// and sequence numbers agree in order.
//
// It grows and shrinks by blocks outside of the garbage collector's heap, so that
// records are never moved, and what a burst took is given back at once.
type staging struct {
	blocks [][]byte // oldest first; none is empty
	from   int      // start of the first record in the first block that was not taken
	bytes  int      // that were not taken
	added  uint64   // bytes that were ever added
	spare  [][]byte // empty blocks for reuse
}

// Size of a block, and how many are kept when they are empty. A record that is
// larger has a block to itself.
const (
	stagingBlock = 256 << 10
	stagingSpare = 4
)

func (s *staging) size() int { return s.bytes }

// add encodes r unless the records would be more than limit bytes.
func (s *staging) add(r *Record, limit int64) bool {
	size := r.Size()
	if int64(s.bytes+size) > limit {
		return false
	}
	last := len(s.blocks) - 1
	if last < 0 || len(s.blocks[last])+size > cap(s.blocks[last]) {
		s.blocks = append(s.blocks, s.block(size))
		last++
	}
	s.blocks[last] = segment.AppendRecord(s.blocks[last], r)
	s.bytes += size
	s.added += uint64(size)
	return true
}

// block returns an empty one with room for size bytes.
func (s *staging) block(size int) (b []byte) {
	n := len(s.spare)
	if n == 0 || size > stagingBlock {
		return mapMemory(max(size, stagingBlock))[:0]
	}
	b, s.spare = s.spare[n-1], s.spare[:n-1]
	return b
}

// head returns the first record, or nil. It is valid until it is dropped.
func (s *staging) head() []byte {
	if s.bytes == 0 {
		return nil
	}
	b := s.blocks[0][s.from:]
	return b[:segment.NextSize(b)]
}

// taken is how many of all bytes that were added have been dropped.
func (s *staging) taken() uint64 { return s.added - uint64(s.bytes) }

// drop forgets the first record, which has n bytes.
func (s *staging) consume(n int) {
	s.from += n
	s.bytes -= n
	first := s.blocks[0]
	if s.from < len(first) {
		return
	}
	s.from = 0
	if len(s.spare) < stagingSpare && cap(first) == stagingBlock {
		s.spare = append(s.spare, first[:0])
	} else {
		unmapMemory(first)
	}
	last := len(s.blocks) - 1
	copy(s.blocks, s.blocks[1:]) // so that the front of the slice is used again
	s.blocks[last] = nil
	s.blocks = s.blocks[:last]
}

// free gives back all blocks. The staging is empty then.
func (s *staging) free() {
	for _, b := range append(s.blocks, s.spare...) {
		unmapMemory(b)
	}
	*s = staging{}
}
