package wal

import (
	"time"

	"collectord/wal/segment"
)

// active is a segment file that is open for writing: the active segment, the one
// prepared to follow it, or one that waits to be sealed. One goroutine at a time owns
// it: first the roller, then the committer, then the roller again. Only Fill is called
// by another goroutine.
type active struct {
	*segment.Writer
	dir           string
	first         uint64    // seq of the first record; 0 until the segment is active
	count         uint64    // number of acknowledged records
	firstAt       int64     // ReceivedAt of the first record
	since         time.Time // when the commit of the first record began, on the monotonic clock
	fillRequested int64     // file size in bytes up to which zeros were requested
	failed        bool      // a write or sync failed, so the file is cut to ackedBytes before it is sealed
	ackedBytes    int64     // file size in bytes up to the last acknowledged record
	unsynced      bool      // some records are written but not synced yet; with SyncInterval they are acknowledged
}

// createActive creates a segment that has only a header, with zeros and reserved space
// ahead. It is durable under the name dir.
func (b *base) createActive(dir string, prealloc segment.Prealloc) (*active, error) {
	header := segment.Header{LogID: b.logID, Run: b.runID, Node: b.opts.Node, CreatedAt: b.opts.clock().UnixMicro()}
	w, err := segment.Create(b.disk, dir, header, prealloc, b.opts.newWriter)
	if err != nil {
		return nil, err
	}
	b.reportCopies(w)
	return &active{Writer: w, dir: dir}, nil
}

// reportCopies logs, at most once, that segments are smaller than configured because
// the log library keeps a copy of them in memory.
func (b *base) reportCopies(w *segment.Writer) {
	if w.KeepsCopies() && w.Limit(b.sealing().size) < b.sealing().size {
		b.copiesReported.Do(func() {
			b.opts.Logger.Warn("segments are sealed at a smaller size than configured: the log library of this build keeps a copy of them in memory (install a released build)",
				"bytes", w.Limit(b.sealing().size), "configured", b.opts.SegmentSize)
		})
	}
}

// sync makes everything written durable. After an error the caller must abandon the
// segment.
func (a *active) sync() error {
	a.unsynced = false // also after an error, since no sync is retried
	return a.Sync()
}

// trim cuts off the zeros behind the last record. After a failure it also cuts off,
// durably, the records that were not acknowledged, since their seqs are used again.
func (a *active) trim() error {
	if !a.failed {
		return a.Trim()
	}
	return a.CutTo(a.ackedBytes)
}

func (a *active) last() uint64 { return a.first + a.count - 1 }

// close closes the file of a sealed segment.
func (a *active) close() error {
	if a.failed {
		a.Abandon()
		return nil
	}
	return a.Close()
}
