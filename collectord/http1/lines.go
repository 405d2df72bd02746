package http1

import "bytes"

// nextLine returns the current line without its CR LF, and moves to the next line. Whatever
// the line is, the element is emptyLine, which callers replace. For an incomplete line the
// element is nothing. b begins
// with the first byte that is not consumed; only its new bytes are searched.
func (c *Conn) nextLine(b []byte) (line []byte, elem element) {
	i := bytes.IndexByte(b[c.searched:], '\n')
	if i < 0 {
		c.searched = len(b)
		return nil, nothing
	}
	end := c.searched + i
	line = b[c.lineStart:end]
	c.lineStart, c.searched = end+1, end+1
	if len(line) == 0 || line[len(line)-1] != '\r' {
		return line, c.badFraming("a line of the request does not end with CR LF")
	}
	return line[:len(line)-1], emptyLine
}

// consumeLine returns the length of all lines up to and including the current one, and
// starts anew after them.
func (c *Conn) consumeLine() (n int) {
	n = c.lineStart
	c.lineStart, c.searched = 0, 0
	return n
}

// parseHeader reads a header line by line and consumes it as a whole. Empty lines before
// the request line are consumed at once.
func (c *Conn) parseHeader(b []byte) (element, int) {
	limited := b[:min(len(b), c.maxHeader)]
	start := c.lineStart
	line, elem := c.nextLine(limited)
	switch {
	case elem == nothing && len(b) >= c.maxHeader:
		return c.fail(TooLarge, "the header of the request is too large"), 0
	case elem == nothing:
		return nothing, 0
	case c.state == Start && len(line) == 0: // with or without CR, no server or proxy takes an empty line for a request
		c.fault = Fault{}
		return emptyLine, c.consumeLine()
	case elem == bad:
		return bad, 0
	case c.state == Start:
		return c.parseRequestLine(line), 0
	case len(line) == 0:
		return c.finishHeader(b[:start]), c.consumeLine()
	}
	return c.parseField(line), 0
}

// parseChunkLine reads the line with the size of a chunk (RFC 9112, section 7.1).
func (c *Conn) parseChunkLine(b []byte) (element, int) {
	line, elem := c.nextLine(b[:min(len(b), maxChunkLine)])
	switch {
	case elem == nothing && len(b) >= maxChunkLine:
		return c.badFraming("the line with the size of a chunk is too long"), 0
	case elem != emptyLine:
		return elem, 0
	}
	digits := 0
	for ; digits < len(line); digits++ {
		d := hexDigit(line[digits])
		if d < 0 {
			break
		}
		if c.bodyLeft = c.bodyLeft<<4 | int64(d); c.bodyLeft >= maxLength {
			return c.badFraming("the size of a chunk is too large"), 0
		}
	}
	switch {
	case digits == 0:
		return c.badFraming("the size of a chunk is not a hexadecimal number"), 0
	case !isExtension(line[digits:]):
		return c.badFraming("a chunk's extension is not well formed"), 0
	case c.bodyLeft == 0:
		return lastChunk, c.consumeLine()
	}
	return chunkSize, c.consumeLine()
}

// isExtension reports whether b may follow the size of a chunk. That may be extensions,
// which are ignored (RFC 9112, section 7.1.1), or the blanks with which some clients pad
// the line.
func isExtension(b []byte) bool {
	b = trimLeft(b)
	if len(b) > 0 && b[0] != ';' {
		return false
	}
	for _, c := range b {
		if !isValue(c) {
			return false
		}
	}
	return true
}

// parseChunkEnd reads the CR LF after a chunk.
func (c *Conn) parseChunkEnd(b []byte) (element, int) {
	const crlf = "\r\n"
	n := min(len(b), len(crlf))
	switch {
	case string(b[:n]) != crlf[:n]:
		return c.badFraming("a chunk is longer or shorter than its declared size"), 0
	case n < len(crlf):
		return nothing, 0
	}
	return chunkEnd, n
}

// parseTrailerLine reads a line after the last chunk and ignores its content. The line
// must be a valid field line, and no field that belongs in the header (RFC 9110, section
// 6.5.1).
func (c *Conn) parseTrailerLine(b []byte) (element, int) {
	allowed := c.maxHeader - c.trailerBytes
	line, elem := c.nextLine(b[:min(len(b), allowed)])
	switch {
	case elem == nothing && len(b) >= allowed:
		return c.badFraming("the trailer of the request is too large"), 0
	case elem != emptyLine:
		return elem, 0
	case len(line) == 0:
		return endOfTrailer, c.consumeLine()
	}
	name, _, reason := splitField(line)
	if reason == "" && forbiddenInTrailer(name) {
		reason = "a trailer field that belongs in the header"
	}
	if reason != "" {
		return c.badFraming(reason), 0
	}
	n := c.consumeLine()
	c.trailerBytes += n
	return fieldLine, n
}
