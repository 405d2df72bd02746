package wal

import (
	"collectord/wal/segment"
)

// buffers are memory for frames, kept for reuse. They lie outside of the garbage
// collector's heap, where pages that are not touched take no memory and a large buffer
// is returned to the system at once.
type buffers struct{ spare [][]byte }

// frameBuffer is the size in bytes of a buffer, keptBuffers how many are kept for reuse.
const (
	frameBuffer = segment.FrameStart + segment.MaxFrame
	keptBuffers = 3
)

// take returns a buffer without records. It has room for a whole frame, or for records of
// size bytes if that is more.
func (b *buffers) take(size int) (buf []byte) {
	switch n := len(b.spare); {
	case size > segment.MaxFrame:
		return mapMemory(segment.FrameStart + size)[:segment.FrameStart]
	case n > 0:
		buf, b.spare = b.spare[n-1], b.spare[:n-1]
		return buf
	}
	return mapMemory(frameBuffer)[:segment.FrameStart]
}

// put keeps a buffer for reuse, or unmaps it. Nothing may refer to it any more.
func (b *buffers) put(buf []byte) {
	if cap(buf) < 2*frameBuffer && len(b.spare) < keptBuffers { // the buffer of a large frame is not kept
		b.spare = append(b.spare, buf[:segment.FrameStart])
	} else {
		unmapMemory(buf)
	}
}

// free unmaps what is kept.
func (b *buffers) free() {
	for _, buf := range b.spare {
		unmapMemory(buf)
	}
	b.spare = nil
}

// frameSize is the size of the frame in buf, header included.
func frameSize(buf []byte) int { return len(buf) - segment.EntryRoom }

// recycle keeps the buffer of a finished commit for reuse, or unmaps it. Nothing may
// refer to it any more.
func (q *queue) recycle(c *commit) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.buffers.put(c.memory)
	c.buf, c.memory = nil, nil
}

// free unmaps all memory outside of the heap.
func (q *queue) free() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.staged.free()
	q.buffers.free()
}
