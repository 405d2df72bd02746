package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Source says how a record came in.
type Source uint8

// The sources. Their values are part of the file format.
const (
	HTTP Source = iota
	UDP

	Sources = 2 // how many there are
)

func (s Source) String() string {
	switch s {
	case HTTP:
		return "http"
	case UDP:
		return "udp"
	}
	return fmt.Sprintf("source(%d)", uint8(s))
}

// Record is a usage plus what the collector knows of it.
type Record struct {
	Usage  []byte // one JSON object, at most MaxUsage bytes; the log copies it
	Client string // name of the token that was used, at most MaxClient bytes, or empty
	Source Source

	// ID is kept when it is not zero; otherwise Append draws a UUIDv7.
	ID ID
	// Seq is set when a record is read back, and ignored by Append.
	Seq uint64
	// ReceivedAt is in microseconds since 1970, UTC. Append sets it.
	ReceivedAt int64
}

// Limits of the format. Append refuses what is beyond them.
const (
	MaxClient = math.MaxUint8
	MaxUsage  = 16 << 20

	// MaxFrame is the size up to which records share a frame. One call of
	// Append is always whole in one frame, so a frame can be larger.
	MaxFrame = 1 << 20
	// MaxEntry bounds what a reader will believe of a length it finds.
	MaxEntry = 256 << 20
)

// RecordOverhead is what a record takes in a frame beside client and usage.
const RecordOverhead = 16 + 8 + 1 + 1 + 4

// Size is how many bytes the record takes in a frame.
func (r *Record) Size() int { return RecordOverhead + len(r.Client) + len(r.Usage) }

// Check returns an error for what does not fit a record.
func (r *Record) Check() error {
	if len(r.Client) > MaxClient {
		return fmt.Errorf("client name of %d bytes, at most %d fit a record", len(r.Client), MaxClient)
	}
	if len(r.Usage) > MaxUsage {
		return fmt.Errorf("usage of %d bytes, at most %d fit a record", len(r.Usage), MaxUsage)
	}
	if r.Source >= Sources {
		return fmt.Errorf("unknown source %d", r.Source)
	}
	return nil
}

// AppendRecord encodes r as FORMAT.md describes.
func AppendRecord(dst []byte, r *Record) []byte {
	dst = append(dst, r.ID[:]...)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(r.ReceivedAt))
	dst = append(dst, byte(r.Source), byte(len(r.Client)))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(r.Usage)))
	dst = append(dst, r.Client...)
	return append(dst, r.Usage...)
}

// NextSize is how many bytes of b the record at its front takes, as far as can be
// told: with less than its overhead, that.
func NextSize(b []byte) int {
	if len(b) < RecordOverhead {
		return RecordOverhead
	}
	return RecordOverhead + int(b[25]) + int(binary.LittleEndian.Uint32(b[26:]))
}

var errShortRecord = errors.New("record runs past the end of its frame")

// decodeRecord reads one record from the front of b into r and returns the rest.
// r.Usage is a part of b; r.Client is only allocated anew when it changed.
func decodeRecord(b []byte, r *Record) (rest []byte, err error) {
	if len(b) < RecordOverhead {
		return nil, errShortRecord
	}
	clientLen := int(b[25])
	usageLen := int(binary.LittleEndian.Uint32(b[26:]))
	if usageLen > len(b)-RecordOverhead-clientLen {
		return nil, errShortRecord
	}
	copy(r.ID[:], b)
	r.ReceivedAt = int64(binary.LittleEndian.Uint64(b[16:]))
	r.Source = Source(b[24])
	b = b[RecordOverhead:]
	if string(b[:clientLen]) != r.Client {
		r.Client = string(b[:clientLen])
	}
	r.Usage = b[clientLen : clientLen+usageLen : clientLen+usageLen]
	return b[clientLen+usageLen:], nil
}
