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

	// Memory that is reused. Only the first state.nameCount names are valid.
	set       *nameSet
	names     [maxNames]struct{ from, to uint32 }
	firstName [maxDepth]uint8 // index of its first name, for each open object
}

// state is the position and progress of one value. It is small because it is replaced
// for each value.
type state struct {
	b          []byte
	start      int
	i          int   // offset after the value; after a fault: offset at which the scan stopped
	lenient    bool  // check only the grammar, not depth, names, number range or UTF-8
	breakBytes int   // line breaks between its tokens, in bytes
	fault      Error // its code is empty if there is no fault

	depth      int
	objectBits uint64   // bit set of the 64 innermost levels, innermost first: 1 for an object
	outerBits  []uint64 // the levels around them, 64 in each element; used only if lenient

	hashedBits uint64 // like objectBits: 1 if the names of the object are in the set
	maxBytes   int    // names are compared only up to this length of the value in bytes; 0 means no limit
	nameCount  int    // number of valid names
}

// scanObject scans the JSON object at the start of b, after optional white space, and checks
// all rules for a usage. If maxBytes is positive, an object of more than maxBytes bytes
// without line breaks can't be stored. Names beyond maxBytes are therefore not compared,
// which bounds the memory for names.
func (s *scanner) scanObject(b []byte, maxBytes int) {
	start := skipSpace(b, 0)
	s.state = state{b: b, start: start, i: start, maxBytes: maxBytes}
	switch {
	case start == len(b):
		s.fail(CodeEmpty, start, "there is no JSON object")
	case b[start] == '{':
		s.scanValue()
		if s.hashedBits != 0 { // a fault left names in the set
			s.set.truncate(0)
		}
	case bomLength(b[start:]) > 0:
		s.fail(CodeInvalidJSON, start, "byte order mark")
	default:
		if s.lenient = true; s.scanValue() {
			s.fail(CodeNotAnObject, start, "a JSON value that is not an object begins")
		}
	}
}

// skipValue finds the end of the value at the start of b, checking only the grammar.
func skipValue(b []byte) (end int, fault Error) {
	s := scanner{state: state{b: b, lenient: true}}
	s.scanValue()
	return s.i, s.fault
}

// rejectTrailing sets a fault if anything but white space follows the value.
func (s *scanner) rejectTrailing() {
	if at := skipSpace(s.b, s.i); s.fault.Code == "" && at < len(s.b) {
		reason := "something follows the JSON object"
		if s.b[at] == '{' {
			reason = "a second value follows: send NDJSON (Content-Type: application/x-ndjson) with one value per line;"
		}
		s.fail(CodeInvalidJSON, at, reason)
	}
}

// object returns the object that scanObject scanned. It removes line breaks between tokens
// in place.
func (s *scanner) object() []byte {
	if s.breakBytes > 0 {
		return removeBreaks(s.b[s.start:s.i])
	}
	return s.b[s.start:s.i:s.i]
}

// fail sets the fault and returns false.
func (s *scanner) fail(code string, at int, reason string) bool {
	s.fault = Error{Code: code, Offset: at, Reason: reason}
	return false
}

// unexpected sets the fault for an unexpected byte and returns false.
func (s *scanner) unexpected() bool {
	if s.i == len(s.b) {
		return s.truncated()
	}
	if r, n := utf8.DecodeRune(s.b[s.i:]); r == utf8.RuneError && n == 1 {
		return s.fail(CodeInvalidUTF8, s.i, "bytes that are not UTF-8")
	}
	return s.fail(CodeInvalidJSON, s.i, s.unexpectedReason())
}

const (
	notJSON       = "not valid JSON"
	trailingComma = "not valid JSON: a comma before the end"
)

