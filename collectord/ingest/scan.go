package ingest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/bits"
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// span is where a value was found, or how far one could be followed.
type span struct {
	end    int        // just past the value; of one that is wrong, as far as it was read
	breaks bool       // there are line breaks between its tokens
	fault  usageError // its code is empty if there is none
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
	fault   usageError

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
	if s.fault.code == "" && jsontext.Value(text).IsValid() {
		return
	}
	_, err := jsontext.NewDecoder(bytes.NewReader(text)).ReadValue()
	var at *jsontext.SyntacticError
	if errors.Is(err, jsontext.ErrDuplicateName) && errors.As(err, &at) {
		s.fault, s.i = usageError{}, start+int(at.ByteOffset)
		s.fail(CodeDuplicateName, s.i, "name that the object holds already")
	}
}

// fail notes what is wrong, and false.
func (s *scanner) fail(code string, at int, reason string) bool {
	s.fault = usageError{code, at, reason}
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

// plain returns how many bytes at the front of v, in its order in memory, stand
// for themselves in a string: no quote, no backslash, no control character, ASCII.
func plain(v uint64) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	zero := func(x uint64) uint64 { return (x - ones) &^ x } // high bit of the lowest byte that is 0, and maybe of others above
	return bits.TrailingZeros64((v|zero(v^ones*'"')|zero(v^ones*'\\')|(v-ones*' ')&^v)&highs) / 8
}

// text reads a string. What an escape or a character of several bytes is wrong
// in, it is wrong from its first byte on.
func (s *scanner) text() (escaped, ok bool) {
	b, i := s.b, s.i+1
	for {
		for i+8 <= len(b) {
			n := plain(binary.LittleEndian.Uint64(b[i:]))
			i += n
			if n < 8 {
				break
			}
		}
		if i == len(b) {
			return escaped, s.short()
		}
		switch c := b[i]; {
		case c == '"':
			s.i = i + 1
			return escaped, true
		case c < ' ':
			s.i = i
			return escaped, s.fail(CodeInvalidJSON, i, "no valid JSON")
		case c == '\\':
			escaped = true
			s.i = i
			if !s.escape() {
				return escaped, false
			}
			i = s.i
		case c < utf8.RuneSelf:
			i++
		default:
			r, n := utf8.DecodeRune(b[i:])
			if r == utf8.RuneError && n == 1 && !s.lenient {
				if !utf8.FullRune(b[i:]) {
					return escaped, s.short()
				}
				s.i = i
				return escaped, s.fail(CodeInvalidUTF8, i, "bytes that are no UTF-8")
			}
			i += n
		}
	}
}

// escape reads what begins with a backslash, and the second half of a pair.
func (s *scanner) escape() bool {
	b, at := s.b, s.i
	wrong := func() bool { return s.fail(CodeInvalidJSON, at, "no valid JSON") }
	if at+1 == len(b) {
		return s.short()
	}
	switch b[at+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.i = at + 2
		return true
	case 'u':
	default:
		return wrong()
	}
	high, digits := hex4(b[at+2:])
	switch {
	case digits < 4 && at+2+digits == len(b):
		return s.short()
	case digits < 4:
		return wrong()
	}
	s.i = at + 6
	if high < 0xd800 || high > 0xdfff {
		return true
	}
	rest := b[s.i:]
	if len(rest) == 0 { // too soon to tell
		return s.short()
	}
	if high < 0xdc00 && rest[0] == '\\' {
		if len(rest) == 1 {
			return s.short()
		}
		if rest[1] == 'u' {
			low, digits := hex4(rest[2:])
			if digits < 4 && 2+digits == len(rest) && beginsLow(rest[2:]) {
				return s.short()
			}
			if digits == 4 && low >= 0xdc00 && low <= 0xdfff {
				s.i += 6
				return true
			}
		}
	}
	if s.lenient {
		return true
	}
	s.i = at
	return s.fail(CodeInvalidUTF8, at, "escaped surrogate without its other half")
}

// hex4 reads up to four digits, and says how many there are.
func hex4(b []byte) (v rune, digits int) {
	for ; digits < 4 && digits < len(b); digits++ {
		switch c := b[digits]; {
		case c >= '0' && c <= '9':
			v = v<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			v = v<<4 | rune(c|0x20-'a'+10)
		default:
			return v, digits
		}
	}
	return v, digits
}

// beginsLow reports whether digits begin the lower half of a pair.
func beginsLow(digits []byte) bool {
	return len(digits) == 0 || digits[0]|0x20 == 'd' && (len(digits) == 1 || digits[1]|0x20 >= 'c')
}

// number reads a number. Behind one that is complete, nothing may follow that
// looks like more of it.
func (s *scanner) number() bool {
	b, from := s.b, s.i
	if b[s.i] == '-' {
		s.i++
	}
	if s.is('0') {
		s.i++
	} else if !s.digits() {
		return s.bad()
	}
	integer := true
	if s.is('.') {
		integer = false
		if s.i++; !s.digits() {
			return s.bad()
		}
	}
	if s.is('e') || s.is('E') {
		integer = false
		if s.i++; s.is('+') || s.is('-') {
			s.i++
		}
		if !s.digits() {
			return s.bad()
		}
	}
	if s.lenient {
		return true
	}
	if s.i < len(b) && isNumber(b[s.i]) {
		return s.bad()
	}
	if !numberInRange(b[from:s.i], integer) {
		s.i = from
		return s.fail(CodeNumberRange, from, "number beyond what readers can hold")
	}
	return true
}

func (s *scanner) digits() bool {
	from := s.i
	for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
		s.i++
	}
	return s.i > from
}

func isNumber(c byte) bool {
	return c >= '0' && c <= '9' || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E'
}

// numberInRange reports whether a JSON number is an integer in [-2^63, 2^64) or
// another number that is finite in IEEE 754 binary64.
func numberInRange(n []byte, integer bool) bool {
	switch {
	case len(n) < 19 && integer:
		return true
	case !integer:
		power := firstPower(n)
		if power != maxPower {
			return power < maxPower
		}
		f, err := strconv.ParseFloat(string(n), 64)
		return !math.IsInf(f, 0) && !errors.Is(err, strconv.ErrRange)
	case n[0] == '-':
		return !above(n[1:], "9223372036854775808")
	}
	return !above(n, "18446744073709551615")
}

// above reports whether the integer n is larger than most.
func above(n []byte, most string) bool {
	return len(n) > len(most) || len(n) == len(most) && string(n) > most
}

// maxPower is the power of ten that the first digit of the largest number in
// binary64 stands for: 1.7976931348623157e308.
const maxPower = 308

// firstPower returns the power of ten that the first digit of n other than 0
// stands for, or one that is far from any bound.
func firstPower(n []byte) int {
	const far = 1 << 40 // more than any text has digits
	power, digits, point, exponent, sign, at := 0, false, false, 0, 1, 0
	for ; at < len(n) && n[at]|0x20 != 'e'; at++ {
		switch c := n[at]; {
		case c == '.':
			point = true
		case c == '-':
		case digits && !point:
			power++
		case !digits && point:
			power--
			fallthrough
		default:
			digits = digits || c != '0'
		}
	}
	if !digits {
		return -far
	}
	for at++; at < len(n); at++ {
		switch c := n[at]; c {
		case '+':
		case '-':
			sign = -1
		default:
			exponent = min(exponent*10+int(c-'0'), far)
		}
	}
	return power + sign*exponent
}
