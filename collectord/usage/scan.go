package usage

import (
	"bytes"
	"errors"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// span is where a value was found, or how far one could be followed.
type span struct {
	end    int   // just past the value; of one that is wrong, as far as it was read
	breaks bool  // there are line breaks between its tokens
	fault  Error // its code is empty if there is none
}

// maxNames is how many names of open objects are compared one by one. Where
// there are more, or one is written with escapes, jsontext has the last word.
const maxNames = 32

// scanner reads one value in one pass and allocates nothing, whatever it meets.
// It stops at the first fault, so that what is wrong early costs little.
type scanner struct {
	b       []byte
	i       int
	lenient bool // look at the grammar only: depth, names, range and UTF-8 are free
	breaks  bool
	fault   Error

	depth   int
	objects uint64   // of the 64 innermost levels: which are objects, innermost first
	outer   []uint64 // of the levels around them, 64 at a time; only lenient ones have any

	unsure  bool   // names were not compared
	missing uint64 // like objects: which have names that are not kept
	names   [maxNames]struct{ from, to uint32 }
	first   [maxDepth]uint8 // of the names, for each open object
	count   int
}

// scan reads the value that begins at start.
func scan(b []byte, start int, lenient bool) span {
	s := scanner{b: b, i: start, lenient: lenient}
	s.value()
	if s.unsure {
		s.compareNames(start)
	}
	return span{s.i, s.breaks, s.fault}
}

// compareNames looks for names that occur twice before the fault, if there is one.
func (s *scanner) compareNames(start int) {
	text := s.b[start:s.i]
	if s.fault.Code == "" && jsontext.Value(text).IsValid() {
		return
	}
	_, err := jsontext.NewDecoder(bytes.NewReader(text)).ReadValue()
	var at *jsontext.SyntacticError
	if errors.Is(err, jsontext.ErrDuplicateName) && errors.As(err, &at) {
		s.fault, s.i = Error{}, start+int(at.ByteOffset)
		s.fail(CodeDuplicateName, s.i, "name that the object holds already")
	}
}

// fail notes what is wrong, and false.
func (s *scanner) fail(code string, at int, reason string) bool {
	s.fault = Error{Code: code, Offset: at, Reason: reason}
	return false
}

// bad is fail for a byte that can't be where the scanner is.
func (s *scanner) bad() bool {
	if s.i == len(s.b) {
		return s.short()
	}
	if r, n := utf8.DecodeRune(s.b[s.i:]); r == utf8.RuneError && n == 1 {
		return s.fail(CodeInvalidUTF8, s.i, "bytes that are no UTF-8")
	}
	return s.fail(CodeInvalidJSON, s.i, "no valid JSON")
}

// short is fail for a text that ends too soon.
func (s *scanner) short() bool {
	s.i = len(s.b)
	return s.fail(CodeInvalidJSON, s.i, "the text ends too soon")
}

func (s *scanner) space() {
	for s.i < len(s.b) && s.b[s.i] <= ' ' {
		switch s.b[s.i] {
		case '\n', '\r':
			s.breaks = true
		case ' ', '\t':
		default:
			return
		}
		s.i++
	}
}

// is reports whether c is next.
func (s *scanner) is(c byte) bool { return s.i < len(s.b) && s.b[s.i] == c }

// value reads a value with all that is in it.
func (s *scanner) value() bool {
	for {
		if s.i == len(s.b) {
			return s.short()
		}
		ok := true
		switch c := s.b[s.i]; c {
		case '{', '[':
			if !s.enter(c == '{') {
				return false
			}
			if s.space(); s.is(c + 2) { // '}' and ']' follow their openers but one
				s.leave()
				break
			}
			if c == '{' && !s.name() {
				return false
			}
			continue
		case '"':
			_, ok = s.text()
		case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
			ok = s.number()
		case 't':
			ok = s.literal("true")
		case 'f':
			ok = s.literal("false")
		case 'n':
			ok = s.literal("null")
		default:
			ok = s.bad()
		}
		if !ok {
			return false
		}
		if more, ok := s.after(); !more {
			return ok
		}
	}
}

// after reads what follows a value, to the beginning of the next one or the end
// of all.
func (s *scanner) after() (more, ok bool) {
	for s.depth > 0 {
		s.space()
		object := s.objects&1 != 0
		switch {
		case s.is(','):
			s.i++
			s.space()
			return !object || s.name(), false
		case object && s.is('}'), !object && s.is(']'):
			s.leave()
		default:
			return false, s.bad()
		}
	}
	return false, true
}

func (s *scanner) enter(object bool) bool {
	if s.depth == maxDepth && !s.lenient {
		return s.fail(CodeTooDeep, s.i, tooDeep)
	}
	if s.depth > 0 && s.depth%64 == 0 {
		s.outer = append(s.outer, s.objects)
	}
	s.objects <<= 1
	s.missing <<= 1
	if object {
		s.objects |= 1
	}
	if s.depth < maxDepth {
		s.first[s.depth] = uint8(s.count)
	}
	s.depth++
	s.i++
	return true
}

func (s *scanner) leave() {
	s.depth--
	s.i++
	s.objects >>= 1
	s.missing >>= 1
	if n := len(s.outer); n > 0 && s.depth%64 == 0 {
		s.objects, s.outer = s.outer[n-1], s.outer[:n-1]
	}
	if s.depth < maxDepth {
		s.count = int(s.first[s.depth])
	}
}

// name reads a name and its colon, to the beginning of the value.
func (s *scanner) name() bool {
	from := s.i
	if !s.is('"') {
		return s.bad()
	}
	escaped, ok := s.text()
	if !ok {
		return false
	}
	if !s.lenient && !s.remember(from+1, s.i-1, escaped) {
		s.i = from
		return s.fail(CodeDuplicateName, from, "name that the object holds already")
	}
	if !s.is(':') {
		if s.space(); !s.is(':') {
			return s.bad()
		}
	}
	s.i++
	s.space()
	return true
}

// remember reports whether the name is new to its object, as far as that can be
// told. Names that are not kept leave it open only if the object has more.
func (s *scanner) remember(from, to int, escaped bool) bool {
	name, own := s.b[from:to], s.names[s.first[s.depth-1]:s.count]
	for _, n := range own {
		if int(n.to-n.from) == len(name) && string(s.b[n.from:n.to]) == string(name) {
			return false
		}
	}
	missing := s.missing&1 != 0
	keep := !escaped && s.count < maxNames
	if missing || !keep && len(own) > 0 {
		s.unsure = true
	}
	if !keep {
		s.missing |= 1
		return true
	}
	s.names[s.count].from, s.names[s.count].to = uint32(from), uint32(to)
	s.count++
	return true
}

func (s *scanner) literal(word string) bool {
	for _, c := range []byte(word) {
		if !s.is(c) {
			return s.bad()
		}
		s.i++
	}
	return true
}
