package bucket

import (
	"bytes"
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
	const digits = "0123456789abcdef"
	var text textID
	at := 0
	for i, b := range id {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			text[at] = '-'
			at++
		}
		text[at], text[at+1] = digits[b>>4], digits[b&0xf]
		at += 2
	}
	return append(dst, text[:]...)
}

func (id ID) String() string { return string(id.AppendTo(make([]byte, 0, 36))) }

// ParseID reads a UUID as text.
func ParseID(text string) (id ID, err error) {
	plain := strings.ReplaceAll(text, "-", "")
	if len(text) != 36 || len(plain) != 32 {
		return id, fmt.Errorf("%q is no UUID", text)
	}
	if _, err := hex.Decode(id[:], []byte(plain)); err != nil || id.String() != strings.ToLower(text) {
		return id, fmt.Errorf("%q is no UUID", text)
	}
	return id, nil
}

// Record is what a line holds.
type Record struct {
	ID         ID
	ReceivedAt int64  // microseconds since 1970
	Via        string // "http" or "udp"
	Client     string // empty: none, which is null in the line
	Usage      []byte // one JSON object without line breaks
}

// Columns returns the members of every line, in their order. A line has all of them,
// so that all objects have one schema.
func Columns() []string { return []string{"id", "received_at", "via", "client", "usage"} }

// timeLayout is the time format of lines, which sorts as text.
const timeLayout = "2006-01-02T15:04:05.000000Z"

// FormatTime is a time in the format of lines.
func FormatTime(t time.Time) string { return t.UTC().Format(timeLayout) }

// LineEncoder writes lines. It keeps the text of the last time, since the records of
// one request were received at once.
type LineEncoder struct {
	micros int64
	text   []byte
}

func (e *LineEncoder) time(micros int64) []byte {
	if len(e.text) == 0 || micros != e.micros {
		e.micros = micros
		e.text = time.UnixMicro(micros).UTC().AppendFormat(e.text[:0], timeLayout)
	}
	return e.text
}

// Append appends a record as one line of NDJSON.
func (e *LineEncoder) Append(dst []byte, r *Record) ([]byte, error) {
	dst = append(dst, `{"id":"`...)
	dst = r.ID.AppendTo(dst)
	dst = append(dst, `","received_at":"`...)
	dst = append(dst, e.time(r.ReceivedAt)...)
	dst = append(dst, `","via":"`...)
	dst = append(dst, r.Via...)
	dst = append(dst, `","client":`...)
	if r.Client == "" {
		dst = append(dst, "null"...)
	} else {
		var err error
		if dst, err = jsontext.AppendQuote(dst, r.Client); err != nil {
			return dst, fmt.Errorf("client name: %w", err)
		}
	}
	dst = append(dst, `,"usage":`...)
	dst = append(dst, r.Usage...)
	return append(dst, '}', '\n'), nil
}

// Line is a record as a line of an object, with its line break.
type Line []byte

// A line begins with its id and its time, unless it was written by others.
const (
	idStart   = len(`{"id":"`)
	idEnd     = idStart + len(textID{})
	timeStart = idEnd + len(`","received_at":"`)
	timeEnd   = timeStart + len(timeLayout)
)

// textID is a UUID as text. Those of version 7 sort as they were drawn.
type textID [36]byte

func (l Line) ours() bool {
	return len(l) > timeEnd && string(l[:idStart]) == `{"id":"` && string(l[idEnd:timeStart]) == `","received_at":"` && l[timeEnd] == '"'
}

type anyLine struct {
	ID         string
	ReceivedAt string `json:"received_at"`
	Usage      json.RawMessage
}

// IDText is the record's id as text; empty if there is none.
func (l Line) IDText() []byte {
	if l.ours() {
		return l[idStart:idEnd]
	}
	var any anyLine
	_ = json.Unmarshal(l, &any) // what is no record has no id
	return []byte(any.ID)
}

// ReceivedAt is when the record was received, as text; empty if it is not there.
func (l Line) ReceivedAt() []byte {
	if l.ours() {
		return l[timeStart:timeEnd]
	}
	var any anyLine
	_ = json.Unmarshal(l, &any)
	return []byte(any.ReceivedAt)
}

// ID is the record's id; false if there is none.
func (l Line) ID() (id ID, ok bool) {
	id, err := ParseID(string(l.IDText()))
	return id, err == nil
}

// Usage is the usage alone, byte for byte, without a line break.
func (l Line) Usage() []byte {
	const name = `,"usage":` // can't be part of a string, in which quotes are escaped
	if l.ours() && bytes.HasSuffix(l, []byte("}\n")) {
		if at := bytes.Index(l, []byte(name)); at >= 0 {
			return l[at+len(name) : len(l)-2]
		}
	}
	var any anyLine
	_ = json.Unmarshal(l, &any)
	return any.Usage
}
