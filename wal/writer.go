package wal

import (
	"math"

	tidwall "github.com/tidwall/wal"
)

// entryWriter appends entries to the file of a segment: to the length of each, as
// FORMAT.md has it, and its bytes. After an error it is dropped.
type entryWriter interface {
	Write(index uint64, entry []byte) error // index counts from 1
	Close() error
}

// writer makes the file of a segment. lent are the writer's buffers, or nil.
func (d disk) writer(dir string) (w entryWriter, lent *buffers, err error) {
	if d.newWriter != nil {
		w, err = d.newWriter(dir)
		return w, nil, err
	}
	log, err := tidwall.Open(dir, &tidwall.Options{
		NoSync: true,
		// Its own segments would be files that no name of ours tells of.
		SegmentSize: math.MaxInt,
		DirPerms:    0o750,
		FilePerms:   0o640,
	})
	if err != nil {
		return nil, nil, err
	}
	return log, buffersOf(log), nil
}
