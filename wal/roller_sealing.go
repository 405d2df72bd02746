package wal

import (
	"time"
)

// smallSegment is the size in bytes below which a segment waits for SealSmallAfter, so
// that a quiet host makes few objects.
const smallSegment = 8 << 20

// Bounds on a segment's size relative to MaxBytes. They keep the part of the log small
// that one eviction loses, or that must be shipped before there is room again. Below
// segmentSizeFloor there would be too many objects.
const (
	segmentsInLog    = 32
	segmentSizeFloor = 4 << 20
	segmentsAtLeast  = 4
)

// sealing is the size in bytes and the ages at which a segment is sealed.
type sealing struct {
	size              int64
	after, smallAfter time.Duration
}

// sealing returns the size and ages in effect.
func (b *base) sealing() sealing {
	l := b.limits.Load()
	size := min(b.opts.SegmentSize, max(l.MaxBytes/segmentsInLog, segmentSizeFloor), l.MaxBytes/segmentsAtLeast)
	return sealing{size, l.SealAfter, l.SealSmallAfter}
}

// age returns the age at which a segment of so many bytes is sealed.
func (s sealing) age(bytes int64) time.Duration {
	if bytes < smallSegment {
		return s.smallAfter
	}
	return min(s.after, s.smallAfter)
}

// logSegmentSize logs if the size in effect is below Options.SegmentSize.
func (b *base) logSegmentSize() {
	if size := b.sealing().size; size < b.opts.SegmentSize {
		b.opts.Logger.Info("wal.segment_size is lowered: it is more than a 32nd of wal.max_bytes", "segment_size", b.opts.SegmentSize, "lowered_to", size)
	}
}
