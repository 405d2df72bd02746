package segment

import (
	"bytes"

	"collectord/wal/vfs"
)

// HiddenRecords returns the max number of records that may follow the last valid frame,
// in pages that the disk could not read. It returns 0 if the disk could read everything
// up to the first page of zeros.
func (s *Scan) HiddenRecords() (records uint64, err error) {
	if s.Unread == nil {
		return 0, nil
	}
	if s.Unread.Pages == 0 { // the file could not be opened, so all of it may be records
		if info, err := s.disk.Stat(s.path); err == nil {
			s.Size = info.Size()
		}
		return MaxRecords(s.disk, s.path), nil
	}
	in, err := s.reopen()
	if err != nil {
		return 0, err
	}
	defer in.close()
	at, sawUnread := s.FramesEnd, false
	for at < s.Size {
		page, err := in.bytes(at, int(min(pageEnd(at), s.Size)-at))
		if err != nil {
			return 0, err
		}
		unread := in.pages.isUnread(at)
		// A usage never contains a page of zeros, so nothing was written after such a
		// page.
		if !unread && len(bytes.TrimRight(page, "\x00")) == 0 {
			break
		}
		sawUnread = sawUnread || unread
		at += int64(len(page))
	}
	if !sawUnread {
		return 0, nil
	}
	return max(1, uint64(at-s.FramesEnd)/RecordOverhead), nil
}

// MaxUnsealedRecords is above the number of records in any unsealed segment.
const MaxUnsealedRecords = 1 << 25

// MaxRecords returns the max number of records in a file that can't be opened.
func MaxRecords(disk vfs.Disk, path string) uint64 {
	info, err := disk.Stat(path)
	if err != nil {
		return MaxUnsealedRecords
	}
	return max(1, min(MaxUnsealedRecords, uint64(info.Size())/RecordOverhead))
}
