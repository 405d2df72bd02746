package usage

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// plainPrefix returns the number of leading bytes of v, in memory order, that need no
// processing in a string: ASCII without quotes, backslashes and control characters.
func plainPrefix(v uint64) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	zero := func(x uint64) uint64 { return (x - ones) &^ x } // sets the high bit of the lowest zero byte, and possibly of bytes above it
	return bits.TrailingZeros64((v|zero(v^ones*'"')|zero(v^ones*'\\')|(v-ones*' ')&^v)&highs) / 8
}

// scanString reads a string. The offset of a fault in an escape or in a multibyte character
// is that of its first byte.
func (s *scanner) scanString() (escaped, ok bool) {
	b, i := s.b, s.i+1
	for {
		for i+8 <= len(b) {
			n := plainPrefix(binary.LittleEndian.Uint64(b[i:]))
			i += n
			if n < 8 {
				break
			}
		}
		if i == len(b) {
			return escaped, s.truncated()
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
			if !s.scanEscape() {
				return escaped, false
			}
			i = s.i
		case c < utf8.RuneSelf:
			i++
		default:
			r, n := utf8.DecodeRune(b[i:])
			if r == utf8.RuneError && n == 1 && !s.lenient {
				if !utf8.FullRune(b[i:]) {
					return escaped, s.truncated()
				}
				s.i = i
				return escaped, s.fail(CodeInvalidUTF8, i, "bytes that are not UTF-8")
			}
			i += n
		}
	}
}

// scanEscape reads an escape, including both halves of a surrogate pair.
func (s *scanner) scanEscape() bool {
	b, at := s.b, s.i
	invalid := func() bool { return s.fail(CodeInvalidJSON, at, notJSON) }
	if at+1 == len(b) {
		return s.truncated()
	}
	switch b[at+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.i = at + 2
		return true
	case 'u':
	default:
		return invalid()
	}
	high, digits := hex4(b[at+2:])
	switch {
	case digits < 4 && at+2+digits == len(b):
		return s.truncated()
	case digits < 4:
		return invalid()
	}
	s.i = at + 6
	if high < 0xd800 || high > 0xdfff {
		return true
	}
	rest := b[s.i:]
	if len(rest) == 0 { // a low surrogate may follow
		return s.truncated()
	}
	if high < 0xdc00 && rest[0] == '\\' {
		if len(rest) == 1 {
			return s.truncated()
		}
		if rest[1] == 'u' {
			low, digits := hex4(rest[2:])
			if digits < 4 && 2+digits == len(rest) && beginsLowSurrogate(rest[2:]) {
				return s.truncated()
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

// hex4 reads up to four hexadecimal digits, and returns their value and number.
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

// beginsLowSurrogate reports whether up to three hexadecimal digits can begin a low surrogate.
func beginsLowSurrogate(digits []byte) bool {
	return len(digits) == 0 || digits[0]|0x20 == 'd' && (len(digits) == 1 || digits[1]|0x20 >= 'c')
}
