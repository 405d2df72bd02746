package wal

import (
	"time"
)

// What is below smallSegment when it reaches Options.SealAfter waits on, so that a
// quiet host makes few objects.
const smallSegment = 8 << 20

// What a segment's size may be of MaxBytes, so that evicting one, or waiting for one to
// be shipped, is a small part of the log. Below the floor objects would be too many.
const (
	segmentsInLog    = 32
	segmentSizeFloor = 4 << 20
	segmentsAtLeast  = 4
)

// sealing says when a segment is sealed.
type sealing struct {
	size              int64
	after, smallAfter time.Duration
}

// sealing returns what is in effect: the size is lowered to what MaxBytes allows.
func (b *base) sealing() sealing {
	l := b.limits.Load()
	size := min(b.opts.SegmentSize, max(l.MaxBytes/segmentsInLog, segmentSizeFloor), l.MaxBytes/segmentsAtLeast)
	return sealing{size, l.SealAfter, l.SealSmallAfter}
}

// age is the one at which a segment of so many bytes is sealed.
func (s sealing) age(bytes int64) time.Duration {
	if bytes < smallSegment {
		return s.smallAfter
	}
	return min(s.after, s.smallAfter)
}

// logSegmentSize logs that segments are smaller than Options.SegmentSize.
func (b *base) logSegmentSize() {
	if size := b.sealing().size; size < b.opts.SegmentSize {
		b.opts.Logger.Info("wal.segment_size is lowered: it is more than a 32nd of wal.max_bytes", "segment_size", b.opts.SegmentSize, "lowered_to", size)
	}
}
