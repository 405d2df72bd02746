package wal

import (
	"slices"
	"time"

	"collectord/wal/segment"
)

// commit is a frame in the making, and what its appenders wait for.
type commit struct {
	buf      []byte // room for the frame's header, then records from segment.FrameStart on
	mapped   bool   // buf lies outside the garbage collector's heap
	count    uint32
	bySource [segment.Sources]uint64
	firstAt  int64 // ReceivedAt of the first record
	udp      *udpShare
	done     chan struct{}
	given    bool  // up: it took too long; guarded by the log's mutex
	err      error // valid once done is closed
}

// udpShare is what the UDP records of a commit get when another commit begins
// behind it: the records of that one come later in the log, and their ids and
// times are drawn before these join.
type udpShare struct {
	ids  idSource // draws below every id of the commits behind
	at   int64    // their ReceivedAt
	upTo uint64   // in bytes ever staged; what came later joins a later commit
}

// hour is the UTC hour all records of the commit were received in.
func (c *commit) hour() int64 { return hourOf(c.firstAt) }

func hourOf(micros int64) int64 { return micros / time.Hour.Microseconds() }

func (c *commit) add(s Source, n int, at int64) {
	if c.count == 0 {
		c.firstAt = at
	}
	c.count += uint32(n)
	c.bySource[s] += uint64(n)
}

// takes reports whether records of size bytes, received at the time at, may join.
func (c *commit) takes(size int, at int64) bool {
	return c.count == 0 || len(c.buf)-segment.EntryRoom+size <= segment.MaxFrame && c.hour() == hourOf(at)
}

// commitForLocked returns the commit that takes size more bytes now.
func (l *Log) commitForLocked(at int64, size int) *commit {
	if n := len(l.pending); n > 0 && l.pending[n-1].takes(size, at) {
		return l.pending[n-1]
	} else if n > 0 {
		l.closeLocked(l.pending[n-1], at)
	}
	c := l.newCommitLocked()
	l.pending = append(l.pending, c)
	return c
}

// closeLocked keeps ids for the UDP records that c still has room for, before
// anything is drawn for the commit behind it.
func (l *Log) closeLocked(c *commit, at int64) {
	room := max(0, segment.MaxFrame-(len(c.buf)-segment.EntryRoom)) / segment.RecordOverhead
	c.udp = &udpShare{ids: l.ids.reserve(at/1000, room), at: at, upTo: l.staged.added}
}

func (l *Log) newCommitLocked() *commit {
	c := &commit{done: make(chan struct{})}
	if n := len(l.buffers); n > 0 {
		c.buf, l.buffers = l.buffers[n-1], l.buffers[:n-1]
	} else {
		c.buf = make([]byte, segment.FrameStart, 64<<10)
	}
	return c
}

// growLocked makes room for records of size bytes. Those that have a frame to
// themselves lie outside of the heap, so that their memory is given back as soon
// as they are written: the garbage collector comes too late for megabytes.
func (l *Log) growLocked(c *commit, size int) {
	if segment.FrameStart+size > keepBuffer && c.count == 0 {
		l.recycleLocked(c)
		c.buf, c.mapped = mapMemory(segment.FrameStart + size)[:segment.FrameStart], true
		return
	}
	c.buf = slices.Grow(c.buf, size)
}

// keepBuffer is the size up to which a commit's buffer is kept for the next one.
const keepBuffer = segment.MaxFrame + segment.MaxFrame/4

// recycleLocked keeps the buffer of a finished commit for the next one, or gives
// it back. Nothing may refer to it any more.
func (l *Log) recycleLocked(c *commit) {
	switch {
	case c.mapped:
		unmapMemory(c.buf)
	case cap(c.buf) <= keepBuffer && len(l.buffers) < 3:
		l.buffers = append(l.buffers, c.buf[:segment.FrameStart])
	}
	c.buf, c.mapped = nil, false
}
