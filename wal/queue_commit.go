package wal

import (
	"sync"
	"sync/atomic"
	"time"

	"collectord/wal/segment"
)

// commit is a frame in the making, and what its appenders wait for. The queue's
// mutex guards it until the committer takes it.
type commit struct {
	number   uint64 // rises from commit to commit
	firstSeq uint64
	buf      []byte // room for the frame's header, then records from segment.FrameStart on
	count    uint32
	bySource [segment.Sources]uint64
	firstAt  int64 // ReceivedAt of the first record
	udp      *udpShare

	copying sync.WaitGroup // of records into buf
	invalid atomic.Bool    // what was copied is no frame

	waiters []*Waiter
	done    chan struct{} // closed once the commit is durable, or failed
	err     error         // valid once done is closed
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

// reserve returns room for n bytes behind those that were reserved before.
func (c *commit) reserve(n int) (room []byte) {
	at := len(c.buf)
	c.buf = c.buf[:at+n]
	return c.buf[at : at : at+n]
}

// notify has a waiter told of the end of the commit.
func (c *commit) notify(w *Waiter) {
	if w == nil || len(c.waiters) > 0 && c.waiters[len(c.waiters)-1] == w {
		return
	}
	for _, other := range c.waiters {
		if other == w {
			return
		}
	}
	c.waiters = append(c.waiters, w)
}

// finish tells all that wait.
func (c *commit) finish() {
	close(c.done)
	for _, w := range c.waiters {
		w.finished(Outcome{c.number, c.err})
	}
}
