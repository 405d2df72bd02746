package http1

import "bytes"

// Request is a request's header. Its slices are parts of the bytes that Next was given when
// it returned Header, and are there until Next is called again.
type Request struct {
	Method []byte
	Target []byte // as sent
	Host   []byte // its value, perhaps empty
	Length int64  // bytes of the body; -1: it comes in chunks

	// ExpectsContinue says that the client waits for AppendContinue before it sends the
	// body (RFC 9110, section 10.1.1).
	ExpectsContinue bool

	minor  byte // the version is 1.0 or 1.1
	head   bool // the method is HEAD
	fields []byte

	// Up to the end of the header these are places in it, since its bytes may move.
	methodEnd, targetEnd, fieldsFrom int
	hostFrom, hostEnd                int
	hosts, lengths, codings          int
	closes, keeps                    bool // as Connection says
}

// forget drops what is a part of the bytes.
func (q *Request) forget() { q.Method, q.Target, q.Host, q.fields = nil, nil, nil, nil }

// Path is the target's path without its query, or empty where the target has none. A
// target that is a whole URL has its path.
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

// Fields returns the request's field lines, in the order in which they came.
func (q *Request) Fields() Lines { return Lines{q.fields} }

// Lines are field lines that were judged.
type Lines struct{ rest []byte }

// Next returns the next field, its value without blanks around it.
func (l *Lines) Next() (name, value []byte, ok bool) {
	end := bytes.IndexByte(l.rest, '\r') // there is none within a line
	if end < 0 {
		return nil, nil, false
	}
	colon := bytes.IndexByte(l.rest[:end], ':')
	name, value = l.rest[:colon], Trim(l.rest[colon+1:end])
	l.rest = l.rest[end+len("\r\n"):]
	return name, value, true
}

// requestLine judges method, target and version (RFC 9112, section 3).
func (c *Conn) requestLine(line []byte) element {
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
	q.methodEnd, q.targetEnd, q.fieldsFrom = method, end, c.line
	return requestLine
}

// isTarget reports whether a target has a form that its method may have (RFC 9112, section
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
		if n := len(scheme); len(target) > n && Is(target[:n], scheme) {
			authority, _, _ := bytes.Cut(target[n:], []byte("/"))
			authority, _, _ = bytes.Cut(authority, []byte("?"))
			return len(authority) > 0 && isHost(authority)
		}
	}
	return false
}

// field judges a line of the header and keeps what it says of framing.
func (c *Conn) field(line []byte) element {
	name, value, reason := splitField(line)
	if reason != "" {
		return c.badFraming(reason)
	}
	q := &c.request
	switch len(name) {
	case len("host"):
		if Is(name, "host") {
			q.hosts++
			if !isHost(value) {
				return c.badFraming("Host is not a name or an address")
			}
			q.hostEnd = c.line - len("\r\n") - (len(line) - valueEnd(line))
			q.hostFrom = q.hostEnd - len(value)
		}
	case len("expect"):
		if Is(name, "expect") && q.minor == 1 {
			if q.ExpectsContinue = Is(value, "100-continue"); !q.ExpectsContinue {
				return c.fail(Expectation, "the only expectation is 100-continue")
			}
		}
	case len("connection"):
		if Is(name, "connection") {
			q.connection(value)
		}
	case len("content-length"):
		if Is(name, "content-length") {
			return c.length(value)
		}
	case len("transfer-encoding"):
		if Is(name, "transfer-encoding") {
			q.codings++
			if !Is(value, "chunked") {
				return c.badFraming("the only Transfer-Encoding is chunked")
			}
			if q.codings > 1 {
				return c.badFraming("more than one Transfer-Encoding")
			}
		}
	}
	return fieldLine
}

func (c *Conn) length(value []byte) element {
	q := &c.request
	if q.lengths++; q.lengths > 1 {
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

// connection reads a list of options (RFC 9110, section 7.6.1).
func (q *Request) connection(value []byte) {
	for len(value) > 0 {
		var option []byte
		option, value, _ = bytes.Cut(value, []byte(","))
		option = Trim(option)
		q.closes = q.closes || Is(option, "close")
		q.keeps = q.keeps || Is(option, "keep-alive")
	}
}

// endOfHeader judges the header as a whole. It is head, without the empty line behind it.
func (c *Conn) endOfHeader(head []byte) element {
	q := &c.request
	switch {
	case q.codings > 0 && (q.lengths > 0 || q.minor == 0):
		return c.badFraming("Transfer-Encoding goes with neither Content-Length nor HTTP/1.0")
	case q.hosts > 1 || q.hosts == 0 && q.minor == 1:
		return c.badFraming("a request names one Host")
	}
	q.Method, q.Target = head[:q.methodEnd], head[q.methodEnd+1:q.targetEnd]
	q.Host, q.fields = head[q.hostFrom:q.hostEnd], head[q.fieldsFrom:]
	c.last = q.closes || q.minor == 0 && !q.keeps
	switch {
	case q.codings > 0:
		q.Length = -1
		return endWithChunks
	case q.Length > 0:
		c.left = q.Length
		return endWithLength
	}
	q.ExpectsContinue = false // nothing is to come
	return endWithoutBody
}
