package wal

import (
	"time"

	"collectord/wal/segment"
)

// staging holds encoded UDP records in the order of their arrival until a commit takes
// them. Ids and times are filled in only then, so that ids, times and seqs rise in the
// same order.
//
// It consists of blocks with the layout of a commit's frame. If no append waits, the
// first block becomes the commit's buffer. Otherwise its records are copied into the
// room that the appends leave.
type staging struct {
	buffers    *buffers
	blocks     []stagedBlock // oldest first; none is empty
	bytes      int           // bytes staged now
	addedBytes uint64        // bytes ever staged
}

// stagedBlock is a part of the staged records, with the layout of a commit's frame.
type stagedBlock struct {
	buf      []byte // the records begin at offset from
	from     int    // offset of the first record that no commit has taken; at least segment.FrameStart
	bySource [segment.Sources]uint64
	since    time.Time // when the first record was staged
}

// maxStagedWait is how long staged records wait for a block to fill, since a sync costs
// the same for one record as for thousands. No client waits for these records.
const maxStagedWait = 2 * time.Millisecond

// minQueueBlocks is how many blocks a small queue is divided into, so that it has room
// for more records while a block is committed.
const minQueueBlocks = 4

func (s *staging) size() int { return s.bytes }

// add encodes r. It returns false if more than limit bytes would be staged.
func (s *staging) add(r *Record, limit int64) bool {
	size := r.Size()
	if int64(s.bytes+size) > limit {
		return false
	}
	last := len(s.blocks) - 1
	if last < 0 || frameSize(s.blocks[last].buf)+size > min(segment.MaxFrame, int(limit/minQueueBlocks)) {
		s.blocks = append(s.blocks, stagedBlock{buf: s.buffers.take(size), from: segment.FrameStart, since: time.Now()})
		last++
	}
	b := &s.blocks[last]
	b.buf = segment.AppendRecord(b.buf, r)
	b.bySource[r.Source]++
	s.bytes += size
	s.addedBytes += uint64(size)
	return true
}

// wait returns the longest time that the staged records still wait for others.
func (s *staging) wait() time.Duration {
	switch len(s.blocks) {
	case 0:
		return maxStagedWait
	case 1:
		return maxStagedWait - time.Since(s.blocks[0].since)
	}
	return 0
}

// head returns the first record, or nil. The record is valid until it is consumed.
func (s *staging) head() []byte {
	if s.bytes == 0 {
		return nil
	}
	b := s.blocks[0].buf[s.blocks[0].from:]
	return b[:segment.NextSize(b)]
}

// takenBytes returns the number of bytes ever taken by commits.
func (s *staging) takenBytes() uint64 { return s.addedBytes - uint64(s.bytes) }

// consume removes the first record, which has n bytes.
func (s *staging) consume(n int) {
	b := &s.blocks[0]
	b.bySource[segment.SourceOf(b.buf[b.from:])]--
	b.from += n
	s.bytes -= n
	if b.from == len(b.buf) {
		s.buffers.put(s.next().buf)
	}
}

// next removes and returns the first block.
func (s *staging) next() (b stagedBlock) {
	b = s.blocks[0]
	s.bytes -= len(b.buf) - b.from
	last := len(s.blocks) - 1
	copy(s.blocks, s.blocks[1:]) // in place, so that append reuses the array
	s.blocks[last] = stagedBlock{}
	s.blocks = s.blocks[:last]
	return b
}

// free unmaps all blocks and leaves the staging empty.
func (s *staging) free() {
	for len(s.blocks) > 0 {
		unmapMemory(s.next().buf)
	}
}

// stamp fills in the ids and the time of staged records.
func stamp(records []byte, ids *idSource, at int64) {
	for len(records) > 0 {
		segment.Stamp(records, ids.next(at/1000), at)
		records = records[segment.NextSize(records):]
	}
}
