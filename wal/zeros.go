package wal

import (
	"errors"
	"math/bits"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// Zeros are written ahead of records, so that a sync need change neither the size
// nor the extents of the file. They wear a disk as records do: how many there are
// follows what recent segments held, and a segment that outgrows them gets more.
const (
	smallestFill = 16 << 10
	// largestFillStep is how much a segment that outgrows its zeros gets at a time, and
	// largestLead how much is left when it does.
	largestFillStep = 8 << 20
	largestLead     = 1 << 20
	// room is taken without a write: on a full disk a failed commit costs a second, so
	// segments are not to fail after a few records each.
	room = 8 << 20
)

// recentSizes are the bytes of the last segments, the latest first. Several, since
// the hour and SIGUSR1 make small ones of a busy host.
type recentSizes [3]int64

func (r *recentSizes) add(bytes int64) {
	copy(r[1:], r[:])
	r[0] = bytes
}

// fill is how many bytes the next segment is expected to hold: the power of two
// above the largest of the recent ones.
func (r *recentSizes) fill() int64 {
	return 1 << bits.Len64(uint64(max(r[0], r[1], r[2])))
}

// recentSizes returns those of the segments found at start.
func (s *shelf) recentSizes() (r recentSizes) {
	s.lock()
	defer s.unlock()
	for _, one := range s.sealed[max(0, len(s.sealed)-len(r)):] {
		r.add(one.bytes)
	}
	return r
}

// LargestSegment is the size in bytes of the largest segment, sealed or not, and the
// one at which they are sealed, which the last commit of one may exceed.
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

// createNext makes the next segment in dir, in place of one that was left there.
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
			// What there is of it may be the room that shipping waits for.
			return nil, errors.Join(err, r.deleteDir(dir))
		}
		ahead = least
	}
}

// aheadFor is what the next segment has ahead of use. Its zeros take at most a quarter
// of the room that is left.
func (s *shelf) aheadFor(recent recentSizes) segment.Ahead {
	s.lock()
	defer s.unlock()
	free := (s.stats.FreeBytes - s.limits.Load().MinFree) / 4
	size := s.sealing().size
	ahead := minAhead(size)
	ahead.Zeros = min(max(min(recent.fill(), free), ahead.Zeros), size)
	return ahead
}

// minAhead is what a segment has at least, where segments have so many bytes.
func minAhead(segmentSize int64) segment.Ahead {
	return segment.Ahead{Zeros: min(smallestFill, segmentSize/4), Room: min(segmentSize, room)}
}

// fillJob is what the committer hands to the filler.
type fillJob struct {
	segment *active
	size    int64
}

// fillOn has more zeros written where a segment is about to outgrow those it has: as
// many bytes again as it holds, up to a bound.
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
	k.fills <- fillJob{a, size} // has room: only the committer sends
}

// writeZeros writes zeros ahead until the committer is done.
func (k *committer) writeZeros() {
	for job := range k.fills {
		if err := job.segment.Fill(job.size); err != nil {
			k.opts.Logger.Debug("can't write zeros ahead: commits take longer", "error", err)
		}
	}
}
