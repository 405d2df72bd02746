package bucket

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// ID is the UUID of a record.
type ID [16]byte

// AppendTo appends the canonical text form, 36 characters, to dst.
func (id ID) AppendTo(dst []byte) []byte {
	text := textID{8: '-', 13: '-', 18: '-', 23: '-'}
	second, third := hexDigits(id[4:]), hexDigits(id[8:])
	binary.BigEndian.PutUint64(text[0:], hexDigits(id[0:]))
	binary.BigEndian.PutUint32(text[9:], uint32(second>>32))
	binary.BigEndian.PutUint32(text[14:], uint32(second))
	binary.BigEndian.PutUint32(text[19:], uint32(third>>32))
	binary.BigEndian.PutUint32(text[24:], uint32(third))
	binary.BigEndian.PutUint64(text[28:], hexDigits(id[12:]))
	return append(dst, text[:]...)
}

// hexDigits returns the first four bytes of b as eight hexadecimal digits, the first
// digit in the highest byte. It converts all eight at once for speed, since each line has
// an id.
func hexDigits(b []byte) uint64 {
	const each = 0x0101010101010101
	n := uint64(binary.BigEndian.Uint32(b)) // the lines below spread the nibbles, one into each byte
	n = (n | n<<16) & 0x0000ffff0000ffff
	n = (n | n<<8) & 0x00ff00ff00ff00ff
	n = (n | n<<4) & 0x0f0f0f0f0f0f0f0f
	letters := (n + 6*each) >> 4 & each // 1 where the nibble is above 9
	return n + '0'*each + letters*('a'-'0'-10)
}

func (id ID) String() string { return string(id.AppendTo(make([]byte, 0, 36))) }

// ParseID parses the canonical text form of a UUID.
func ParseID(text string) (id ID, err error) {
	plain := strings.ReplaceAll(text, "-", "")
	if len(text) != 36 || len(plain) != 32 {
		return id, fmt.Errorf("%q is not a UUID", text)
	}
	if _, err := hex.Decode(id[:], []byte(plain)); err != nil || id.String() != strings.ToLower(text) {
		return id, fmt.Errorf("%q is not a UUID", text)
	}
	return id, nil
}

// Record is the content of a line.
type Record struct {
	ID         ID
	ReceivedAt int64  // microseconds since 1970
	Via        string // "http" or "udp"
	Client     string // empty: none, which is null in the line
	Usage      []byte // one JSON object without line breaks
}

// Columns returns the members of a line, in order. Each line has all of them, so that all
// objects have the same schema.
func Columns() []string { return []string{"id", "received_at", "via", "client", "usage"} }

// timeLayout is the time format of lines, which sorts as text.
const timeLayout = "2006-01-02T15:04:05.000000Z"

// FormatTime formats a time in the format of lines.
func FormatTime(t time.Time) string { return t.UTC().Format(timeLayout) }

// LineEncoder encodes lines. It caches the bytes between id and usage, which are the same
// for all records of one request.
type LineEncoder struct {
	between     []byte // empty: nothing cached
	receivedAt  int64
	via, client string
}

// Append appends a record as one line of NDJSON.
func (e *LineEncoder) Append(dst []byte, r *Record) ([]byte, error) {
	if len(e.between) == 0 || r.ReceivedAt != e.receivedAt || r.Via != e.via || r.Client != e.client {
		if err := e.cacheBetween(r); err != nil {
			return dst, err
		}
	}
	dst = append(dst, `{"id":"`...)
	dst = r.ID.AppendTo(dst)
	dst = append(dst, e.between...)
	dst = append(dst, r.Usage...)
	return append(dst, '}', '\n'), nil
}

// cacheBetween caches the bytes between the id of a record and its usage.
func (e *LineEncoder) cacheBetween(r *Record) (err error) {
	b := append(e.between[:0], `","received_at":"`...)
	b = time.UnixMicro(r.ReceivedAt).UTC().AppendFormat(b, timeLayout)
	b = append(b, `","via":"`...)
	b = append(b, r.Via...)
	b = append(b, `","client":`...)
	if r.Client == "" {
		b = append(b, "null"...)
	} else if b, err = jsontext.AppendQuote(b, r.Client); err != nil {
		e.between = nil
		return fmt.Errorf("client name: %w", err)
	}
	e.between, e.receivedAt, e.via, e.client = append(b, `,"usage":`...), r.ReceivedAt, r.Via, r.Client
	return nil
}

// Line is a record as a line of an object, with its line break.
type Line []byte

// Positions of id and time in a line, unless another program wrote it.
const (
	idStart   = len(`{"id":"`)
	idEnd     = idStart + len(textID{})
	timeStart = idEnd + len(`","received_at":"`)
	timeEnd   = timeStart + len(timeLayout)
)

// textID is a UUID as text. UUIDs of version 7 sort in the order of their creation.
type textID [36]byte

func (l Line) hasFixedLayout() bool {
	return len(l) > timeEnd && string(l[:idStart]) == `{"id":"` && string(l[idEnd:timeStart]) == `","received_at":"` && l[timeEnd] == '"'
}

type decodedLine struct {
	ID         string
	ReceivedAt string `json:"received_at"`
	Usage      json.RawMessage
}

// IDText returns the record's id as text; empty if there is none.
func (l Line) IDText() []byte {
	if l.hasFixedLayout() {
		return l[idStart:idEnd]
	}
	var decoded decodedLine
	_ = json.Unmarshal(l, &decoded) // a line that is not a record has no id
	return []byte(decoded.ID)
}

// ReceivedAt returns when the record was received, as text; empty if there is no time.
func (l Line) ReceivedAt() []byte {
	if l.hasFixedLayout() {
		return l[timeStart:timeEnd]
	}
	var decoded decodedLine
	_ = json.Unmarshal(l, &decoded)
	return []byte(decoded.ReceivedAt)
}

// ID returns the record's id; false if there is none.
func (l Line) ID() (id ID, ok bool) {
	id, err := ParseID(string(l.IDText()))
	return id, err == nil
}

// Usage returns the usage alone, byte for byte, without a line break.
func (l Line) Usage() []byte {
	const name = `,"usage":` // can't occur in a string, in which quotes are escaped
	if l.hasFixedLayout() && bytes.HasSuffix(l, []byte("}\n")) {
		if at := bytes.Index(l, []byte(name)); at >= 0 {
			return l[at+len(name) : len(l)-2]
		}
	}
	var decoded decodedLine
	_ = json.Unmarshal(l, &decoded)
	return decoded.Usage
}
