package segment

import (
	"bytes"

	"collectord/wal/vfs"
)

// HiddenRecords is the most records that may stand behind the last good frame in pages
// that the disk could not read. It is 0 if it gave everything up to the first page of
// zeros.
func (s *Scan) HiddenRecords() (records uint64, err error) {
	if s.Unread == nil {
		return 0, nil
	}
	if s.Unread.Pages == 0 { // it could not be opened: all of it may be records
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
	at, found := s.End, false
	for at < s.Size {
		page, err := in.bytes(at, int(min(pageEnd(at), s.Size)-at))
		if err != nil {
			return 0, err
		}
		unread := in.in.isUnread(at)
		// No usage contains a page of zeros, so nothing was written from here on.
		if !unread && len(bytes.TrimRight(page, "\x00")) == 0 {
			break
		}
		found = found || unread
		at += int64(len(page))
	}
	if !found {
		return 0, nil
	}
	return max(1, uint64(at-s.End)/RecordOverhead), nil
}

// maxUnsealed is more records than an unsealed segment has.
const maxUnsealed = 1 << 25

// MaxRecords is the most records that a file may hold which can't be opened.
func MaxRecords(disk vfs.Disk, path string) uint64 {
	info, err := disk.Stat(path)
	if err != nil {
		return maxUnsealed
	}
	return max(1, min(maxUnsealed, uint64(info.Size())/RecordOverhead))
}
