package http1

import "bytes"

// nextLine returns the current line without its CR LF, with the element emptyLine, and
// moves to the next line. For an incomplete line it returns the element nothing. b begins
// with the first byte that is not consumed; only its new bytes are searched.
func (c *Conn) nextLine(b []byte) (line []byte, what element) {
	i := bytes.IndexByte(b[c.looked:], '\n')
	if i < 0 {
		c.looked = len(b)
		return nil, nothing
	}
	end := c.looked + i
	line = b[c.line:end]
	c.line, c.looked = end+1, end+1
	if len(line) == 0 || line[len(line)-1] != '\r' {
		return line, c.badFraming("a line of the request does not end with CR LF")
	}
	return line[:len(line)-1], emptyLine
}

// consumeLine returns the length of all lines up to and including the current one, and
// starts anew behind them.
func (c *Conn) consumeLine() (n int) {
	n = c.line
	c.line, c.looked = 0, 0
	return n
}

// header reads a header line by line and consumes it as a whole. Empty lines before the
// request line are consumed at once.
func (c *Conn) header(b []byte) (element, int) {
	bounded := b[:min(len(b), c.max)]
	start := c.line
	line, what := c.nextLine(bounded)
	switch {
	case what == nothing && len(b) >= c.max:
		return c.fail(TooLarge, "the header of the request is too large"), 0
	case what == nothing:
		return nothing, 0
	case c.state == Start && len(line) == 0: // with or without CR, no server or proxy takes an empty line for a request
		c.fault = Fault{}
		return emptyLine, c.consumeLine()
	case what == bad:
		return bad, 0
	case c.state == Start:
		return c.requestLine(line), 0
	case len(line) == 0:
		return c.endOfHeader(b[:start]), c.consumeLine()
	}
	return c.field(line), 0
}

// chunkLine reads the line with the size of a chunk (RFC 9112, section 7.1).
func (c *Conn) chunkLine(b []byte) (element, int) {
	line, what := c.nextLine(b[:min(len(b), maxChunkLine)])
	switch {
	case what == nothing && len(b) >= maxChunkLine:
		return c.badFraming("the line with the size of a chunk is too long"), 0
	case what != emptyLine:
		return what, 0
	}
	digits := 0
	for ; digits < len(line); digits++ {
		d := hexadecimal(line[digits])
		if d < 0 {
			break
		}
		if c.left = c.left<<4 | int64(d); c.left >= maxLength {
			return c.badFraming("the size of a chunk is too large"), 0
		}
	}
	switch {
	case digits == 0:
		return c.badFraming("the size of a chunk is not a hexadecimal number"), 0
	case !isExtension(line[digits:]):
		return c.badFraming("a chunk's extension is not well formed"), 0
	case c.left == 0:
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

// endOfChunk reads the CR LF after a chunk.
func (c *Conn) endOfChunk(b []byte) (element, int) {
	const crlf = "\r\n"
	n := min(len(b), len(crlf))
	switch {
	case string(b[:n]) != crlf[:n]:
		return c.badFraming("a chunk is longer or shorter than its size says"), 0
	case n < len(crlf):
		return nothing, 0
	}
	return chunkEnd, n
}

// trailerLine reads a line after the last chunk and ignores its content. The line must be
// a valid field line, and no field that belongs in the header (RFC 9110, section 6.5.1).
func (c *Conn) trailerLine(b []byte) (element, int) {
	room := c.max - c.trailer
	line, what := c.nextLine(b[:min(len(b), room)])
	switch {
	case what == nothing && len(b) >= room:
		return c.badFraming("the trailer of the request is too large"), 0
	case what != emptyLine:
		return what, 0
	case len(line) == 0:
		return endOfTrailer, c.consumeLine()
	}
	name, _, reason := splitField(line)
	if reason == "" && hasNoPlaceInTrailer(name) {
		reason = "a trailer does not say how the request is read"
	}
	if reason != "" {
		return c.badFraming(reason), 0
	}
	n := c.consumeLine()
	c.trailer += n
	return fieldLine, n
}
