package usage

import (
	"bytes"
	"math/big"
	"strings"
	"unicode/utf8"
)

// reference is a second implementation of the rules for a usage: slow and simple, written
// from the rules alone.
type reference struct {
	b        []byte
	i        int
	lenient  bool // check only the grammar
	maxBytes int  // names are compared within this many bytes; 0 means no limit
	depth    int
}

// referenceUsage returns the code and offset that Check should return. The code of a valid
// usage is empty.
func referenceUsage(b []byte, maxRecord int) (code string, offset int) {
	r := &reference{b: b, maxBytes: maxRecord}
	r.space()
	start := r.i
	switch {
	case start == len(b):
		return CodeEmpty, start
	case b[start] != '{':
		r.lenient = true
		if code, at := r.value(); code != "" {
			return code, at
		}
		return CodeNotAnObject, start
	}
	if code, at := r.value(); code != "" {
		return code, at
	}
	if r.space(); r.i < len(b) {
		return CodeInvalidJSON, r.i
	}
	return "", 0
}

// referenceValue is a value of a text. Its code is empty if the value is a valid usage.
type referenceValue struct {
	index, start, end int
	code              string
	offset            int
}

// referenceDatagram returns the values that should be found in a datagram.
func referenceDatagram(text []byte, maxRecord int) (all []referenceValue) {
	b := bytes.TrimPrefix(text, []byte("\ufeff"))
	at := len(text) - len(b) // of b in text
	for {
		r := &reference{b: b, maxBytes: maxRecord}
		r.space()
		v := referenceValue{index: len(all), start: at + r.i}
		if r.i == len(b) {
			if len(all) == 0 {
				v.code, v.offset = CodeEmpty, len(text)
				all = append(all, v)
			}
			return all
		}
		start := r.i
		r.lenient = b[start] != '{'
		code, resume := r.value()
		switch v.code = code; {
		case code != "":
			v.offset = at + resume
		case r.lenient:
			v.code, v.offset, resume = CodeNotAnObject, v.start, r.i
		case len(withoutBreaks(b[start:r.i])) > maxRecord:
			v.code, v.offset, resume = CodeTooLarge, v.start, r.i
		default:
			v.end = at + r.i
			at, b = v.end, b[r.i:]
			all = append(all, v)
			continue
		}
		all = append(all, v)
		if v.code == CodeInvalidJSON && start < resume && resume < len(b) && b[resume] == '{' && bytes.HasSuffix(bytes.TrimRight(b[:resume], " \t"), []byte("\n")) { // cut off before the next usage
			at, b = at+resume, b[resume:]
			continue
		}
		_, rest, more := bytes.Cut(b[resume:], []byte("\n"))
		if !more {
			return all
		}
		at, b = len(text)-len(rest), rest
	}
}

// referenceSplit returns the values that should be found in a body, or the fault of the
// body as a whole.
func referenceSplit(text []byte, form Form, maxRecord, maxRecords int) (all []referenceValue, fault Error) {
	from := len(text) - len(bytes.TrimPrefix(text, []byte("\ufeff")))
	switch form {
	case Lines:
		at := from
		for i, line := range strings.Split(string(text[from:]), "\n") {
			if strings.Trim(line, " \t\r") != "" {
				all = append(all, referenceValue{index: i, start: at, end: at + len(line)})
			}
			at += len(line) + 1
		}
	case Array:
		elements, code, offset := referenceArray(text, from)
		for i, e := range elements {
			if i == maxRecords {
				return nil, Error{Code: CodeTooLarge, Offset: e[0]}
			}
			all = append(all, referenceValue{index: i, start: e[0], end: e[1]})
		}
		if code != "" {
			return nil, Error{Code: code, Offset: offset}
		}
	case Object:
		all = []referenceValue{{start: from, end: len(text)}}
	}
	for i := range all {
		v := &all[i]
		sent := text[v.start:v.end]
		begin := skipSpace(sent, 0)
		v.code, v.offset = referenceUsage(sent, maxRecord)
		v.offset += v.start
		v.start += begin
		if v.code == "" && len(withoutBreaks(sent)) > maxRecord {
			v.code, v.offset = CodeTooLarge, v.start
		}
		if i == maxRecords {
			return nil, Error{Code: CodeTooLarge, Offset: v.start}
		}
		if v.code != "" && form == Object {
			return nil, Error{Code: v.code, Offset: v.offset}
		}
	}
	if len(all) == 0 {
		return nil, Error{Code: CodeEmpty, Offset: len(text)}
	}
	return all, Error{}
}

