package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
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

// usageCodes are those that a usage can be refused with by either door.
func usageCodes() []string {
	return []string{
		CodeInvalidJSON, CodeNotAnObject, CodeEmpty, CodeDuplicateName, CodeInvalidUTF8, CodeTooDeep, CodeNumberRange,
	}
}

// maxDepth is how deep objects and arrays may nest in a usage.
const maxDepth = 64

// usageError says what is wrong with a usage and where, never what it holds.
//
// The offset is that of the first byte that makes the text wrong: what comes
// before it can be continued to one that is right. A name, a number, an escape
// or a character of several bytes is wrong as a whole, from its first byte on; a
// text that ends too soon is wrong at its end. A value that is no object is wrong
// from its beginning, unless it is no JSON at all; then that comes first.
type usageError struct {
	code   string
	offset int
	reason string
}

func (e *usageError) Error() string {
	return fmt.Sprintf("%s at byte %d", e.reason, e.offset)
}

// checkUsage finds the JSON object at the start of b, which may begin with white
// space, and checks that it will not spoil a line for its readers: RFC 8259,
// valid UTF-8, no duplicate names, no lone surrogates, depth and numbers within
// bounds. It returns the object without surrounding white space and without line
// breaks between its tokens, which it removes in place, and what follows it.
func checkUsage(b []byte) (usage, rest []byte, fault *usageError) {
	start := skipSpace(b, 0)
	if start == len(b) {
		return nil, nil, &usageError{CodeEmpty, start, "there is no JSON object"}
	}
	if b[start] != '{' {
		return nil, nil, explainStart(b, start)
	}
	s := measure(b, start)
	if !s.closed || !jsontext.Value(b[start:s.end]).IsValid() {
		return nil, nil, explain(b, start, s.fault)
	}
	if s.fault != nil {
		return nil, nil, s.fault
	}
	return s.usage(b, start), b[s.end:], nil
}

// checkOnlyUsage is checkUsage for a text that must hold nothing else.
func checkOnlyUsage(b []byte) ([]byte, *usageError) {
	usage, rest, fault := checkUsage(b)
	if fault != nil {
		return nil, fault
	}
	if at := skipSpace(rest, 0); at < len(rest) {
		return nil, &usageError{CodeInvalidJSON, len(b) - len(rest) + at, "something follows the JSON object"}
	}
	return usage, nil
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

func skipSpace(b []byte, at int) int {
	for at < len(b) && isSpace(b[at]) {
		at++
	}
	return at
}

// span is what one pass over an object finds. The pass presumes that the text
// is valid; that is checked separately.
type span struct {
	end    int // just past the closing brace
	closed bool
	breaks bool        // there are line breaks between tokens
	fault  *usageError // depth or number out of bounds
}

// usage is the object that was measured, without line breaks, which are removed
// in place.
func (s *span) usage(b []byte, start int) []byte {
	if s.breaks {
		return removeBreaks(b[start:s.end])
	}
	return b[start:s.end:s.end]
}

func measure(b []byte, start int) (s span) {
	depth := 0
	for i := start; i < len(b); {
		switch c := b[i]; c {
		case '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			i++
		case '{', '[':
			if depth++; depth == maxDepth+1 && s.fault == nil {
				s.fault = &usageError{CodeTooDeep, i, fmt.Sprintf("nesting deeper than %d levels begins", maxDepth)}
			}
			i++
		case '}', ']':
			i++
			if depth--; depth == 0 {
				s.end, s.closed = i, true
				return s
			}
		case '\n', '\r':
			s.breaks = true
			i++
		case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
			from := i
			i = endOfNumber(b, i)
			if s.fault == nil && !numberInRange(b[from:i]) {
				s.fault = &usageError{CodeNumberRange, from, "number beyond what readers can hold"}
			}
		default:
			i++
		}
	}
	s.end = len(b)
	return s
}

func isNumber(c byte) bool {
	return c >= '0' && c <= '9' || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E'
}

// endOfNumber returns where what may be a number ends.
func endOfNumber(b []byte, at int) int {
	for at < len(b) && isNumber(b[at]) {
		at++
	}
	return at
}

// numberInRange reports whether a JSON number is an integer in [-2^63, 2^64) or
// another number that is finite in IEEE 754 binary64.
func numberInRange(n []byte) bool {
	if len(n) < 19 && bytes.IndexByte(n, 'e') < 0 && bytes.IndexByte(n, 'E') < 0 {
		return true
	}
	text := string(n)
	if bytes.ContainsAny(n, ".eE") {
		f, err := strconv.ParseFloat(text, 64)
		return !math.IsInf(f, 0) && !errors.Is(err, strconv.ErrRange)
	}
	if n[0] == '-' {
		_, err := strconv.ParseInt(text, 10, 64)
		return !errors.Is(err, strconv.ErrRange)
	}
	_, err := strconv.ParseUint(text, 10, 64)
	return !errors.Is(err, strconv.ErrRange)
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
