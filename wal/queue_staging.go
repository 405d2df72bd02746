package wal

import (
	"collectord/wal/segment"
)

// staging holds encoded UDP records in the order of their arrival until a commit takes
// them. Id and time are filled in only then, so that ids, times and seqs rise together.
//
// It consists of blocks outside of the garbage collector's heap: records never move,
// and memory that a burst took is returned to the system at once.
type staging struct {
	blocks [][]byte // oldest first; none is empty
	from   int      // start of the first staged record in blocks[0]
	bytes  int      // staged now
	added  uint64   // bytes ever staged
	spare  [][]byte // empty blocks for reuse
}

// stagingBlock is the size of a block in bytes; a larger record has a block to itself.
// stagingSpare is how many empty blocks are kept.
const (
	stagingBlock = 256 << 10
	stagingSpare = 4
)

func (s *staging) size() int { return s.bytes }

// add encodes r, or returns false if more than limit bytes would be staged.
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

// block returns an empty block with room for size bytes.
func (s *staging) block(size int) (b []byte) {
	n := len(s.spare)
	if n == 0 || size > stagingBlock {
		return mapMemory(max(size, stagingBlock))[:0]
	}
	b, s.spare = s.spare[n-1], s.spare[:n-1]
	return b
}

// head returns the first record, or nil. It is valid until it is consumed.
func (s *staging) head() []byte {
	if s.bytes == 0 {
		return nil
	}
	b := s.blocks[0][s.from:]
	return b[:segment.NextSize(b)]
}

// taken is the number of bytes ever consumed.
func (s *staging) taken() uint64 { return s.added - uint64(s.bytes) }

// consume removes the first record, which has n bytes.
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
	copy(s.blocks, s.blocks[1:]) // in place, so that append reuses the array
	s.blocks[last] = nil
	s.blocks = s.blocks[:last]
}

// free unmaps all blocks and leaves the staging empty.
func (s *staging) free() {
	for _, b := range append(s.blocks, s.spare...) {
		unmapMemory(b)
	}
	*s = staging{}
}
