package segment

import (
	"fmt"
	"io"
	"slices"

	"collectord/wal/vfs"
)

// UnreadableError means that the disk could not read a part of a segment. Another attempt
// may succeed.
type UnreadableError struct {
	Path  string
	Pages int // number of unreadable 4 KiB pages; 0 if the file could not be opened
	Err   error
}

func (e *UnreadableError) Error() string {
	return fmt.Sprintf("%s: %d pages can't be read: %v", e.Path, e.Pages, e.Err)
}

func (e *UnreadableError) Unwrap() error { return e.Err }

// ByteRange is the bytes of a file from offset From up to, but not including, offset To.
type ByteRange struct{ From, To int64 }

// pageSize is the size in bytes of the smallest part of a file that can count as
// unreadable.
const pageSize = 4096

// maxUnreadPages is the number of unreadable pages after which the rest of a file counts
// as unreadable without an attempt. A failing disk can take seconds for each page.
const maxUnreadPages = 1024

// PageReader reads a file from a disk that may fail to read some pages. Such a page is
// tried twice and then reads as zeros, which never form a valid frame. Any other error
// ends the reading. All reads of segments follow this policy.
type PageReader struct {
	file        vfs.File
	size        int64
	unreadPages map[int64]bool // by page number
	err         error          // error of the first unreadable page
}

// ReadAt implements io.ReaderAt.
func (p *PageReader) ReadAt(b []byte, off int64) (n int, err error) {
	for n < len(b) {
		at := off + int64(n)
		if at >= p.size {
			return n, io.EOF
		}
		rest := b[n:min(int64(len(b)), p.size-off)]
		if p.isUnread(at) {
			rest = rest[:min(int64(len(rest)), pageEnd(at)-at)]
			clear(rest)
			n += len(rest)
			continue
		}
		for end := pageEnd(at); end < at+int64(len(rest)) && len(p.unreadPages) > 0; end += pageSize {
			if p.isUnread(end) {
				rest = rest[:end-at]
				break
			}
		}
		k, err := p.file.ReadAt(rest, at)
		n += k
		if err == nil {
			continue
		}
		if !vfs.IsUnreadable(err) {
			return n, err
		}
		// The failed page is tried again, alone.
		at, rest = at+int64(k), rest[k:]
		rest = rest[:min(int64(len(rest)), pageEnd(at)-at)]
		k, err = p.file.ReadAt(rest, at)
		n += k
		if vfs.IsUnreadable(err) {
			p.markUnread(at, err)
		} else if err != nil {
			return n, err
		}
	}
	return n, nil
}

// NextData implements the interface that vfs.NextData looks for.
func (p *PageReader) NextData(off int64) int64 { return vfs.NextData(p.file, off) }

func pageEnd(at int64) int64 { return at - at%pageSize + pageSize }

func (p *PageReader) isUnread(at int64) bool {
	return len(p.unreadPages) > 0 && p.unreadPages[at/pageSize]
}

// markUnread marks the page at offset at as unreadable.
func (p *PageReader) markUnread(at int64, err error) {
	if p.err == nil {
		p.err, p.unreadPages = err, map[int64]bool{}
	}
	p.unreadPages[at/pageSize] = true
	if len(p.unreadPages) == maxUnreadPages {
		for i := at / pageSize; i <= p.size/pageSize; i++ {
			p.unreadPages[i] = true
		}
	}
}

// unreadRanges returns the unreadable bytes, in the order of the file.
func (p *PageReader) unreadRanges() (all []ByteRange) {
	indexes := make([]int64, 0, len(p.unreadPages))
	for i := range p.unreadPages {
		indexes = append(indexes, i)
	}
	slices.Sort(indexes)
	for _, i := range indexes {
		from, to := i*pageSize, min((i+1)*pageSize, p.size)
		if n := len(all); n > 0 && all[n-1].To == from {
			all[n-1].To = to
		} else if from < to {
			all = append(all, ByteRange{from, to})
		}
	}
	return all
}
