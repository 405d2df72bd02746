package wal

import (
	"collectord/wal/segment"
)

// buffers keeps memory for frames for reuse. The memory is outside of the garbage
// collector's heap. There, untouched pages take no memory, and a large buffer returns
// to the system at once.
type buffers struct{ spare [][]byte }

// frameBuffer is the size of a buffer in bytes. keptBuffers is the max number of
// buffers kept for reuse.
const (
	frameBuffer = segment.FrameStart + segment.MaxFrame
	keptBuffers = 3
)

// take returns a buffer without records. It has room for a whole frame, or for size
// bytes of records if that is more.
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

// put keeps a buffer for reuse, or unmaps it. No reference to it may remain.
func (b *buffers) put(buf []byte) {
	if cap(buf) < 2*frameBuffer && len(b.spare) < keptBuffers { // the buffer of a large frame is not kept
		b.spare = append(b.spare, buf[:segment.FrameStart])
	} else {
		unmapMemory(buf)
	}
}

// free unmaps the buffers kept for reuse.
func (b *buffers) free() {
	for _, buf := range b.spare {
		unmapMemory(buf)
	}
	b.spare = nil
}

// frameSize returns the size in bytes of the frame in buf, header included.
func frameSize(buf []byte) int { return len(buf) - segment.MaxLengthPrefix }

// recycle keeps the buffer of a finished commit for reuse, or unmaps it. No reference
// to it may remain.
func (q *queue) recycle(c *commit) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.buffers.put(c.memory)
	c.buf, c.memory = nil, nil
}

// reuse keeps a finished commit for the next one. A commit with blocked appenders is not
// reused, since they still read its error.
func (q *queue) reuse(c *commit) {
	if c.blockedAppenders > 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.spareCommit = c
}

// free unmaps all memory outside of the heap.
func (q *queue) free() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.staged.free()
	q.buffers.free()
}
