package http1

import "bytes"

// nextLine returns the line in hand without its CR LF, if it is whole, and makes the one
// behind it the line in hand. Of b, which begins with the first byte that is not consumed, only
// what is new is searched.
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

// consumeLine forgets the line in hand, which is consumed.
func (c *Conn) consumeLine() (n int) {
	n = c.line
	c.line, c.looked = 0, 0
	return n
}

// header takes a request's header line by line, and consumes it once it is whole; empty
// lines before it at once.
func (c *Conn) header(b []byte) (element, int) {
	bounded := b[:min(len(b), c.max)]
	start := c.line
	line, what := c.nextLine(bounded)
	switch {
	case what == nothing && len(b) >= c.max:
		return c.fail(TooLarge, "the header of the request is too large"), 0
	case what == nothing:
		return nothing, 0
	case c.state == Start && len(line) == 0: // with or without CR: nobody sees a request in it
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

// chunkLine takes the line with the size of a chunk (RFC 9112, section 7.1).
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

// isExtension reports whether b may follow the size of a chunk: extensions, which mean
// nothing here (RFC 9112, section 7.1.1), or blanks, with which some fill up the line.
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

// endOfChunk takes the CR LF behind a chunk.
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

// trailerLine takes a line behind the last chunk. It is as strict as a header's line, and
// has no meaning; none may be of what decides how a request is read (RFC 9110, section 6.5.1).
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
