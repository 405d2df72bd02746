package httpserver

import (
	"bytes"
	"strconv"
)

// framing follows what a client sends, as far as it takes to know where each
// request begins and how its lines end.
//
// fasthttp accepts a request line that ends with LF alone and does not report it.
// A proxy in front may not accept it, and then sees the requests of a connection
// begin elsewhere (RFC 9112, section 2.2). Only lines of a header and of chunked
// coding are judged, each for its own request: a body may hold anything.
//
// It has no opinion on requests that readHeader or fasthttp refuse, since these
// end the connection.
type framing struct {
	at       element
	requests uint64 // whose request line has been seen
	refused  uint64 // the first request that must not be served; 0: none
	why      string

	line    [64]byte // the beginning of the line that is being read
	kept    int      // bytes of it
	size    int      // bytes of the line so far
	last    byte     // of the line so far
	left    int      // bytes of the body or chunk that are still to come
	chunked bool
}

// element is what the next byte belongs to.
type element uint8

const (
	requestLine element = iota // or an empty line before it
	headerLine
	content // of a body, or of a chunk with its CR LF
	chunkSize
	trailerLine
	lost // it can't be known
)

// add takes the next bytes that have come from the client.
func (f *framing) add(b []byte) {
	for len(b) > 0 && f.at != lost {
		if f.at == content {
			n := min(len(b), f.left)
			f.left -= n
			b = b[n:]
			if f.left == 0 {
				f.at = requestLine
				if f.chunked {
					f.at = chunkSize
				}
			}
			continue
		}
		part, rest, whole := bytes.Cut(b, []byte("\n"))
		f.kept += copy(f.line[f.kept:], part)
		if f.size += len(part); len(part) > 0 {
			f.last = part[len(part)-1]
		}
		if whole {
			f.endLine()
		}
		b = rest
	}
}

// endLine judges a line that has ended with LF.
func (f *framing) endLine() {
	text, size, cr := f.line[:f.kept], f.size, f.size > 0 && f.last == '\r'
	f.kept, f.size = 0, 0
	empty := size == 0 || cr && size == 1
	if f.at == requestLine {
		if empty {
			return // clients may send one before a request
		}
		f.requests++
		f.left, f.chunked = 0, false
	}
	if !cr {
		f.refuse("a line of the request does not end with CR LF")
		return
	}
	whole := size <= len(f.line)
	if whole {
		text = text[:size-1]
	}
	switch f.at {
	case requestLine:
		f.at = headerLine
	case headerLine:
		f.endHeaderLine(text, whole, empty)
	case chunkSize:
		f.beginChunk(text)
	case trailerLine:
		if empty {
			f.at = requestLine
		}
	}
}

func (f *framing) endHeaderLine(text []byte, whole, empty bool) {
	switch {
	case empty && f.chunked:
		f.at = chunkSize
	case empty && f.left > 0:
		f.at = content
	case empty:
		f.at = requestLine
	}
	name, value, _ := bytes.Cut(text, []byte(":"))
	switch {
	case is(name, "transfer-encoding"):
		f.chunked = true // readHeader refuses any other
	case is(name, "content-length"):
		n, err := strconv.ParseUint(string(trimBlanks(value)), 10, 63)
		if f.left = int(n); err != nil || !whole {
			f.refuse("Content-Length is not a number")
		}
	}
}

// beginChunk reads the line with the size of a chunk, which may have extensions.
func (f *framing) beginChunk(text []byte) {
	digits := text
	if end := bytes.IndexAny(text, " \t;"); end >= 0 {
		digits = text[:end]
	}
	n, err := strconv.ParseUint(string(digits), 16, 60)
	switch {
	case err != nil:
		f.refuse("the size of a chunk is not a hexadecimal number")
	case n == 0:
		f.at = trailerLine
	default:
		f.at, f.left = content, int(n)+len("\r\n")
	}
}

// refuse ends what can be known: this request and those behind it are not served.
func (f *framing) refuse(why string) {
	f.at, f.refused, f.why = lost, f.requests, why
}

// badlyFramed returns what is wrong with the request that is being served, or
// with its body as far as it was read; empty: nothing.
func (c *connection) badlyFramed() string {
	if c == nil || c.framing.refused == 0 || c.requests < c.framing.refused {
		return ""
	}
	return c.framing.why
}
