package http1

import "bytes"

// Request is a request's header. Its slices share the memory that was passed to Next when
// it returned Header, and are valid until the next call of Next.
type Request struct {
	Method []byte
	Target []byte // as sent
	Host   []byte // value of the field Host; may be empty
	Length int64  // bytes of the body; -1 for a chunked body

	// ExpectsContinue reports whether the client waits for AppendContinue before it sends
	// the body (RFC 9110, section 10.1.1).
	ExpectsContinue bool

	minor  byte // minor version of HTTP/1: 0 or 1
	head   bool // the method is HEAD
	fields []byte

	// These are offsets, since the header's bytes may move until it is complete.
	methodEnd, targetEnd, fieldsFrom    int
	hostFrom, hostEnd                   int
	hostCount, lengthCount, codingCount int
	closeOption, keepAliveOption        bool // options in the field Connection
}

// dropSlices drops the slices that share the caller's memory.
func (q *Request) dropSlices() { q.Method, q.Target, q.Host, q.fields = nil, nil, nil, nil }

// Path returns the target's path without its query, or nil for a target without a path.
// The target may be a path or a URL.
func (q *Request) Path() []byte {
	path, _, _ := bytes.Cut(q.Target, []byte("?"))
	if bytes.HasPrefix(path, []byte("/")) {
		return path
	}
	_, rest, _ := bytes.Cut(path, []byte("://"))
	if slash := bytes.IndexByte(rest, '/'); slash >= 0 {
		return rest[slash:]
	}
	return nil
}

// Fields returns the request's field lines, in the order received.
func (q *Request) Fields() FieldLines { return FieldLines{q.fields} }

// FieldLines iterates over field lines that were checked.
type FieldLines struct{ rest []byte }

// Next returns the next field, without blanks around its value. After the last field, ok
// is false.
func (l *FieldLines) Next() (name, value []byte, ok bool) {
	end := bytes.IndexByte(l.rest, '\r') // a line contains no CR
	if end < 0 {
		return nil, nil, false
	}
	colon := bytes.IndexByte(l.rest[:end], ':')
	name, value = l.rest[:colon], Trim(l.rest[colon+1:end])
	l.rest = l.rest[end+len("\r\n"):]
	return name, value, true
}

// parseRequestLine checks and stores method, target and version (RFC 9112, section 3).
func (c *Conn) parseRequestLine(line []byte) element {
	q := &c.request
	method := tokenLength(line)
	if method == 0 || method == len(line) || line[method] != ' ' {
		return c.badFraming("the first line is not a request line of HTTP")
	}
	end := method + 1
	for end < len(line) && isVisible(line[end]) {
		end++
	}
	target := line[method+1 : end]
	version := line[end:]
	const prefix = " HTTP/"
	switch {
	case len(target) == 0 || len(version) != len(prefix)+3 || string(version[:len(prefix)]) != prefix ||
		!isDigit(version[6]) || version[7] != '.' || !isDigit(version[8]):
		return c.badFraming("the first line is not a request line of HTTP")
	case version[6] != '1' || version[8] > '1':
		return c.fail(BadVersion, "use HTTP/1.1 or HTTP/1.0")
	case !isTarget(line[:method], target):
		return c.badFraming("the target of the request is neither a path nor a URL")
	}
	q.head = string(line[:method]) == "HEAD"
	q.minor = version[8] - '0'
	q.methodEnd, q.targetEnd, q.fieldsFrom = method, end, c.lineStart
	return requestLine
}

// isTarget reports whether the method allows the form of the target (RFC 9112, section
// 3.2).
func isTarget(method, target []byte) bool {
	switch {
	case target[0] == '/':
		return true
	case string(target) == "*":
		return string(method) == "OPTIONS"
	case string(method) == "CONNECT":
		return isHost(target)
	}
	for _, scheme := range []string{"http://", "https://"} {
		if n := len(scheme); len(target) > n && EqualFold(target[:n], scheme) {
			authority, _, _ := bytes.Cut(target[n:], []byte("/"))
			authority, _, _ = bytes.Cut(authority, []byte("?"))
			return len(authority) > 0 && isHost(authority)
		}
	}
	return false
}

// parseField checks a header line, and stores what decides the framing and the end of the
// connection.
func (c *Conn) parseField(line []byte) element {
	name, value, reason := splitField(line)
	if reason != "" {
		return c.badFraming(reason)
	}
	q := &c.request
	switch len(name) {
	case len("host"):
		if EqualFold(name, "host") {
			q.hostCount++
			if !isHost(value) {
				return c.badFraming("Host is not a name or an address")
			}
			q.hostEnd = c.lineStart - len("\r\n") - (len(line) - valueEnd(line))
			q.hostFrom = q.hostEnd - len(value)
		}
	case len("expect"):
		if EqualFold(name, "expect") && q.minor == 1 {
			if q.ExpectsContinue = EqualFold(value, "100-continue"); !q.ExpectsContinue {
				return c.fail(Expectation, "the only expectation is 100-continue")
			}
		}
	case len("connection"):
		if EqualFold(name, "connection") {
			q.parseConnection(value)
		}
	case len("content-length"):
		if EqualFold(name, "content-length") {
			return c.parseLength(value)
		}
	case len("transfer-encoding"):
		if EqualFold(name, "transfer-encoding") {
			q.codingCount++
			if !EqualFold(value, "chunked") {
				return c.badFraming("the only Transfer-Encoding is chunked")
			}
			if q.codingCount > 1 {
				return c.badFraming("more than one Transfer-Encoding")
			}
		}
	}
	return fieldLine
}

func (c *Conn) parseLength(value []byte) element {
	q := &c.request
	if q.lengthCount++; q.lengthCount > 1 {
		return c.badFraming("more than one Content-Length")
	}
	if len(value) == 0 {
		return c.badFraming("Content-Length is not a number")
	}
	for _, d := range value {
		if !isDigit(d) {
			return c.badFraming("Content-Length is not a number")
		}
		if q.Length = q.Length*10 + int64(d-'0'); q.Length >= maxLength {
			return c.badFraming("Content-Length is too large")
		}
	}
	return fieldLine
}

// parseConnection reads the options in a field Connection (RFC 9110, section 7.6.1).
func (q *Request) parseConnection(value []byte) {
	for len(value) > 0 {
		var option []byte
		option, value, _ = bytes.Cut(value, []byte(","))
		option = Trim(option)
		q.closeOption = q.closeOption || EqualFold(option, "close")
		q.keepAliveOption = q.keepAliveOption || EqualFold(option, "keep-alive")
	}
}

// finishHeader checks the header as a whole. head is the header without the empty line at
// its end.
func (c *Conn) finishHeader(head []byte) element {
	q := &c.request
	switch {
	case q.codingCount > 0 && (q.lengthCount > 0 || q.minor == 0):
		return c.badFraming("Transfer-Encoding must not be used with Content-Length or HTTP/1.0")
	case q.hostCount > 1 || q.hostCount == 0 && q.minor == 1:
		return c.badFraming("a request must have one Host")
	}
	q.Method, q.Target = head[:q.methodEnd], head[q.methodEnd+1:q.targetEnd]
	q.Host, q.fields = head[q.hostFrom:q.hostEnd], head[q.fieldsFrom:]
	c.last = q.closeOption || q.minor == 0 && !q.keepAliveOption
	switch {
	case q.codingCount > 0:
		q.Length = -1
		return endWithChunks
	case q.Length > 0:
		c.bodyLeft = q.Length
		return endWithLength
	}
	q.ExpectsContinue = false // there is no body to wait for
	return endWithoutBody
}
