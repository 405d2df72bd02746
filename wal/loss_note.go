package wal

import (
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"
	"time"

	"collectord/wal/segment"
)

// Reasons of a LossNote.
const (
	LossDamaged = "damaged" // the bytes are damaged; the quarantine has them
	LossEvicted = "evicted" // deleted to make room (wal.when_full: drop_oldest)
	// LossSkipped means that no record is lost. The disk could not read the end of a
	// segment, so seqs were skipped for records that might be there, and no record had
	// these seqs.
	LossSkipped = "skipped"
	LossMissing = "missing" // acknowledged, but not in the segment's file, for example because the disk confirmed a flush that it did not carry out
)

// LossNote means that the records FirstSeq to LastSeq will never be shipped. It
// explains a gap in the seqs of the bucket's objects.
type LossNote struct {
	Node              string
	LogID, Run        uint64 // of the segment that held the records; Run is 0 if its header could not be read
	FirstSeq, LastSeq uint64
	Reason            string
	At                time.Time // when the loss was found or decided
	// Hours are the UTC hours, counted since 1970, of the first records of the segments
	// that held the records; at most maxHours, and empty if unknown. The storage may
	// have such a segment without having confirmed it, since its answer was lost or a
	// crash came first. So before the note is uploaded, the storage is searched for
	// these hours.
	Hours []int64
}

// maxHours is the max number of hours of a note, so that the note fits the reserve.
const maxHours = 100

// newLossNote returns a loss note of this log, without a run.
func (b *base) newLossNote(r SeqRange, reason string) LossNote {
	return LossNote{Node: b.opts.Node, LogID: b.logID, FirstSeq: r.First, LastSeq: r.Last, Reason: reason, At: time.Now()}
}

// fileName returns the note's file name.
func (n LossNote) fileName() string {
	return fmt.Sprintf("%s-%016x", segment.SealedName(n.FirstSeq, n.LastSeq), n.Run)
}

// encode returns the note as one line of text, as FORMAT.md describes it.
func (n LossNote) encode() []byte {
	hours := "-"
	if len(n.Hours) > 0 {
		hours = strings.Trim(strings.ReplaceAll(fmt.Sprint(n.Hours), " ", ","), "[]")
	}
	body := fmt.Sprintf("collectord-loss %d %016x %016x %d %d %s %d %s %q",
		formatVersion, n.LogID, n.Run, n.FirstSeq, n.LastSeq, n.Reason, n.At.UnixMicro(), hours, n.Node)
	return fmt.Appendf(nil, "%s %08x\n", body, crc32.Checksum([]byte(body), castagnoli))
}

var errFields = errors.New("fields are missing")

func decodeLossNote(b []byte) (n LossNote, err error) {
	line, _ := strings.CutSuffix(string(b), "\n")
	body, sum, ok := cutLast(line, " ")
	if !ok || fmt.Sprintf("%08x", crc32.Checksum([]byte(body), castagnoli)) != sum {
		return n, errChecksum
	}
	var version int
	var micros int64
	fields := strings.SplitN(body, " ", 10) // the node may contain spaces
	if len(fields) < 10 {
		return n, errFields
	}
	hours := fields[8] // many bytes, which Sscanf would read one at a time
	if _, err := fmt.Sscanf(strings.Join(slices.Delete(fields, 8, 9), " "), "collectord-loss %d %x %x %d %d %s %d %q",
		&version, &n.LogID, &n.Run, &n.FirstSeq, &n.LastSeq, &n.Reason, &micros, &n.Node); err != nil {
		return n, err
	}
	for text := range strings.SplitSeq(strings.Trim(hours, "-"), ",") {
		if text == "" {
			continue
		}
		hour, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return n, err
		}
		n.Hours = append(n.Hours, hour)
	}
	if version != formatVersion {
		return n, fmt.Errorf("%w %d, this program reads %d", ErrVersion, version, formatVersion)
	}
	n.At = time.UnixMicro(micros).UTC()
	return n, nil
}
