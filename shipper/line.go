package shipper

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"collectord/wal"
)

// Line is a record as a line of an object, with its line break.
type Line []byte

// A line begins with its id and its time, unless it was written by others.
const (
	timeAt  = idEnd + len(`","received_at":"`)
	timeEnd = timeAt + len("2006-01-02T15:04:05.000000Z")
)

func (l Line) ours() bool {
	return len(l) > timeEnd && string(l[:idAt]) == `{"id":"` && string(l[idEnd:timeAt]) == `","received_at":"` && l[timeEnd] == '"'
}

type anyLine struct {
	ID         string
	ReceivedAt string `json:"received_at"`
	Usage      json.RawMessage
}

func (l Line) id() []byte {
	if l.ours() {
		return l[idAt:idEnd]
	}
	var any anyLine
	_ = json.Unmarshal(l, &any) // what is no record has no id
	return []byte(any.ID)
}

func (l Line) receivedAt() []byte {
	if l.ours() {
		return l[timeAt:timeEnd]
	}
	var any anyLine
	_ = json.Unmarshal(l, &any)
	return []byte(any.ReceivedAt)
}

// ID is the record's id; false if there is none.
func (l Line) ID() (id wal.ID, ok bool) {
	id, err := ParseID(string(l.id()))
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

// ParseID reads a UUID as text.
func ParseID(text string) (id wal.ID, err error) {
	plain := strings.ReplaceAll(text, "-", "")
	if len(text) != 36 || len(plain) != 32 {
		return id, fmt.Errorf("%q is no UUID", text)
	}
	if _, err := hex.Decode(id[:], []byte(plain)); err != nil || id.String() != strings.ToLower(text) {
		return id, fmt.Errorf("%q is no UUID", text)
	}
	return id, nil
}
