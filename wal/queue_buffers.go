package wal

import (
	"collectord/wal/segment"
)

// newCommitLocked begins a commit whose buffer has room for size bytes, and for a
// frame. It never moves. It lies outside of the garbage collector's heap: what is
// not used of it takes no memory, and one for a large frame is given back at once.
func (q *queue) newCommitLocked(size int) *commit {
	q.last++
	c := &commit{number: q.last, done: make(chan struct{})}
	switch n := len(q.buffers); {
	case size > segment.MaxFrame:
		c.buf = mapMemory(segment.FrameStart + size)[:segment.FrameStart]
	case n > 0:
		c.buf, q.buffers = q.buffers[n-1], q.buffers[:n-1]
	default:
		c.buf = mapMemory(frameBuffer)[:segment.FrameStart]
	}
	return c
}

// frameBuffer is the size of a commit's buffer; keptBuffers is how many are kept for
// the next ones.
const (
	frameBuffer = segment.FrameStart + segment.MaxFrame
	keptBuffers = 3
)

// recycle keeps the buffer of a finished commit for the next one, or gives it back.
// Nothing may refer to it any more.
func (q *queue) recycle(c *commit) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if cap(c.buf) < 2*frameBuffer && len(q.buffers) < keptBuffers { // not of a large frame
		q.buffers = append(q.buffers, c.buf[:segment.FrameStart])
	} else {
		unmapMemory(c.buf)
	}
	c.buf = nil
}

// free gives back all memory outside of the heap.
func (q *queue) free() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.staged.free()
	for _, b := range q.buffers {
		unmapMemory(b)
	}
	q.buffers = nil
}
