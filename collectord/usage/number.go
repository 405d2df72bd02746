package usage

import (
	"errors"
	"math"
	"strconv"
)

// scanNumber reads a number. It rejects a complete number that is followed by another
// character of a number, such as in 01 or 1.2.3.
func (s *scanner) scanNumber() bool {
	b, from := s.b, s.i
	if b[s.i] == '-' {
		s.i++
	}
	if s.nextIs('0') {
		s.i++
	} else if !s.skipDigits() {
		return s.unexpected()
	}
	integer := true
	if s.nextIs('.') {
		integer = false
		if s.i++; !s.skipDigits() {
			return s.unexpected()
		}
	}
	if s.nextIs('e') || s.nextIs('E') {
		integer = false
		if s.i++; s.nextIs('+') || s.nextIs('-') {
			s.i++
		}
		if !s.skipDigits() {
			return s.unexpected()
		}
	}
	if s.lenient {
		return true
	}
	if s.i < len(b) && isNumberByte(b[s.i]) {
		return s.unexpected()
	}
	if !numberInRange(b[from:s.i], integer) {
		s.i = from
		return s.fail(CodeNumberRange, from, "number outside the range that readers support")
	}
	return true
}

func (s *scanner) skipDigits() bool {
	from := s.i
	for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
		s.i++
	}
	return s.i > from
}

func isNumberByte(c byte) bool {
	return c >= '0' && c <= '9' || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E'
}

// numberInRange reports whether a JSON number is an integer in [-2^63, 2^64) or
// another number that is finite in IEEE 754 binary64.
func numberInRange(n []byte, integer bool) bool {
	switch {
	case len(n) < 19 && integer:
		return true
	case !integer:
		power := leadingPower(n)
		if power != maxPower {
			return power < maxPower
		}
		f, err := strconv.ParseFloat(string(n), 64)
		return !math.IsInf(f, 0) && !errors.Is(err, strconv.ErrRange)
	case n[0] == '-':
		return !exceeds(n[1:], "9223372036854775808")
	}
	return !exceeds(n, "18446744073709551615")
}

// exceeds reports whether the non-negative integer n is larger than limit.
func exceeds(n []byte, limit string) bool {
	return len(n) > len(limit) || len(n) == len(limit) && string(n) > limit
}

// maxPower is the power of ten of the first digit of the largest finite number in
// binary64: 1.7976931348623157e308.
const maxPower = 308

// leadingPower returns the power of ten of the first nonzero digit of n. For zero it
// returns a large negative number.
func leadingPower(n []byte) int {
	const huge = 1 << 40 // more than the number of digits in any text
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
		return -huge
	}
	for at++; at < len(n); at++ {
		switch c := n[at]; c {
		case '+':
		case '-':
			sign = -1
		default:
			exponent = min(exponent*10+int(c-'0'), huge)
		}
	}
	return power + sign*exponent
}
