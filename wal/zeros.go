package wal

import (
	"errors"
	"math/bits"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// Zeros are written ahead of records, so that the sync of a commit changes neither size
// nor extents of the file. They wear flash as records do, so their number follows what
// recent segments held, and a segment that outgrows them gets more.
const (
	smallestFill = 16 << 10 // least number of zeros, in bytes
	// largestFillStep is how much a segment that outgrows its zeros gets at a time at
	// most; largestLead is how much may be left when that begins.
	largestFillStep = 8 << 20
	largestLead     = 1 << 20
	// room is reserved by fallocate(2), without a write: where others fill the disk, a
	// segment should not fail after a few records.
	room = 8 << 20
)

// recentSizes are the sizes in bytes of the last segments, the latest first. There are
// several since a change of hour or a request makes small segments of a busy host.
type recentSizes [3]int64

func (r *recentSizes) add(bytes int64) {
	copy(r[1:], r[:])
	r[0] = bytes
}

// fill is the size that the next segment is expected to have: the power of two above
// the largest recent one.
func (r *recentSizes) fill() int64 {
	return 1 << bits.Len64(uint64(max(r[0], r[1], r[2])))
}

// recentSizes returns the sizes of the last segments that a start has found.
func (s *shelf) recentSizes() (r recentSizes) {
	s.lock()
	defer s.unlock()
	for _, one := range s.sealed[max(0, len(s.sealed)-len(r)):] {
		r.add(one.bytes)
	}
	return r
}

// LargestSegment returns the size in bytes of the largest segment, sealed or not, and
// the size at which segments are sealed. The last commit of a segment may exceed that.
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

// createNext creates the next segment in dir, replacing what is there. On a full disk
// it makes do with the least zeros.
func (r *roller) createNext(dir string) (a *active, err error) {
	ahead := r.shelf.aheadFor(r.recent)
	for {
		if err := r.deleteDir(dir); err != nil {
			return nil, err
		}
		if a, err = r.createActive(dir, ahead); err == nil {
			return a, nil
		}
		least := minAhead(r.sealing().size)
		if !vfs.IsFull(err) || ahead.Zeros <= least.Zeros {
			// What was written may be the space that shipping needs.
			return nil, errors.Join(err, r.deleteDir(dir))
		}
		ahead = least
	}
}

// aheadFor returns the zeros and reserved space of the next segment. Zeros take at most
// a quarter of the space that is left, unless the minimum is more.
func (s *shelf) aheadFor(recent recentSizes) segment.Ahead {
	s.lock()
	defer s.unlock()
	free := (s.stats.FreeBytes - s.limits.Load().MinFree) / 4
	size := s.sealing().size
	ahead := minAhead(size)
	ahead.Zeros = min(max(min(recent.fill(), free), ahead.Zeros), size)
	return ahead
}

// minAhead returns the least zeros and reserved space of a segment, for segments of
// segmentSize bytes.
func minAhead(segmentSize int64) segment.Ahead {
	return segment.Ahead{Zeros: min(smallestFill, segmentSize/4), Room: min(segmentSize, room)}
}

// fillJob asks writeZeros for zeros up to size.
type fillJob struct {
	segment *active
	size    int64
}

// fillOn asks for more zeros where a segment is about to outgrow those it has: as many
// bytes again as it holds, at most largestFillStep.
func (k *committer) fillOn(a *active) {
	filled := max(a.Filled(), a.fillTo)
	lead := min(filled/8, largestLead)
	if a.Bytes()+lead < filled || len(k.fills) == cap(k.fills) {
		return
	}
	size := min(filled+min(filled, largestFillStep), k.sealing().size)
	if size <= filled {
		return
	}
	a.fillTo = size
	k.fills <- fillJob{a, size} // can't block: only the committer sends, and the buffer was empty
}

// writeZeros is the goroutine that writes more zeros to active segments, until the
// committer ends.
func (k *committer) writeZeros() {
	for job := range k.fills {
		if err := job.segment.Fill(job.size); err != nil {
			k.opts.Logger.Debug("can't write zeros ahead: commits take longer", "error", err)
		}
	}
}
