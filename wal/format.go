package wal

import (
	"errors"
	"hash/crc32"

	"collectord/wal/segment"
)

// Types of package segment that callers of the log need.
type (
	// Record is a usage plus what the collector knows of it.
	Record = segment.Record
	// ID is a UUID (RFC 9562): version 7 when the log drew it.
	ID = segment.ID
	// Source is how a record came in.
	Source = segment.Source
	// SegmentHeader is who wrote a segment.
	SegmentHeader = segment.Header
	// SeqRange is a range of seqs, both ends included.
	SeqRange = segment.SeqRange
	// DamageError is where bytes of a segment are damaged, and why.
	DamageError = segment.DamageError
	// UnreadableError means that the disk could not read a part of a segment.
	UnreadableError = segment.UnreadableError
)

// Sources of records, and limits of the format.
const (
	HTTP      = segment.HTTP
	UDP       = segment.UDP
	MaxClient = segment.MaxClient
	MaxUsage  = segment.MaxUsage
)

// ErrVersion means that a later version of this program wrote what was read. It is left
// as it is.
var ErrVersion = segment.ErrVersion

var errChecksum = errors.New("checksum does not match")

// formatVersion is the version of LOG and of loss notes.
const formatVersion = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli) //nolint:gochecknoglobals // a constant table

const maxSeq = segment.MaxSeq
