package wal

import (
	"time"

	"collectord/wal/segment"
)

// active is the segment that is written to, or the one prepared to follow it.
// Only one goroutine at a time uses it.
type active struct {
	*segment.Writer
	dir     string
	first   uint64    // seq of the first record; 0 while it is only prepared
	count   uint64    // records that are acknowledged
	firstAt int64     // ReceivedAt of the first record
	since   time.Time // when the first record was committed, by the monotonic clock
	failed  bool      // a write or sync failed: it is only to be abandoned
	fillTo  int64     // what the filler was asked for
	unsaved bool      // written and acknowledged but not yet synced (SyncInterval)
}

// createActive makes a segment that holds nothing but its header, durable under
// the name dir, and what is taken ahead of use.
func (l *Log) createActive(dir string, ahead segment.Ahead) (*active, error) {
	header := segment.Header{LogID: l.logID, Run: l.run, Node: l.opts.Node, CreatedAt: l.opts.clock().UnixMicro()}
	w, err := segment.Create(l.disk, dir, header, ahead, l.opts.newWriter)
	if err != nil {
		return nil, err
	}
	return &active{Writer: w, dir: dir}, nil
}

// sync makes everything written durable. After an error the segment must be
// abandoned.
func (a *active) sync() error {
	a.unsaved = false // also after an error: nobody is to try again
	return a.Sync()
}

func (a *active) last() uint64 { return a.first + a.count - 1 }

// release closes a segment that is sealed.
func (a *active) release() error {
	if a.failed {
		a.Abandon()
		return nil
	}
	return a.Close()
}
