package wal

import (
	"errors"
	"math/bits"

	"collectord/wal/vfs"
)

// Zeros are written ahead of records, so that a sync need change neither the size
// nor the extents of the file. They wear a disk as records do: how many there are
// follows what recent segments held, and a segment that outgrows them gets more.
const (
	smallestFill = 16 << 10
	// largestFillStep is how much a segment that outgrows its zeros gets at a time:
	// the commit that does so syncs them, too.
	largestFillStep = 1 << 20
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

// createNext makes the next segment in dir, in place of one that was left there.
func (l *Log) createNext(dir string, recent recentSizes) (a *active, err error) {
	fill := l.fillFor(recent)
	for {
		if err := l.removeDir(dir); err != nil {
			return nil, err
		}
		if a, err = l.createActive(dir, fill); err == nil {
			return a, nil
		}
		if !vfs.IsFull(err) || fill <= smallestFill {
			// What there is of it may be the room that shipping waits for.
			return nil, errors.Join(err, l.removeDir(dir))
		}
		fill = smallestFill
	}
}

// fillFor is how many bytes are written ahead in the next segment. Its zeros take at
// most a quarter of the room that is left.
func (l *Log) fillFor(recent recentSizes) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	room := (l.stats.FreeBytes - l.opts.MinFree) / 4
	return min(max(min(recent.fill(), room), smallestFill), l.opts.sealing().size)
}

// fillOn writes more zeros ahead in a segment that has outgrown those it had: as many
// bytes again as it holds, up to a bound. Zeros that find no room are done without.
func (l *Log) fillOn(a *active) error {
	if a.Bytes() < a.Filled() {
		return nil
	}
	step := min(max(a.Bytes(), smallestFill), largestFillStep)
	err := a.Fill(min(a.Bytes()+step, l.segmentSize()))
	if vfs.IsFull(err) {
		return nil
	}
	return err
}
