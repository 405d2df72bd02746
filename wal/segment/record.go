package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Source is the protocol by which a record arrived.
type Source uint8

// The values of the sources are part of the format.
const (
	HTTP Source = iota
	UDP

	Sources = 2 // number of sources
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

// Record is a usage with the data that the collector adds to it.
type Record struct {
	Usage  []byte // one JSON object, at most MaxUsage bytes; Append copies it
	Client string // name of the authenticated client, at most MaxClient bytes; empty without authentication
	Source Source

	// ID identifies the record. Append generates a UUIDv7 if ID is zero.
	ID ID
	// Seq is set when a record is read. Append ignores it.
	Seq uint64
	// ReceivedAt is in microseconds since 1970-01-01 UTC. Append sets it.
	ReceivedAt int64
}

// The limits of the format are in bytes. Append returns an error beyond MaxClient and
// MaxUsage.
const (
	MaxClient = math.MaxUint8
	MaxUsage  = 16 << 20

	// MaxFrame is the size of a frame, header included, up to which a frame takes further
	// appends. One append is never split, so its frame can be larger.
	MaxFrame = 1 << 20
	// MaxEntry is the max length of an entry that a reader accepts.
	MaxEntry = 256 << 20
)

// An encoded record is its id, ReceivedAt, source and the lengths of client and usage, at
// these offsets, and then client and usage.
const (
	receivedAtOffset = 16
	sourceOffset     = 24
	clientLenOffset  = 25
	usageLenOffset   = 26

	// RecordOverhead is the number of bytes that a record takes besides client and usage.
	RecordOverhead = 30
)

// Size returns the number of bytes that the record takes in a frame.
func (r *Record) Size() int { return RecordOverhead + len(r.Client) + len(r.Usage) }

// Check returns an error if the record exceeds a limit of the format.
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

// AppendRecord appends the encoded record to dst.
func AppendRecord(dst []byte, r *Record) []byte {
	var head [RecordOverhead]byte
	copy(head[:], r.ID[:])
	binary.LittleEndian.PutUint64(head[receivedAtOffset:], uint64(r.ReceivedAt))
	head[sourceOffset], head[clientLenOffset] = byte(r.Source), byte(len(r.Client))
	binary.LittleEndian.PutUint32(head[usageLenOffset:], uint32(len(r.Usage)))
	dst = append(dst, head[:]...)
	dst = append(dst, r.Client...)
	return append(dst, r.Usage...)
}

// NextSize returns the size in bytes of the record at the front of b. It returns
// RecordOverhead if b is shorter, because the record's lengths are in those bytes.
func NextSize(b []byte) int {
	if len(b) < RecordOverhead {
		return RecordOverhead
	}
	return RecordOverhead + int(b[clientLenOffset]) + int(binary.LittleEndian.Uint32(b[usageLenOffset:]))
}

// SourceOf returns the source of the encoded record at the front of b.
func SourceOf(b []byte) Source { return Source(b[sourceOffset]) }

// Stamp sets the id and ReceivedAt of the encoded record at the front of b.
func Stamp(b []byte, id ID, receivedAt int64) {
	copy(b, id[:])
	binary.LittleEndian.PutUint64(b[receivedAtOffset:], uint64(receivedAt))
}

var errShortRecord = errors.New("record runs past the end of its frame")

// decodeRecord decodes the record at the front of b into r and returns the rest of b.
// r.Usage shares the memory of b. r.Client is allocated only if it changes.
func decodeRecord(b []byte, r *Record) (rest []byte, err error) {
	if len(b) < RecordOverhead {
		return nil, errShortRecord
	}
	clientLen := int(b[clientLenOffset])
	usageLen := int(binary.LittleEndian.Uint32(b[usageLenOffset:]))
	if usageLen > len(b)-RecordOverhead-clientLen {
		return nil, errShortRecord
	}
	copy(r.ID[:], b)
	r.ReceivedAt = int64(binary.LittleEndian.Uint64(b[receivedAtOffset:]))
	r.Source = SourceOf(b)
	b = b[RecordOverhead:]
	if string(b[:clientLen]) != r.Client {
		r.Client = string(b[:clientLen])
	}
	r.Usage = b[clientLen : clientLen+usageLen : clientLen+usageLen]
	return b[clientLen+usageLen:], nil
}
