package wal

import (
	"errors"
	"io/fs"
	"math/bits"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// The log writes zeros ahead of records, so that the sync of a commit changes neither the
// size nor the extents of the file. Zeros wear flash as records do. So their number follows
// the sizes of recent segments, and a segment that outgrows its zeros gets more.
const (
	minFill = 16 << 10 // minimum of zeros, in bytes
	// A segment that outgrows its zeros gets at most maxFillStep more bytes of zeros at a
	// time. They are requested when at most maxLead bytes of its zeros are left.
	maxFillStep = 8 << 20
	maxLead     = 1 << 20
	// reservedSpace is the space in bytes that fallocate(2) reserves without a write.
	// It lets a segment take more than a few records when other programs fill the disk.
	reservedSpace = 8 << 20
)

// recentSizes are the sizes in bytes of the last segments, the latest first. There are
// several because a change of hour or a request also makes small segments on a busy host.
type recentSizes [3]int64

func (r *recentSizes) add(bytes int64) {
	copy(r[1:], r[:])
	r[0] = bytes
}

// expectedSize is the expected size of the next segment: the power of two above the
// largest recent size.
func (r *recentSizes) expectedSize() int64 {
	return 1 << bits.Len64(uint64(max(r[0], r[1], r[2])))
}

// recentSizes returns the sizes of the last segments on the list of sealed ones.
func (s *shelf) recentSizes() (r recentSizes) {
	s.lock()
	defer s.unlock()
	for _, one := range s.sealed[max(0, len(s.sealed)-len(r)):] {
		r.add(one.bytes)
	}
	return r
}

// LargestSegment returns the size in bytes of the largest segment, sealed or not, and the
// size at which segments are sealed. The last commit of a segment may exceed that size.
func (l *Log) LargestSegment() (largest, sealedAt int64) {
	s := l.shelf
	s.lock()
	defer s.unlock()
	largest = s.active.bytes
	for _, a := range s.unsealed {
		largest = max(largest, a.Bytes())
	}
	for _, one := range s.sealed {
		largest = max(largest, one.bytes)
	}
	return largest, l.sealing().size
}

// createNext creates the next segment in dir and replaces anything there. On a full disk it
// uses the minimum of zeros.
func (r *roller) createNext(dir string) (a *active, err error) {
	if err := r.renameLeftNext(dir); err != nil {
		return nil, err
	}
	prealloc := r.shelf.preallocFor(r.recent)
	for {
		if err := r.deleteDir(dir); err != nil {
			return nil, err
		}
		if a, err = r.createActive(dir, prealloc); err == nil {
			return a, nil
		}
		minimum := minPrealloc(r.sealing().size)
		if !vfs.IsFull(err) || prealloc.Zeros <= minimum.Zeros {
			// The zeros may take the space that shipping needs.
			return nil, errors.Join(err, r.deleteDir(dir))
		}
		prealloc = minimum
	}
}

// preallocFor returns the zeros and reserved space of the next segment. Zeros take at
// most a quarter of the free space above MinFree, unless the minimum is more.
func (s *shelf) preallocFor(recent recentSizes) segment.Prealloc {
	s.lock()
	defer s.unlock()
	free := (s.stats.FreeBytes - s.limits.Load().MinFree) / 4
	size := s.sealing().size
	prealloc := minPrealloc(size)
	prealloc.Zeros = min(max(min(recent.expectedSize(), free), prealloc.Zeros), size)
	return prealloc
}

// minPrealloc returns the minimum of zeros and reserved space for segments of segmentSize
// bytes.
func minPrealloc(segmentSize int64) segment.Prealloc {
	return segment.Prealloc{Zeros: min(minFill, segmentSize/4), Reserved: min(segmentSize, reservedSpace)}
}

// fillJob asks writeZeros for zeros up to size.
type fillJob struct {
	segment *active
	size    int64
}

// requestFill requests more zeros when a segment is about to outgrow those it has. It
// requests as many bytes as are filled, but at most maxFillStep, and none beyond the
// size at which segments are sealed.
func (k *committer) requestFill(a *active) {
	filled := max(a.Filled(), a.fillRequested)
	lead := min(filled/8, maxLead)
	if a.Bytes()+lead < filled || len(k.fillJobs) == cap(k.fillJobs) {
		return
	}
	size := min(filled+min(filled, maxFillStep), k.sealing().size)
	if size <= filled {
		return
	}
	a.fillRequested = size
	k.fillJobs <- fillJob{a, size} // can't block: only the committer sends, and the buffer has room
}

// writeZeros is the goroutine that writes more zeros to active segments until the committer
// ends.
func (k *committer) writeZeros() {
	for job := range k.fillJobs {
		if err := job.segment.Fill(job.size); err != nil {
			k.opts.Logger.Debug("can't write zeros ahead: commits take longer", "error", err)
		}
	}
}

// renameLeftNext renames a next segment that has records and that the start had to leave.
func (r *roller) renameLeftNext(dir string) error {
	if r.leftNext == "" {
		return nil
	}
	err := r.disk.Rename(dir, r.leftNext)
	if err == nil || errors.Is(err, fs.ErrNotExist) { // an earlier attempt renamed it, and could not sync
		err = r.disk.SyncDir(r.dir)
	}
	if err == nil {
		r.leftNext = ""
	}
	return err
}
