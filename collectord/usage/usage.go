package usage

import (
	"bytes"
	"fmt"
)

// Codes for what is wrong with a usage. They are part of the interface: answers
// carry them, and metrics count by them.
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

// Codes returns all of them.
func Codes() []string {
	return []string{
		CodeInvalidJSON, CodeNotAnObject, CodeEmpty, CodeDuplicateName, CodeInvalidUTF8, CodeTooDeep, CodeNumberRange, CodeTooLarge,
	}
}

// maxDepth is how deep objects and arrays may nest in a usage.
const (
	maxDepth = 64
	tooDeep  = "nesting deeper than 64 levels begins"
)

// Error says what is wrong with a usage and where, never what it holds.
//
// The offset is that of the first byte that makes the text wrong: what comes
// before it can be continued to one that is right. A name, a number, an escape
// or a character of several bytes is wrong as a whole, from its first byte on; a
// text that ends too soon is wrong at its end. A value that is no object is wrong
// from its beginning, unless it is no JSON at all; then that comes first.
type Error struct {
	Code   string
	Offset int    // in the text
	Reason string // in words

	limit int // that was exceeded; 0 for none
}

func (e *Error) Error() string {
	if e.limit > 0 {
		return fmt.Sprintf("%s (%d) at byte %d", e.Reason, e.limit, e.Offset)
	}
	return fmt.Sprintf("%s at byte %d", e.Reason, e.Offset)
}

// Check checks a text that must be one usage, and nothing else but white space. It
// returns the usage, which is part of the text: line breaks between its tokens are
// removed in place. A byte order mark at its first byte is skipped.
func Check(text []byte) ([]byte, *Error) {
	from := byteOrderMark(text)
	var s scanner
	s.find(text[from:], 0)
	s.endsIn()
	if s.fault.Code != "" {
		fault := s.fault // so that only what is wrong is allocated
		fault.Offset += from
		return nil, &fault
	}
	return s.usage(), nil
}

const bom = "\xef\xbb\xbf" // U+FEFF, with which programs of Windows begin their files

// byteOrderMark returns how many bytes of a text come before its first value: those of
// one mark, if it begins with one.
func byteOrderMark(text []byte) int {
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

// removeBreaks takes line breaks out of valid JSON, in place. Within strings
// there can be none, and within an object no two tokens need white space between
// them.
func removeBreaks(b []byte) []byte {
	out := b[:0]
	for _, c := range b {
		if c != '\n' && c != '\r' {
			out = append(out, c)
		}
	}
	return out
}
