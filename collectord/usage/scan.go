package usage

import (
	"bytes"
	"hash/maphash"
	"unicode/utf8"
)

// maxNames is the number of names of open objects that are compared one by one. An
// object with more names, or with an escaped name, uses a nameSet.
const maxNames = 32

// scanner reads values, each in one pass, and reuses its memory. It stops at the first
// fault, so that a text with an early fault costs little.
type scanner struct {
	state // of the current value

	// Memory that is reused. Only the first state.count names are valid.
	set   *nameSet
	names [maxNames]struct{ from, to uint32 }
	first [maxDepth]uint8 // index of its first name, for each open object
}

// state is the position and progress of one value. It is small because it is replaced
// for each value.
type state struct {
	b       []byte
	start   int
	i       int   // just past the value; after a fault: where the scan stopped
	lenient bool  // check only the grammar, not depth, names, number range or UTF-8
	breaks  int   // line breaks between its tokens, in bytes
	fault   Error // its code is empty if there is no fault

	depth   int
	objects uint64   // bit set of the 64 innermost levels, innermost first: 1 for an object
	outer   []uint64 // the levels around them, 64 in each element; used only if lenient

	hashed uint64 // like objects: 1 if the names of the object are in the set
	max    int    // names are compared only up to this length of the value in bytes; 0 means no limit
	count  int    // number of valid names
}

// find scans the JSON object at the start of b, after optional white space, and checks
// all rules for a usage. If max is positive, an object of more than max bytes without
// line breaks can't be stored. Names beyond max are therefore not compared, which
// bounds the memory for names.
func (s *scanner) find(b []byte, max int) {
	start := skipSpace(b, 0)
	s.state = state{b: b, start: start, i: start, max: max}
	switch {
	case start == len(b):
		s.fail(CodeEmpty, start, "there is no JSON object")
	case b[start] == '{':
		s.value()
		if s.hashed != 0 { // a fault left names in the set
			s.set.truncate(0)
		}
	case byteOrderMark(b[start:]) > 0:
		s.fail(CodeInvalidJSON, start, "byte order mark")
	default:
		if s.lenient = true; s.value() {
			s.fail(CodeNotAnObject, start, "a JSON value that is not an object begins")
		}
	}
}

// follow finds the end of the value at the start of b, checking only the grammar.
func follow(b []byte) (end int, fault Error) {
	s := scanner{state: state{b: b, lenient: true}}
	s.value()
	return s.i, s.fault
}

// endsIn sets a fault if anything but white space follows the value.
func (s *scanner) endsIn() {
	if at := skipSpace(s.b, s.i); s.fault.Code == "" && at < len(s.b) {
		reason := "something follows the JSON object"
		if s.b[at] == '{' {
			reason = "a second value follows: send NDJSON (Content-Type: application/x-ndjson), a value a line;"
		}
		s.fail(CodeInvalidJSON, at, reason)
	}
}

// usage returns the object that find scanned. It removes line breaks between tokens in
// place.
func (s *scanner) usage() []byte {
	if s.breaks > 0 {
		return removeBreaks(s.b[s.start:s.i])
	}
	return s.b[s.start:s.i:s.i]
}

// fail sets the fault and returns false.
func (s *scanner) fail(code string, at int, reason string) bool {
	s.fault = Error{Code: code, Offset: at, Reason: reason}
	return false
}

// bad sets the fault for an unexpected byte and returns false.
func (s *scanner) bad() bool {
	if s.i == len(s.b) {
		return s.short()
	}
	if r, n := utf8.DecodeRune(s.b[s.i:]); r == utf8.RuneError && n == 1 {
		return s.fail(CodeInvalidUTF8, s.i, "bytes that are not UTF-8")
	}
	return s.fail(CodeInvalidJSON, s.i, s.mistake())
}

const (
	notJSON       = "not valid JSON"
	trailingComma = "not valid JSON: a comma before the end"
)

// mistake returns the reason for an unexpected byte, with advice for common client
// errors.
func (s *scanner) mistake() string {
	switch rest := s.b[s.i:]; {
	case rest[0] == '}', rest[0] == ']':
		if before := bytes.TrimRight(s.b[:s.i], " \t\r\n"); len(before) > 0 && before[len(before)-1] == ',' {
			return trailingComma
		}
	case rest[0] == '\'':
		return "not valid JSON: strings have double quotes"
	case bytes.HasPrefix(rest, []byte("NaN")), bytes.HasPrefix(rest, []byte("Infinity")):
		return "not valid JSON: send null for NaN and Infinity"
	}
	return notJSON
}

// short sets the fault for a text that ends too early and returns false.
func (s *scanner) short() bool {
	s.i = len(s.b)
	return s.fail(CodeInvalidJSON, s.i, "the text ends too soon")
}

func (s *scanner) space() {
	for s.i < len(s.b) && s.b[s.i] <= ' ' {
		switch s.b[s.i] {
		case '\n', '\r':
			s.breaks++
		case ' ', '\t':
		default:
			return
		}
		s.i++
	}
}

// is reports whether the next byte is c.
func (s *scanner) is(c byte) bool { return s.i < len(s.b) && s.b[s.i] == c }

// value reads a value, including nested values.
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
			if s.space(); s.is(c + 2) { // in ASCII, '}' is '{' + 2 and ']' is '[' + 2
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

// after reads from the end of a value to the start of the next one, or to the end of
// the outermost value.
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
	s.hashed <<= 1
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
	if s.hashed&1 != 0 {
		s.set.truncate(int(s.set.bases[s.depth]))
	}
	s.objects >>= 1
	s.hashed >>= 1
	if n := len(s.outer); n > 0 && s.depth%64 == 0 {
		s.objects, s.outer = s.outer[n-1], s.outer[:n-1]
	}
	if s.depth < maxDepth {
		s.count = int(s.first[s.depth])
	}
}

// name reads a member name, the colon, and white space up to the value.
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
		return s.fail(CodeDuplicateName, from, "duplicate member name")
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

// remember reports whether the name is new in its object, and records it.
func (s *scanner) remember(from, to int, escaped bool) bool {
	if s.max > 0 && to-s.start-s.breaks > s.max {
		return true
	}
	if s.hashed&1 == 0 {
		if !escaped && s.count < maxNames {
			return s.compare(from, to)
		}
		s.moveNames()
	}
	return s.set.add(s.b, from, to, s.set.bases[s.depth-1])
}

// compare reports whether the name differs from the other names of its object, and
// records it.
func (s *scanner) compare(from, to int) bool {
	name := s.b[from:to]
	for _, n := range s.names[s.first[s.depth-1]:s.count] {
		if int(n.to-n.from) == len(name) && string(s.b[n.from:n.to]) == string(name) {
			return false
		}
	}
	s.names[s.count].from, s.names[s.count].to = uint32(from), uint32(to)
	s.count++
	return true
}

func (s *scanner) moveNames() {
	if s.set == nil {
		s.set = &nameSet{seed: maphash.MakeSeed()}
	}
	first, base := int(s.first[s.depth-1]), uint32(len(s.set.names))
	s.hashed |= 1
	s.set.bases[s.depth-1] = base
	for _, n := range s.names[first:s.count] {
		s.set.add(s.b, int(n.from), int(n.to), base)
	}
	s.count = first
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
