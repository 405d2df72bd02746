package http1

// Sets of bytes: in a token and a field value (RFC 9110, section 5.6), and in a host (RFC
// 3986, section 3.2).
const (
	inToken byte = 1 << iota
	inValue
	inHost
)

var charset = func() (t [256]byte) { //nolint:gochecknoglobals // a constant table
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	for _, b := range []byte(letters + "!#$%&'*+-.^_`|~") {
		t[b] |= inToken
	}
	for _, b := range []byte(letters + "-._~!$&'()*+,;=%:[]") {
		t[b] |= inHost
	}
	t['\t'] |= inValue
	for b := ' '; b < 256; b++ {
		if b != 0x7f {
			t[b] |= inValue
		}
	}
	return t
}()

func isValue(b byte) bool   { return charset[b]&inValue != 0 }
func isVisible(b byte) bool { return b > ' ' && b < 0x7f }
func isDigit(b byte) bool   { return b-'0' < 10 }

func isHost(b []byte) bool {
	for _, c := range b {
		if charset[c]&inHost == 0 {
			return false
		}
	}
	return true
}

// tokenLength returns how many bytes at the beginning of b form a token.
func tokenLength(b []byte) int {
	for i, c := range b {
		if charset[c]&inToken == 0 {
			return i
		}
	}
	return len(b)
}

// hexDigit returns the value of a hexadecimal digit, or -1 for any other byte.
func hexDigit(b byte) int {
	switch {
	case isDigit(b):
		return int(b - '0')
	case b|0x20-'a' < 6:
		return int(b|0x20-'a') + 10
	}
	return -1
}

// splitField splits a field line, which must not be empty, into name and value (RFC 9112,
// section 5). For an invalid line it returns the reason.
func splitField(line []byte) (name, value []byte, reason string) {
	n := tokenLength(line)
	switch {
	case line[0] == ' ' || line[0] == '\t':
		return nil, nil, "a line of the header is continued"
	case n == 0 || n == len(line) || line[n] != ':':
		return nil, nil, "a line of the header is not a name, a colon and a value"
	}
	for _, b := range line[n+1:] {
		if !isValue(b) {
			return nil, nil, "a value in the header has a control character"
		}
	}
	return line[:n], Trim(line[n+1:]), ""
}

// valueEnd returns the length of a field line without the blanks at its end.
func valueEnd(line []byte) int {
	end := len(line)
	for end > 0 && (line[end-1] == ' ' || line[end-1] == '\t') {
		end--
	}
	return end
}

// EqualFold reports whether b equals lower, ignoring the case of ASCII letters. lower must be in
// lower case.
func EqualFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if c-'A' < 26 {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// Trim removes spaces and tabs from both ends of b (OWS in RFC 9110, section 5.6.3).
func Trim(b []byte) []byte {
	b = trimLeft(b)
	return b[:valueEnd(b)]
}

func trimLeft(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	return b
}

// forbiddenInTrailer reports whether a field is allowed in the header only, because it
// decides how a request is read, who sends it or what its body is.
func forbiddenInTrailer(name []byte) bool {
	for _, n := range []string{
		"authorization", "connection", "content-encoding", "content-length", "content-type",
		"expect", "host", "idempotency-key", "transfer-encoding",
	} {
		if EqualFold(name, n) {
			return true
		}
	}
	return false
}
