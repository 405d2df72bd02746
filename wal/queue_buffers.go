package wal

import (
	"collectord/wal/segment"
)

// newCommitLocked begins a commit. Its buffer never moves, since appenders copy into it
// concurrently: it has room for a whole frame, or for size bytes if that is more. It
// lies outside of the garbage collector's heap, where pages that are not touched take
// no memory and a large buffer is returned to the system at once.
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

// frameBuffer is the size in bytes of a commit's buffer, keptBuffers how many are kept
// for reuse.
const (
	frameBuffer = segment.FrameStart + segment.MaxFrame
	keptBuffers = 3
)

// recycle keeps the buffer of a finished commit for reuse, or unmaps it. Nothing may
// refer to it any more.
func (q *queue) recycle(c *commit) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if cap(c.buf) < 2*frameBuffer && len(q.buffers) < keptBuffers { // the buffer of a large frame is not kept
		q.buffers = append(q.buffers, c.buf[:segment.FrameStart])
	} else {
		unmapMemory(c.buf)
	}
	c.buf = nil
}

// free unmaps all memory outside of the heap.
func (q *queue) free() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.staged.free()
	for _, b := range q.buffers {
		unmapMemory(b)
	}
	q.buffers = nil
}
