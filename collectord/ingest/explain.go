package ingest

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// explainStart says what is wrong with a text that does not begin with a brace.
func explainStart(b []byte, start int) *usageError {
	if bytes.HasPrefix(b[start:], []byte("\xef\xbb\xbf")) {
		return &usageError{CodeInvalidJSON, start, "byte order mark"}
	}
	if _, fault := valueEnd(b, start); fault != nil {
		return fault
	}
	return &usageError{CodeNotAnObject, start, "a JSON value that is not an object begins"}
}

// explain says what is wrong with an object that is not valid. Before the place
// where it is not, the bounds that measure looks at may be broken.
func explain(b []byte, start int, bounds *usageError) *usageError {
	d := jsontext.NewDecoder(bytes.NewReader(b[start:]))
	_, err := d.ReadValue()
	if err == nil { // closed where a looser pass saw no end
		return &usageError{CodeInvalidJSON, start, "object does not end"}
	}
	fault := explainError(b, start, err)
	if bounds == nil || bounds.offset > fault.offset || endOfNumber(b, bounds.offset) > fault.offset {
		return fault // before the bounds, or in the number itself
	}
	return bounds
}

// explainError translates an error of the decoder, whose own text may hold
// parts of the usage.
func explainError(b []byte, start int, err error) *usageError {
	at := len(b)
	var syntax *jsontext.SyntacticError
	if errors.As(err, &syntax) {
		at = min(start+int(syntax.ByteOffset), len(b))
	}
	r, size := utf8.DecodeRune(b[at:])
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return &usageError{CodeDuplicateName, at, "name that the object holds already"}
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return &usageError{CodeInvalidJSON, len(b), "the text ends too soon"}
	case r == utf8.RuneError && size == 1:
		return &usageError{CodeInvalidUTF8, at, "bytes that are no UTF-8"}
	case loneSurrogate(b[at:]) && endsInString(b[start:at]):
		return &usageError{CodeInvalidUTF8, at, "escaped surrogate without its other half"}
	}
	return &usageError{CodeInvalidJSON, at, "no valid JSON"}
}

// loneSurrogate reports whether b begins with the escape of a surrogate; the
// decoder stops there only if its other half is missing.
func loneSurrogate(b []byte) bool {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return false
	}
	n, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	return err == nil && n >= 0xd800 && n <= 0xdfff
}

// endsInString reports whether b, the beginning of valid JSON, ends in a string.
func endsInString(b []byte) (in bool) {
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			in = !in
		case '\\':
			i++
		}
	}
	return in
}

// valueEnd returns where the JSON value that begins at start ends. Duplicate
// names and bad UTF-8 within strings do not keep it from having an end.
func valueEnd(b []byte, start int) (int, *usageError) {
	d := jsontext.NewDecoder(bytes.NewReader(b[start:]), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if _, err := d.ReadValue(); err != nil {
		return 0, explainError(b, start, err)
	}
	return start + int(d.InputOffset()), nil
}
