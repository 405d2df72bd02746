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
func (l *Log) recentSizes() (r recentSizes) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.sealed[max(0, len(l.sealed)-len(r)):] {
		r.add(s.bytes)
	}
	return r
}

// LargestSegment is the size in bytes of the largest segment, sealed or not, and the
// one at which they are sealed, which the last commit of one may exceed.
func (l *Log) LargestSegment() (largest, sealedAt int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	largest = l.active.bytes
	for _, a := range l.unsealed {
		largest = max(largest, a.Bytes())
	}
	for _, s := range l.sealed {
		largest = max(largest, s.bytes)
	}
	return largest, l.opts.sealing().size
}

// createNext makes the next segment in dir, in place of one that was left there.
func (l *Log) createNext(dir string, recent recentSizes) (a *active, err error) {
	ahead := l.aheadFor(recent)
	for {
		if err := l.removeDir(dir); err != nil {
			return nil, err
		}
		if a, err = l.createActive(dir, ahead); err == nil {
			return a, nil
		}
		least := leastAhead(l.segmentSize())
		if !vfs.IsFull(err) || ahead.Zeros <= least.Zeros {
			// What there is of it may be the room that shipping waits for.
			return nil, errors.Join(err, l.removeDir(dir))
		}
		ahead = least
	}
}

// aheadFor is what the next segment has ahead of use. Its zeros take at most a quarter
// of the room that is left.
func (l *Log) aheadFor(recent recentSizes) segment.Ahead {
	l.mu.Lock()
	defer l.mu.Unlock()
	free := (l.stats.FreeBytes - l.opts.MinFree) / 4
	size := l.opts.sealing().size
	ahead := leastAhead(size)
	ahead.Zeros = min(max(min(recent.fill(), free), ahead.Zeros), size)
	return ahead
}

// leastAhead is what a segment has at least, where segments have so many bytes.
func leastAhead(segmentSize int64) segment.Ahead {
	return segment.Ahead{Zeros: min(smallestFill, segmentSize/4), Room: min(segmentSize, room)}
}

// fillJob is what the committer hands to the filler.
type fillJob struct {
	segment *active
	size    int64
}

// fillOn has more zeros written where a segment is about to outgrow those it has: as
// many bytes again as it holds, up to a bound.
func (l *Log) fillOn(a *active) {
	filled := max(a.Filled(), a.fillTo)
	lead := min(filled/8, largestLead)
	if a.Bytes()+lead < filled || len(l.fills) == cap(l.fills) {
		return
	}
	size := min(filled+min(filled, largestFillStep), l.segmentSize())
	if size <= filled {
		return
	}
	a.fillTo = size
	l.fills <- fillJob{a, size} // has room: only the committer sends
}

// runFiller writes zeros ahead until the committer is done.
func (l *Log) runFiller() {
	defer l.done.Done()
	for job := range l.fills {
		if err := job.segment.Fill(job.size); err != nil {
			l.opts.Logger.Debug("can't write zeros ahead: commits take longer", "error", err)
		}
	}
}
