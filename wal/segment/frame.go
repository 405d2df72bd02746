package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A segment's file is a sequence of entries: first a segment header, then frames. An entry
// is a length (unsigned LEB128) and that many bytes. Integers are little-endian. Checksums
// are CRC-32C (Castagnoli; RFC 3720, appendix B.4).
//
//	segment header                       frame
//	+---------------------+  0           +---------------------+  0
//	| magic FF 'c' 'd' 'S'|              | magic FF 'c' 'd' 'F'|
//	| version, node length|  4           | version, 3 zeros    |  4
//	| 2 zeros             |              |                     |
//	| log id              |  8           | log id              |  8
//	| run                 | 16           | run                 | 16
//	| created, µs         | 24           | first seq           | 24
//	| node                | 32           | count               | 32
//	| CRC of all above    | 32+n         | payload length      | 36
//	+---------------------+              | CRC of the payload  | 40
//	                                     | CRC of all above    | 44
//	                                     | payload: records    | 48
//	                                     +---------------------+
//
// No usage can imitate a magic, because a magic begins with 0xFF, which UTF-8 text never
// contains.
const (
	// MaxHeader is the max size in bytes of a header of this version, including its
	// length.
	MaxHeader = 2 + headerSize + 255 + 4

	headerMagic = "\xffcdS"
	frameMagic  = "\xffcdF"

	formatVersion   = 1
	headerSize      = 32       // bytes before node and checksum
	maxLaterHeader  = 64 << 10 // max bytes of a header of any version
	frameHeaderSize = 48
)

// ErrVersion means that a later version of this program wrote the data. Readers leave
// such data unchanged.
var ErrVersion = errors.New("format version")

var castagnoli = crc32.MakeTable(crc32.Castagnoli) //nolint:gochecknoglobals // a constant table

// Header is the first entry of a segment.
type Header struct {
	LogID     uint64 // id of the log that wrote the segment
	Run       uint64 // random number, drawn at every start of the daemon
	Node      string // node name of the host
	CreatedAt int64  // microseconds since 1970 UTC
}

func (h Header) append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, headerMagic...)
	dst = append(dst, formatVersion, byte(len(h.Node)), 0, 0)
	dst = binary.LittleEndian.AppendUint64(dst, h.LogID)
	dst = binary.LittleEndian.AppendUint64(dst, h.Run)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(h.CreatedAt))
	dst = append(dst, h.Node...)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

var (
	errBadMagic = errors.New("magic number is missing")
	errBadCRC   = errors.New("checksum does not match")
)

// decodeHeader decodes a header. It verifies the checksum before it reads the version,
// because every version has the checksum at the end.
func decodeHeader(b []byte) (h Header, err error) {
	if len(b) < headerSize+4 {
		return h, errors.New("segment header is cut short")
	}
	body, sum := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	switch {
	case string(b[:4]) != headerMagic:
		return h, errBadMagic
	case crc32.Checksum(body, castagnoli) != sum:
		return h, errBadCRC
	case b[4] != formatVersion:
		return h, fmt.Errorf("%w %d, this program reads %d", ErrVersion, b[4], formatVersion)
	case len(b) != headerSize+int(b[5])+4:
		return h, errors.New("segment header has the wrong length")
	}
	return Header{
		LogID:     binary.LittleEndian.Uint64(b[8:]),
		Run:       binary.LittleEndian.Uint64(b[16:]),
		CreatedAt: int64(binary.LittleEndian.Uint64(b[24:])),
		Node:      string(body[headerSize:]),
	}, nil
}

// frameHeader is the part of a frame before the records.
type frameHeader struct {
	logID, run uint64
	firstSeq   uint64
	count      uint32
	payloadLen uint32
	payloadCRC uint32
}

// put encodes h into the first frameHeaderSize bytes of b.
func (h frameHeader) put(b []byte) {
	copy(b, frameMagic)
	binary.LittleEndian.PutUint32(b[4:], formatVersion)
	binary.LittleEndian.PutUint64(b[8:], h.logID)
	binary.LittleEndian.PutUint64(b[16:], h.run)
	binary.LittleEndian.PutUint64(b[24:], h.firstSeq)
	binary.LittleEndian.PutUint32(b[32:], h.count)
	binary.LittleEndian.PutUint32(b[36:], h.payloadLen)
	binary.LittleEndian.PutUint32(b[40:], h.payloadCRC)
	binary.LittleEndian.PutUint32(b[44:], crc32.Checksum(b[:44], castagnoli))
}

// decodeFrameHeader decodes and verifies the first frameHeaderSize bytes of b.
func decodeFrameHeader(b []byte) (h frameHeader, err error) {
	if string(b[:4]) != frameMagic {
		return h, errBadMagic
	}
	if crc32.Checksum(b[:44], castagnoli) != binary.LittleEndian.Uint32(b[44:]) {
		return h, errBadCRC
	}
	if v := binary.LittleEndian.Uint32(b[4:]); v != formatVersion {
		return h, fmt.Errorf("%w %d, this program reads %d", ErrVersion, v, formatVersion)
	}
	return frameHeader{
		logID:      binary.LittleEndian.Uint64(b[8:]),
		run:        binary.LittleEndian.Uint64(b[16:]),
		firstSeq:   binary.LittleEndian.Uint64(b[24:]),
		count:      binary.LittleEndian.Uint32(b[32:]),
		payloadLen: binary.LittleEndian.Uint32(b[36:]),
		payloadCRC: binary.LittleEndian.Uint32(b[40:]),
	}, nil
}

// MaxLengthPrefix is the number of bytes that a buffer reserves in front of a frame for the
// entry's length. FrameStart is the offset of the records in that buffer.
const (
	MaxLengthPrefix = binary.MaxVarintLen32
	FrameStart      = MaxLengthPrefix + frameHeaderSize
)

// PutFrame completes the frame in buf, whose records begin at FrameStart. It writes the
// frame's header at MaxLengthPrefix.
func PutFrame(buf []byte, logID, run, firstSeq uint64, count uint32) {
	payload := buf[FrameStart:]
	frameHeader{
		logID: logID, run: run, firstSeq: firstSeq, count: count,
		payloadLen: uint32(len(payload)), payloadCRC: crc32.Checksum(payload, castagnoli),
	}.put(buf[MaxLengthPrefix:])
}

func (h frameHeader) lastSeq() uint64 { return h.firstSeq + uint64(h.count) - 1 }

func uvarintLen(n uint64) (size int) {
	for size = 1; n >= 0x80; size++ {
		n >>= 7
	}
	return size
}
