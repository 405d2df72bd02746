package send

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxResponseBytes = 1 << 20 // bytes, including interim responses before it, header lines and chunk framing
	maxLineBytes     = 4 << 10
)

// errUnreadable means that a response is malformed. It contains no detail, since the
// response may contain anything.
var errUnreadable = errors.New("the answer is not HTTP")

// responseReader reads HTTP/1.0 and HTTP/1.1 responses to POST requests (RFC 9112). It
// rejects responses that two parsers could interpret differently. It returns errUnreadable
// or an error of the connection. The start of the next response is unknown after an error.
type responseReader struct {
	buffered  *bufio.Reader // buffer of maxLineBytes bytes; set by reset
	bytesLeft int           // bytes that the current response may still take
	body      []byte        // body of the current response
}

// reset discards buffered data and continues with conn.
func (r *responseReader) reset(conn io.Reader) {
	if r.buffered == nil {
		r.buffered = bufio.NewReaderSize(conn, maxLineBytes)
		return
	}
	r.buffered.Reset(conn)
}

// read returns the next final response. Its body is valid until the next call.
func (r *responseReader) read() (response, error) {
	r.bytesLeft, r.body = maxResponseBytes, r.body[:0]
	for {
		h, err := r.readHeader()
		if err != nil {
			return response{}, err
		}
		if h.status < 200 && h.status != 101 { // 101 is final: another protocol follows it
			continue
		}
		if err := r.readBody(&h); err != nil {
			return response{}, err
		}
		return response{
			status: h.status, body: r.body, replayed: h.replayed, retryAfter: h.retryAfter,
			// Extra bytes belong to no request, and the next request must not receive
			// them.
			closes: h.close || r.buffered.Buffered() > 0,
		}, nil
	}
}

// header is the content of a status line and header fields.
type header struct {
	status           int
	length           int // of the body; -1: absent
	chunked          bool
	close, keepAlive bool
	replayed         bool
	retryAfter       time.Duration
}

func (r *responseReader) readHeader() (h header, err error) {
	line, err := r.readLine()
	if err != nil {
		return h, err
	}
	h, ok := parseStatusLine(line)
	if !ok {
		return h, errUnreadable
	}
	http10 := line[len("HTTP/1.")] == '0'
	if err := r.readFields(&h); err != nil {
		return h, err
	}
	if h.chunked && (http10 || h.length >= 0) {
		return h, errUnreadable
	}
	h.close = h.close || http10 && !h.keepAlive
	return h, nil
}

// parseStatusLine parses HTTP-version SP 3DIGIT [SP reason].
func parseStatusLine(line []byte) (h header, ok bool) {
	const length = len("HTTP/1.1 200")
	if len(line) < length || len(line) > length && line[length] != ' ' || !isText(line) {
		return h, false
	}
	if version := line[:len("HTTP/1.1 ")]; string(version) != "HTTP/1.1 " && string(version) != "HTTP/1.0 " {
		return h, false
	}
	status, err := strconv.ParseUint(string(line[length-3:length]), 10, 16)
	return header{status: int(status), length: -1}, err == nil && status >= 100
}

// readFields reads header or trailer fields and the empty line after them.
func (r *responseReader) readFields(h *header) error {
	for {
		line, err := r.readLine()
		if err != nil || len(line) == 0 {
			return err
		}
		if !h.parseField(line) {
			return errUnreadable
		}
	}
}

// parseField parses a field and reports whether it is well-formed.
func (h *header) parseField(line []byte) (ok bool) {
	name, value, ok := bytes.Cut(line, []byte(":"))
	value = bytes.Trim(value, " \t")
	if !ok || !toLowerToken(name) || !isText(value) {
		return false
	}
	switch string(name) {
	case "content-length":
		n, err := strconv.ParseUint(string(value), 10, 31)
		if err != nil || h.length >= 0 {
			return false
		}
		h.length = int(n)
	case "transfer-encoding":
		if h.chunked || !bytes.EqualFold(value, []byte("chunked")) {
			return false
		}
		h.chunked = true
	case "connection":
		for option := range bytes.SplitSeq(value, []byte(",")) {
			option = bytes.Trim(option, " \t")
			h.close = h.close || bytes.EqualFold(option, []byte("close"))
			h.keepAlive = h.keepAlive || bytes.EqualFold(option, []byte("keep-alive"))
		}
	case "idempotency-replayed":
		h.replayed = h.replayed || len(value) > 0
	case "retry-after":
		h.retryAfter = max(h.retryAfter, retryAfter(value, time.Now()))
	}
	return true
}

// readBody reads the body up to its end (RFC 9112, section 6.3).
func (r *responseReader) readBody(h *header) error {
	switch {
	case h.status == 101, h.status == 204, h.status == 304:
		h.close = h.close || h.status == 101 || h.chunked || h.length > 0 // the end of the response is uncertain
		return nil
	case h.chunked:
		return r.readChunks()
	case h.length >= 0:
		return r.readBytes(h.length)
	}
	h.close = true
	for {
		if _, err := r.buffered.Peek(1); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := r.readBytes(r.buffered.Buffered()); err != nil {
			return err
		}
	}
}

// readChunks reads a chunked body and its trailer. Trailer fields are ignored.
func (r *responseReader) readChunks() error {
	for {
		line, err := r.readLine()
		if err != nil {
			return err
		}
		digits, _, _ := bytes.Cut(bytes.TrimRight(line, " \t"), []byte(";")) // some servers pad the size with spaces
		size, err := strconv.ParseUint(string(digits), 16, 31)
		if err != nil || !isText(line) {
			return errUnreadable
		}
		if size == 0 {
			return r.readFields(&header{length: -1})
		}
		if err := r.readBytes(int(size)); err != nil {
			return err
		}
		if line, err = r.readLine(); err != nil {
			return err
		}
		if len(line) > 0 {
			return errUnreadable
		}
	}
}

// readBytes appends n bytes to the body.
func (r *responseReader) readBytes(n int) error {
	if r.bytesLeft -= n; r.bytesLeft < 0 {
		return errUnreadable
	}
	have := len(r.body)
	r.body = slices.Grow(r.body, n)[:have+n]
	_, err := io.ReadFull(r.buffered, r.body[have:])
	return err
}

// readLine returns the next line without its CRLF. The line is valid until the next read.
func (r *responseReader) readLine() ([]byte, error) {
	line, err := r.buffered.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return nil, errUnreadable
	}
	if err != nil {
		return nil, err
	}
	r.bytesLeft -= len(line)
	text, ok := bytes.CutSuffix(line, []byte("\r\n"))
	if !ok || r.bytesLeft < 0 {
		return nil, errUnreadable
	}
	return text, nil
}

// toLowerToken converts b to lower case in place, and reports whether it is a token (RFC
// 9110, section 5.6.2).
func toLowerToken(b []byte) bool {
	for i, c := range b {
		switch {
		case 'A' <= c && c <= 'Z':
			b[i] = c + 'a' - 'A'
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', strings.IndexByte("-!#$%&'*+.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return len(b) > 0
}

// isText reports whether b contains no control characters except tabs.
func isText(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
