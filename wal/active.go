package wal

import (
	"time"

	"collectord/wal/segment"
)

// active is the active segment, one that is prepared to follow it, or one that waits to
// be sealed. One goroutine at a time owns it: roller, committer, roller. Only Fill is
// called by another.
type active struct {
	*segment.Writer
	dir     string
	first   uint64    // seq of the first record; 0 while it is only prepared
	count   uint64    // acknowledged records
	firstAt int64     // ReceivedAt of the first record
	since   time.Time // when the first record was committed, by the monotonic clock
	fillTo  int64     // size up to which zeros were asked for
	failed  bool      // a write or sync failed: it is cut to acked before it is sealed
	acked   int64     // size of the file up to the last acknowledged record
	unsaved bool      // holds records that were acknowledged and not synced yet (SyncInterval)
}

// createActive creates a segment with only a header, durable under the name dir, with
// zeros and reserved space ahead.
func (b *base) createActive(dir string, ahead segment.Ahead) (*active, error) {
	header := segment.Header{LogID: b.logID, Run: b.runID, Node: b.opts.Node, CreatedAt: b.opts.clock().UnixMicro()}
	w, err := segment.Create(b.disk, dir, header, ahead, b.opts.newWriter)
	if err != nil {
		return nil, err
	}
	b.reportCopies(w)
	return &active{Writer: w, dir: dir}, nil
}

// reportCopies logs, once, that segments are smaller than configured since the log
// library keeps a copy of them in memory.
func (b *base) reportCopies(w *segment.Writer) {
	if w.Copies() && w.Limit(b.sealing().size) < b.sealing().size {
		b.copiesReported.Do(func() {
			b.opts.Logger.Warn("segments are sealed at a smaller size than configured: the log library of this build keeps a copy of them in memory (install a released build)",
				"bytes", w.Limit(b.sealing().size), "configured", b.opts.SegmentSize)
		})
	}
}

// sync makes everything written durable. After an error the segment must be abandoned.
func (a *active) sync() error {
	a.unsaved = false // after an error, too: no sync is tried again
	return a.Sync()
}

// trim cuts off the zeros behind the last record. After a failure it also cuts off,
// durably, what was not acknowledged, since those seqs are given out again.
func (a *active) trim() error {
	if !a.failed {
		return a.Trim()
	}
	return a.CutTo(a.acked)
}

func (a *active) last() uint64 { return a.first + a.count - 1 }

// close closes the files of a sealed segment.
func (a *active) close() error {
	if a.failed {
		a.Abandon()
		return nil
	}
	return a.Close()
}
