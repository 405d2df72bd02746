package wal

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"syscall"

	"collectord/wal/vfs"
)

// readAt is vfs.File.ReadAt, or what a test puts in its place.
type readAt func(file vfs.File, p []byte, off int64) (int, error)

// isUnreadable reports whether err says that the disk can't give what is stored,
// or gives something that does not fit the file system's own checksum.
func isUnreadable(err error) bool {
	for _, errno := range []syscall.Errno{
		syscall.EIO, syscall.ENODATA, syscall.EBADMSG, syscall.EUCLEAN, syscall.EILSEQ, syscall.EREMOTEIO,
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// UnreadableError says that the disk did not give a part of a segment. Reading
// it again later may help.
type UnreadableError struct {
	Path  string
	Pages int // of 4 KiB; 0 if the file could not be opened
	Err   error
}

func (e *UnreadableError) Error() string {
	return fmt.Sprintf("%s: %d pages can't be read: %v", e.Path, e.Pages, e.Err)
}

func (e *UnreadableError) Unwrap() error { return e.Err }

// pageSize is the unit in which an unreadable part of a file is looked for.
const pageSize = 4096

// maxUnreadPages is after how many unreadable pages the rest of a file is taken
// for unreadable without a try: a failing disk can take seconds for each.
const maxUnreadPages = 1024

// pages reads a file of which the disk may not give every page. Such a page reads
// as zeros, in which no frame checks out.
type pages struct {
	file   vfs.File
	read   readAt
	size   int64
	unread map[int64]bool // by index; each was tried twice
	err    error          // of the first unread page
}

func (p *pages) ReadAt(b []byte, off int64) (n int, err error) {
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
		for end := pageEnd(at); end < at+int64(len(rest)); end += pageSize {
			if p.isUnread(end) {
				rest = rest[:end-at]
				break
			}
		}
		k, err := p.read(p.file, rest, at)
		n += k
		if err == nil {
			continue
		}
		if !isUnreadable(err) {
			return n, err
		}
		// The page that failed is tried once more, alone.
		at, rest = at+int64(k), rest[k:]
		rest = rest[:min(int64(len(rest)), pageEnd(at)-at)]
		k, err = p.read(p.file, rest, at)
		n += k
		if isUnreadable(err) {
			p.fail(at, err)
		} else if err != nil {
			return n, err
		}
	}
	return n, nil
}

func pageEnd(at int64) int64 { return at - at%pageSize + pageSize }

func (p *pages) isUnread(at int64) bool {
	return len(p.unread) > 0 && p.unread[at/pageSize]
}

// fail notes that the page at offset at can't be read.
func (p *pages) fail(at int64, err error) {
	if p.err == nil {
		p.err, p.unread = err, map[int64]bool{}
	}
	p.unread[at/pageSize] = true
	if len(p.unread) == maxUnreadPages {
		for i := at / pageSize; i <= p.size/pageSize; i++ {
			p.unread[i] = true
		}
	}
}

// stretches lists the unread pages by offset.
func (p *pages) stretches() (all []stretch) {
	indexes := make([]int64, 0, len(p.unread))
	for i := range p.unread {
		indexes = append(indexes, i)
	}
	slices.Sort(indexes)
	for _, i := range indexes {
		from, to := i*pageSize, min((i+1)*pageSize, p.size)
		if n := len(all); n > 0 && all[n-1].to == from {
			all[n-1].to = to
		} else if from < to {
			all = append(all, stretch{from, to})
		}
	}
	return all
}

// readFile reads a whole file. No file of ours that it is meant for is
// longer than a few hundred bytes.
func (d disk) readFile(path string) ([]byte, error) {
	file, err := d.fs().Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b := make([]byte, 64<<10)
	n, err := d.reader()(file, b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b[:n], nil
}
