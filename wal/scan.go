package wal

import (
	"time"

	"collectord/wal/segment"
)

// scanAll scans the file of a segment directory for every record of this log.
func (b *base) scanAll(name string) (*segment.Scan, error) {
	return segment.All(b.logID).Scan(b.disk, b.fileOf(name))
}

// scanFor scans the file of a segment directory for the records first to last.
func (b *base) scanFor(name string, first, last uint64) (*segment.Scan, error) {
	return segment.Wanted{LogID: b.logID, First: first, Last: last}.Scan(b.disk, b.fileOf(name))
}

// lossReason is the reason for the loss of the records from seq first on. It is LossMissing
// if the file is undamaged and ends before first, else LossDamaged.
func lossReason(s *segment.Scan, first uint64) string {
	if first > s.Last() && !s.Missing && s.Unread == nil && s.HeaderEnd > 0 && len(s.Damaged) == 0 && s.FramesEnd == s.Size {
		return LossMissing
	}
	return LossDamaged
}

// completeHeader fills in the fields that a damaged header lacks.
func (b *base) completeHeader(h *segment.Header) {
	if h.LogID == 0 {
		h.LogID = b.logID
	}
	if h.Node == "" {
		h.Node = b.opts.Node
	}
	if h.CreatedAt == 0 {
		h.CreatedAt = time.Now().UnixMicro()
	}
}

// hoursOf returns the hour in which the segment's first intact record was received, or
// nil if no record is intact.
func hoursOf(s *segment.Scan) []int64 {
	if at := s.FirstReceivedAt(); at != 0 {
		return []int64{hourOf(at)}
	}
	return nil
}
