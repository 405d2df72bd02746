package wal

import (
	"errors"
	"hash/crc32"

	"collectord/wal/segment"
)

// Types of package segment that callers of the log need.
type (
	// Record is a usage with the collector's data about it.
	Record = segment.Record
	// ID is a UUID (RFC 9562). The log draws version 7.
	ID = segment.ID
	// Source is the way a record was received: HTTP or UDP.
	Source = segment.Source
	// SegmentHeader identifies the log, run and node that wrote a segment.
	SegmentHeader = segment.Header
	// SeqRange is a range of seqs, both ends included.
	SeqRange = segment.SeqRange
	// DamageError reports which bytes of a segment are damaged, and why.
	DamageError = segment.DamageError
	// UnreadableError means that the disk could not read part of a segment.
	UnreadableError = segment.UnreadableError
)

// Sources of records, and limits of a record in bytes.
const (
	HTTP      = segment.HTTP
	UDP       = segment.UDP
	MaxClient = segment.MaxClient
	MaxUsage  = segment.MaxUsage
)

// ErrVersion means that a later version of this program wrote the data. The data is not
// changed.
var ErrVersion = segment.ErrVersion

var errChecksum = errors.New("checksum does not match")

// formatVersion is the version of LOG and of loss notes.
const formatVersion = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli) //nolint:gochecknoglobals // a constant table

const maxSeq = segment.MaxSeq