// referenceArray returns the ranges of the elements of an array, up to its first fault.
func referenceArray(b []byte, from int) (elements [][2]int, code string, offset int) {
	r := &reference{b: b, i: from, lenient: true}
	r.space()
	r.i++
	for first := true; ; first = false {
		r.space()
		if first && r.peek() == ']' {
			break
		}
		start := r.i
		if code, at := r.value(); code != "" {
			return elements, code, at
		}
		elements = append(elements, [2]int{start, r.i})
		r.space()
		if r.peek() == ']' {
			break
		}
		if r.peek() != ',' {
			return elements, CodeInvalidJSON, r.i
		}
		r.i++
	}
	r.i++
	if r.space(); r.i < len(b) {
		return elements, CodeInvalidJSON, r.i
	}
	return elements, "", 0
}

func (r *reference) peek() byte {
	if r.i < len(r.b) {
		return r.b[r.i]
	}
	return 0
}

func (r *reference) space() {
	for bytes.IndexByte([]byte(" \t\r\n\x00"), r.peek()) >= 0 && r.i < len(r.b) && r.b[r.i] != 0 {
		r.i++
	}
}

func (r *reference) unexpected() (string, int) {
	if c, n := utf8.DecodeRune(r.b[r.i:]); c == utf8.RuneError && n == 1 {
		return CodeInvalidUTF8, r.i
	}
	return CodeInvalidJSON, r.i
}

func (r *reference) value() (code string, offset int) {
	switch c := r.peek(); {
	case c == '{', c == '[':
		return r.container(c)
	case c == '"':
		_, code, at := r.stringValue()
		return code, at
	case c == '-', c >= '0' && c <= '9':
		return r.number()
	}
	for _, word := range []string{"true", "false", "null"} {
		if r.peek() == word[0] {
			for _, c := range []byte(word) {
				if r.peek() != c {
					return r.unexpected()
				}
				r.i++
			}
			return "", 0
		}
	}
	return r.unexpected()
}

func (r *reference) container(open byte) (code string, offset int) {
	if r.depth++; r.depth > 64 && !r.lenient {
		return CodeTooDeep, r.i
	}
	r.i++
	names := map[string]bool{}
	for first := true; ; first = false {
		r.space()
		if first && r.peek() == open+2 {
			break
		}
		if open == '{' {
			at := r.i
			if r.peek() != '"' {
				return r.unexpected()
			}
			name, code, bad := r.stringValue()
			if code != "" {
				return code, bad
			}
			if names[name] && !r.lenient && (r.maxBytes == 0 || len(withoutBreaks(r.b[:r.i-1])) <= r.maxBytes) {
				return CodeDuplicateName, at
			}
			names[name] = true
			r.space()
			if r.peek() != ':' {
				return r.unexpected()
			}
			r.i++
			r.space()
		}
		if code, at := r.value(); code != "" {
			return code, at
		}
		r.space()
		if r.peek() == open+2 { // in ASCII, '}' is '{' + 2 and ']' is '[' + 2
			break
		}
		if r.peek() != ',' {
			return r.unexpected()
		}
		r.i++
	}
	r.i++
	r.depth--
	return "", 0
}

