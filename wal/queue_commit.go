package wal

import (
	"sync"
	"sync/atomic"
	"time"

	"collectord/wal/segment"
)

// commit is a frame that is being filled, and the outcome that its appenders wait for.
// The queue's mutex guards it until the committer takes it.
type commit struct {
	number   uint64 // rises from commit to commit
	firstSeq uint64
	buf      []byte // room for the frame's header, then the records from segment.FrameStart on
	memory   []byte // the whole buffer, of which buf is a part
	count    uint32
	bySource [segment.Sources]uint64
	firstAt  int64     // ReceivedAt of the record that was added first
	udp      *udpShare // set once a later commit has begun

	copying sync.WaitGroup // counts appenders that copy into buf
	invalid atomic.Bool    // an appender did not copy what it had measured, so buf can't be written

	waiters          []*Waiter
	blockedAppenders int           // number of appenders that wait for done
	done             chan struct{} // closed once the commit is durable, or failed; nil if no appender waits for it
	err              error         // why it failed; valid once the commit is finished
}

// udpShare holds the ids and the time for the UDP records of a commit once a later
// commit has begun. Both are below those of the later commit.
type udpShare struct {
	ids  idSource // draws ids below those of all later commits
	at   int64    // their ReceivedAt, in microseconds since 1970
	upTo uint64   // bytes ever staged when it was reserved; records staged later join a later commit
}

// hour returns the UTC hour, counted since 1970, in which all records of the commit
// were received.
func (c *commit) hour() int64 { return hourOf(c.firstAt) }

func hourOf(micros int64) int64 { return micros / time.Hour.Microseconds() }

func (c *commit) add(s Source, n int, at int64) {
	if c.count == 0 {
		c.firstAt = at
	}
	c.count += uint32(n)
	c.bySource[s] += uint64(n)
}

// fits reports whether size bytes of records that were received at the time at fit the
// commit's size and hour.
func (c *commit) fits(size int, at int64) bool {
	return c.count == 0 || frameSize(c.buf)+size <= segment.MaxFrame && c.hour() == hourOf(at)
}

// reserve returns the next n free bytes, as an empty slice to append to.
func (c *commit) reserve(n int) (room []byte) {
	at := len(c.buf)
	c.buf = c.buf[:at+n]
	return c.buf[at : at : at+n]
}

// addWaiter registers w for the end of the commit. If w is nil, it counts an appender that
// waits for done.
func (c *commit) addWaiter(w *Waiter) {
	if w == nil {
		if c.blockedAppenders++; c.done == nil {
			c.done = make(chan struct{})
		}
		return
	}
	if len(c.waiters) > 0 && c.waiters[len(c.waiters)-1] == w {
		return
	}
	for _, other := range c.waiters {
		if other == w {
			return
		}
	}
	c.waiters = append(c.waiters, w)
}

// finish wakes all appenders of the commit and delivers its outcome to its waiters.
func (c *commit) finish() {
	if c.done != nil {
		close(c.done)
	}
	for _, w := range c.waiters {
		w.Deliver(Outcome{c.number, c.err})
	}
}
