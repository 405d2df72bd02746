package usage

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

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
			return escaped, s.fail(CodeInvalidJSON, i, notJSON)
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
				return escaped, s.fail(CodeInvalidUTF8, i, "bytes that are not UTF-8")
			}
			i += n
		}
	}
}

// escape reads what begins with a backslash, and the second half of a pair.
func (s *scanner) escape() bool {
	b, at := s.b, s.i
	wrong := func() bool { return s.fail(CodeInvalidJSON, at, notJSON) }
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