func (r *reference) stringValue() (text, code string, offset int) {
	var out []byte
	for r.i++; ; {
		at := r.i
		c := r.peek()
		switch {
		case r.i == len(r.b):
			return "", CodeInvalidJSON, r.i
		case c == '"':
			r.i++
			return string(out), "", 0
		case c < ' ':
			return "", CodeInvalidJSON, r.i
		case c == '\\':
			n := bytes.IndexByte([]byte(`"\/bfnrt`), r.next())
			switch {
			case r.i == len(r.b):
				return "", CodeInvalidJSON, r.i
			case n >= 0:
				out = append(out, "\"\\/\b\f\n\r\t"[n])
				r.i++
				continue
			case r.peek() != 'u':
				return "", CodeInvalidJSON, at
			}
			high, ok := r.hex()
			if !ok {
				return "", CodeInvalidJSON, r.endOffsetOr(at)
			}
			if high < 0xd800 || high > 0xdfff {
				out = utf8.AppendRune(out, high)
				continue
			}
			pair := high < 0xdc00
			if r.i == len(r.b) { // the other half may follow
				return "", CodeInvalidJSON, r.i
			}
			if pair && r.peek() == '\\' {
				if r.next() == 'u' {
					digits := r.b[r.i+1:]
					low, ok := r.hex()
					if !ok && r.i == len(r.b) && mayBeLowSurrogate(bytes.ToLower(digits)) {
						return "", CodeInvalidJSON, r.i
					}
					if ok && low >= 0xdc00 && low <= 0xdfff {
						out = utf8.AppendRune(out, 0x10000+(high-0xd800)<<10+low-0xdc00)
						continue
					}
				} else if r.i == len(r.b) {
					return "", CodeInvalidJSON, r.i
				}
			}
			if !r.lenient {
				return "", CodeInvalidUTF8, at
			}
			r.i = at + 6
			out = append(out, "\xef\xbf\xbd"...)
		default:
			c, n := utf8.DecodeRune(r.b[r.i:])
			if c == utf8.RuneError && n == 1 && !r.lenient {
				if !utf8.FullRune(r.b[r.i:]) {
					return "", CodeInvalidJSON, len(r.b)
				}
				return "", CodeInvalidUTF8, r.i
			}
			out = append(out, r.b[r.i:r.i+n]...)
			r.i += n
		}
	}
}

// mayBeLowSurrogate reports whether digits begin a low surrogate.
func mayBeLowSurrogate(digits []byte) bool {
	return len(digits) == 0 || digits[0] == 'd' && (len(digits) == 1 || digits[1] >= 'c')
}

func (r *reference) next() byte {
	r.i++
	return r.peek()
}

// endOffsetOr returns the offset of a fault in an escape: the end of the text if the escape
// is only cut off, else at.
func (r *reference) endOffsetOr(at int) int {
	if r.i == len(r.b) {
		return r.i
	}
	return at
}

// hex reads the four digits after a u.
func (r *reference) hex() (n rune, ok bool) {
	for range 4 {
		d := bytes.IndexByte([]byte("0123456789abcdef"), r.next()|0x20)
		if r.i == len(r.b) || d < 0 || r.peek() < '0' {
			return 0, false
		}
		n = n<<4 | rune(d)
	}
	r.i++
	return n, true
}

func (r *reference) digits() bool {
	from := r.i
	for r.peek() >= '0' && r.peek() <= '9' {
		r.i++
	}
	return r.i > from
}

func (r *reference) number() (code string, offset int) {
	from := r.i
	if r.peek() == '-' {
		r.i++
	}
	if r.peek() == '0' {
		r.i++
	} else if !r.digits() {
		return r.unexpected()
	}
	integer := true
	if r.peek() == '.' {
		integer = false
		if r.i++; !r.digits() {
			return r.unexpected()
		}
	}
	if r.peek()|0x20 == 'e' {
		integer = false
		if r.i++; r.peek() == '+' || r.peek() == '-' {
			r.i++
		}
		if !r.digits() {
			return r.unexpected()
		}
	}
	if !r.lenient && isNumberByte(r.peek()) {
		return r.unexpected()
	}
	if !r.lenient && !inRange(string(r.b[from:r.i]), integer) {
		return CodeNumberRange, from
	}
	return "", 0
}

func inRange(text string, integer bool) bool {
	if integer {
		n, _ := new(big.Int).SetString(text, 10)
		low, high := new(big.Int).Lsh(big.NewInt(-1), 63), new(big.Int).Lsh(big.NewInt(1), 64)
		return n.Cmp(low) >= 0 && n.Cmp(high) < 0
	}
	mantissa, exponent, _ := strings.Cut(strings.ToLower(strings.TrimLeft(text, "-")), "e")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	if digits == "" {
		return true
	}
	power := new(big.Int) // the power of ten of the first nonzero digit
	_, _ = power.SetString(strings.TrimPrefix(exponent, "+"), 10)
	power.Add(power, big.NewInt(int64(len(digits)-1-len(fraction))))
	if c := power.Cmp(big.NewInt(308)); c != 0 {
		return c < 0
	}
	// A number of 2^1024 - 2^970 or more rounds to infinity.
	f, _, err := big.ParseFloat(strings.TrimLeft(text, "-"), 10, 4000, big.ToNearestEven)
	limit := new(big.Float).SetInt(new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 1024), new(big.Int).Lsh(big.NewInt(1), 970)))
	return err == nil && f.Cmp(limit) < 0
}
