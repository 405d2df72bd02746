package usage

import (
	"errors"
	"math"
	"strconv"
)

// number reads a number. It rejects a complete number that is followed by another
// character of a number, such as in 01 or 1.2.3.
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

// above reports whether the non-negative integer n is larger than most.
func above(n []byte, most string) bool {
	return len(n) > len(most) || len(n) == len(most) && string(n) > most
}

// maxPower is the power of ten of the first digit of the largest finite number in
// binary64: 1.7976931348623157e308.
const maxPower = 308

// firstPower returns the power of ten of the first nonzero digit of n. For zero it
// returns a large negative number.
func firstPower(n []byte) int {
	const far = 1 << 40 // more than the number of digits in any text
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