// unexpectedReason returns the reason for an unexpected byte, with advice for common client
// errors.
func (s *scanner) unexpectedReason() string {
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

// truncated sets the fault for a text that ends too early and returns false.
func (s *scanner) truncated() bool {
	s.i = len(s.b)
	return s.fail(CodeInvalidJSON, s.i, "the text ends too soon")
}

func (s *scanner) skipBlanks() {
	for s.i < len(s.b) && s.b[s.i] <= ' ' {
		switch s.b[s.i] {
		case '\n', '\r':
			s.breakBytes++
		case ' ', '\t':
		default:
			return
		}
		s.i++
	}
}

// nextIs reports whether the next byte is c.
func (s *scanner) nextIs(c byte) bool { return s.i < len(s.b) && s.b[s.i] == c }

// scanValue reads a value, including nested values.
func (s *scanner) scanValue() bool {
	for {
		if s.i == len(s.b) {
			return s.truncated()
		}
		ok := true
		switch c := s.b[s.i]; c {
		case '{', '[':
			if !s.enterContainer(c == '{') {
				return false
			}
			if s.skipBlanks(); s.nextIs(c + 2) { // in ASCII, '}' is '{' + 2 and ']' is '[' + 2
				s.leaveContainer()
				break
			}
			if c == '{' && !s.scanName() {
				return false
			}
			continue
		case '"':
			_, ok = s.scanString()
		case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
			ok = s.scanNumber()
		case 't':
			ok = s.scanLiteral("true")
		case 'f':
			ok = s.scanLiteral("false")
		case 'n':
			ok = s.scanLiteral("null")
		default:
			ok = s.unexpected()
		}
		if !ok {
			return false
		}
		if more, ok := s.advance(); !more {
			return ok
		}
	}
}

// advance reads from the end of a value to the start of the next one, or to the end of
// the outermost value.
func (s *scanner) advance() (more, ok bool) {
	for s.depth > 0 {
		s.skipBlanks()
		object := s.objectBits&1 != 0
		switch {
		case s.nextIs(','):
			s.i++
			s.skipBlanks()
			return !object || s.scanName(), false
		case object && s.nextIs('}'), !object && s.nextIs(']'):
			s.leaveContainer()
		default:
			return false, s.unexpected()
		}
	}
	return false, true
}

func (s *scanner) enterContainer(object bool) bool {
	if s.depth == maxDepth && !s.lenient {
		return s.fail(CodeTooDeep, s.i, tooDeepReason)
	}
	if s.depth > 0 && s.depth%64 == 0 {
		s.outerBits = append(s.outerBits, s.objectBits)
	}
	s.objectBits <<= 1
	s.hashedBits <<= 1
	if object {
		s.objectBits |= 1
	}
	if s.depth < maxDepth {
		s.firstName[s.depth] = uint8(s.nameCount)
	}
	s.depth++
	s.i++
	return true
}

func (s *scanner) leaveContainer() {
	s.depth--
	s.i++
	if s.hashedBits&1 != 0 {
		s.set.truncate(int(s.set.bases[s.depth]))
	}
	s.objectBits >>= 1
	s.hashedBits >>= 1
	if n := len(s.outerBits); n > 0 && s.depth%64 == 0 {
		s.objectBits, s.outerBits = s.outerBits[n-1], s.outerBits[:n-1]
	}
	if s.depth < maxDepth {
		s.nameCount = int(s.firstName[s.depth])
	}
}

// scanName reads a member name, the colon, and white space up to the value.
func (s *scanner) scanName() bool {
	from := s.i
	if !s.nextIs('"') {
		return s.unexpected()
	}
	escaped, ok := s.scanString()
	if !ok {
		return false
	}
	if !s.lenient && !s.recordName(from+1, s.i-1, escaped) {
		s.i = from
		return s.fail(CodeDuplicateName, from, "duplicate member name")
	}
	if !s.nextIs(':') {
		if s.skipBlanks(); !s.nextIs(':') {
			return s.unexpected()
		}
	}
	s.i++
	s.skipBlanks()
	return true
}

// recordName reports whether the name is new in its object, and records it.
func (s *scanner) recordName(from, to int, escaped bool) bool {
	if s.maxBytes > 0 && to-s.start-s.breakBytes > s.maxBytes {
		return true
	}
	if s.hashedBits&1 == 0 {
		if !escaped && s.nameCount < maxNames {
			return s.recordIfNew(from, to)
		}
		s.moveNamesToSet()
	}
	return s.set.add(s.b, from, to, s.set.bases[s.depth-1])
}

// recordIfNew reports whether the name differs from the other names of its object, and
// records it.
func (s *scanner) recordIfNew(from, to int) bool {
	name := s.b[from:to]
	for _, n := range s.names[s.firstName[s.depth-1]:s.nameCount] {
		if int(n.to-n.from) == len(name) && string(s.b[n.from:n.to]) == string(name) {
			return false
		}
	}
	s.names[s.nameCount].from, s.names[s.nameCount].to = uint32(from), uint32(to)
	s.nameCount++
	return true
}

func (s *scanner) moveNamesToSet() {
	if s.set == nil {
		s.set = &nameSet{seed: maphash.MakeSeed()}
	}
	first, base := int(s.firstName[s.depth-1]), uint32(len(s.set.names))
	s.hashedBits |= 1
	s.set.bases[s.depth-1] = base
	for _, n := range s.names[first:s.nameCount] {
		s.set.add(s.b, int(n.from), int(n.to), base)
	}
	s.nameCount = first
}

func (s *scanner) scanLiteral(word string) bool {
	for _, c := range []byte(word) {
		if !s.nextIs(c) {
			return s.unexpected()
		}
		s.i++
	}
	return true
}
