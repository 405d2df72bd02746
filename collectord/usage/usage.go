package usage

import (
	"bytes"
	"fmt"
)

// Codes of faults. They are part of the interface: HTTP responses contain them, and
// metrics use them as labels.
const (
	CodeInvalidJSON   = "invalid_json"
	CodeNotAnObject   = "not_an_object"
	CodeEmpty         = "empty"
	CodeDuplicateName = "duplicate_name"
	CodeInvalidUTF8   = "invalid_utf8"
	CodeTooDeep       = "too_deep"
	CodeNumberRange   = "number_range"
	CodeTooLarge      = "too_large"
)

// Codes returns all codes.
func Codes() []string {
	return []string{
		CodeInvalidJSON, CodeNotAnObject, CodeEmpty, CodeDuplicateName, CodeInvalidUTF8, CodeTooDeep, CodeNumberRange, CodeTooLarge,
	}
}

// maxDepth limits the nesting of objects and arrays in a usage.
const (
	maxDepth      = 64
	tooDeepReason = "nesting deeper than 64 levels begins"
)

// Error describes a fault and its position, without received data.
//
// Offset is that of the first byte that makes the text invalid: the text before it is
// the start of some valid text. A fault in a name, a number, an escape or a multibyte
// character has the offset of its first byte. The offset of a text that ends too early
// is its length. A valid JSON value that is not an object is a fault at its first byte;
// a syntax error in such a value takes precedence.
type Error struct {
	Code   string
	Offset int    // in bytes, from the start of the text
	Reason string // for people

	limit int // the limit that was exceeded; 0 if none
}

func (e *Error) Error() string {
	if e.limit > 0 {
		return fmt.Sprintf("%s (%d) at byte %d", e.Reason, e.limit, e.Offset)
	}
	return fmt.Sprintf("%s at byte %d", e.Reason, e.Offset)
}

// Check checks a text that must contain exactly one usage and optional white space. It
// returns the usage as a slice of the text, and removes line breaks between tokens in
// place. It skips a byte order mark at the start.
func Check(text []byte) ([]byte, *Error) {
	from := bomLength(text)
	var s scanner
	s.scanObject(text[from:], 0)
	s.rejectTrailing()
	if s.fault.Code != "" {
		fault := s.fault // a copy, so that only a fault is allocated on the heap
		fault.Offset += from
		return nil, &fault
	}
	return s.object(), nil
}

const bom = "\xef\xbb\xbf" // U+FEFF, which programs on Windows write at the start of files

// bomLength returns the length of the byte order mark at the start of a text, or 0.
func bomLength(text []byte) int {
	if bytes.HasPrefix(text, []byte(bom)) {
		return len(bom)
	}
	return 0
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

func skipSpace(b []byte, at int) int {
	for at < len(b) && isSpace(b[at]) {
		at++
	}
	return at
}

// removeBreaks removes line breaks from valid JSON, in place. A string contains no raw
// line break, and no two tokens of an object need white space between them.
func removeBreaks(b []byte) []byte {
	out := b[:0]
	for _, c := range b {
		if c != '\n' && c != '\r' {
			out = append(out, c)
		}
	}
	return out
}
