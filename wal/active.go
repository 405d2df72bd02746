package wal

import (
	"time"

	"collectord/wal/segment"
)

// active is the segment that is written to, or the one prepared to follow it.
// Only one goroutine at a time uses it, but for Fill.
type active struct {
	*segment.Writer
	dir     string
	first   uint64    // seq of the first record; 0 while it is only prepared
	count   uint64    // records that are acknowledged
	firstAt int64     // ReceivedAt of the first record
	since   time.Time // when the first record was committed, by the monotonic clock
	fillTo  int64     // what the filler was asked for
	failed  bool      // a write or sync failed, or what came next: it is cut to what was acknowledged
	acked   int64     // bytes of the file, up to the last acknowledged record
	unsaved bool      // written and acknowledged but not yet synced (SyncInterval)
}

// createActive makes a segment that holds nothing but its header, durable under
// the name dir, and what is taken ahead of use.
func (b *base) createActive(dir string, ahead segment.Ahead) (*active, error) {
	header := segment.Header{LogID: b.logID, Run: b.runID, Node: b.opts.Node, CreatedAt: b.opts.clock().UnixMicro()}
	w, err := segment.Create(b.disk, dir, header, ahead, b.opts.newWriter)
	if err != nil {
		return nil, err
	}
	b.reportCopies(w)
	return &active{Writer: w, dir: dir}, nil
}

// reportCopies logs, once, that a segment can't be as large as it is to be.
func (b *base) reportCopies(w *segment.Writer) {
	if w.Copies() && w.Limit(b.sealing().size) < b.sealing().size {
		b.copiesReported.Do(func() {
			b.opts.Logger.Warn("segments are sealed at a smaller size than configured: the log library of this build keeps a copy of them in memory (install a released build)",
				"bytes", w.Limit(b.sealing().size), "configured", b.opts.SegmentSize)
		})
	}
}

// sync makes everything written durable. After an error the segment must be
// abandoned.
func (a *active) sync() error {
	a.unsaved = false // also after an error: nobody is to try again
	return a.Sync()
}

// trim cuts off the zeros that no record took the place of. After a failure it also
// cuts off, durably, what was not acknowledged: those seqs are given out again.
func (a *active) trim() error {
	if !a.failed {
		return a.Trim()
	}
	return a.CutTo(a.acked)
}

func (a *active) last() uint64 { return a.first + a.count - 1 }

// close closes a segment that is sealed.
func (a *active) close() error {
	if a.failed {
		a.Abandon()
		return nil
	}
	return a.Close()
}
