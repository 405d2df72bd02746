package wal

import (
	"errors"
	"hash/crc32"

	"collectord/wal/segment"
)

// What a segment is made of has its names here, too: callers of the log need no
// other package.
type (
	// Record is a usage plus what the collector knows of it.
	Record = segment.Record
	// ID is a UUID: version 7 when the log drew it.
	ID = segment.ID
	// Source says whether a record came over HTTP or UDP.
	Source = segment.Source
	// SegmentHeader says who wrote a segment.
	SegmentHeader = segment.Header
	// SeqRange is a range of records.
	SeqRange = segment.SeqRange
	// DamageError says where bytes of a segment do not check out, and why.
	DamageError = segment.DamageError
	// UnreadableError says that the disk did not give a part of a segment.
	UnreadableError = segment.UnreadableError
)

// Sources of records, and limits of the format.
const (
	HTTP      = segment.HTTP
	UDP       = segment.UDP
	MaxClient = segment.MaxClient
	MaxUsage  = segment.MaxUsage
)

// ErrVersion means that a later version of this program wrote what was found. It
// is left as it is.
var ErrVersion = segment.ErrVersion

var errChecksum = errors.New("checksum does not match")

// formatVersion is that of LOG and of loss notes.
const formatVersion = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli) //nolint:gochecknoglobals // a constant table

const maxSeq = segment.MaxSeq
