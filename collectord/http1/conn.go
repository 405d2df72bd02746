package http1

// Event is a result of Next.
type Event uint8

// Events.
const (
	More   Event = iota // more bytes are needed
	Header              // the request's header is complete
	Body                // a piece of the body
	End                 // the request is complete
	Bad                 // the request has a Fault; Next reads no more from the connection
)

// State is the part of a request that Next reads.
type State uint8

// States, as in the table in doc.go.
const (
	Broken State = iota // also the next state if the table has no transition
	Start
	Fields
	Fixed
	ChunkSize
	ChunkData
	ChunkEnd
	Trailer
	Done

	states
)

// element is a unit of a request's syntax, as Next recognizes it.
type element uint8

const (
	nothing element = iota // none is complete yet
	emptyLine
	requestLine
	fieldLine
	endWithoutBody
	endWithLength
	endWithChunks
	piece
	lastPiece
	chunkSize
	lastChunk
	chunkEnd
	endOfTrailer
	answered
	bad

	elements
)

// transitions is the table in doc.go. A transition that the table lacks leads to Broken.
var transitions = [states][elements]State{ //nolint:gochecknoglobals // a constant table
	Start:     {emptyLine: Start, requestLine: Fields, bad: Broken},
	Fields:    {fieldLine: Fields, endWithoutBody: Done, endWithLength: Fixed, endWithChunks: ChunkSize, bad: Broken},
	Fixed:     {piece: Fixed, lastPiece: Done},
	ChunkSize: {chunkSize: ChunkData, lastChunk: Trailer, bad: Broken},
	ChunkData: {piece: ChunkData, lastPiece: ChunkEnd},
	ChunkEnd:  {chunkEnd: ChunkSize, bad: Broken},
	Trailer:   {fieldLine: Trailer, endOfTrailer: Done, bad: Broken},
	Done:      {answered: Start},
}

// Limits of a request.
const (
	maxChunkLine = 256     // bytes of the line with a chunk's size, extensions included
	maxLength    = 1 << 56 // a body or chunk has fewer bytes
)

// Conn is the server's side of one connection. Create it with New: the zero value is
// Broken.
type Conn struct {
	maxHeader int // max bytes of a header, and of a trailer
	state     State

	// The fields below describe the current request; begin resets all of them.
	request      Request
	fault        Fault
	lineStart    int   // offset of the current line in the bytes that are not consumed
	searched     int   // offset up to which the line's end was searched
	bodyLeft     int64 // bytes of the body or chunk that are still to come
	trailerBytes int   // bytes of the trailer that were consumed
	sent         sent
	endReturned  bool // Next has returned End
	last         bool // the connection ends with this request
}

// sent is how much of the response to the current request was appended.
type sent uint8

const (
	sentNothing sent = iota
	sentContinue
	sentResponse
)

// New returns a Conn for a new connection. maxHeader limits the bytes of a request's
// header, and separately the bytes of its trailer.
func New(maxHeader int) Conn { return Conn{maxHeader: maxHeader, state: Start} }

// State returns the part of a request that Next reads.
func (c *Conn) State() State { return c.state }

// Request returns the current request, from the event Header until the next request
// begins.
func (c *Conn) Request() *Request { return &c.request }

// Fault returns why the request is rejected, after the event Bad.
func (c *Conn) Fault() Fault { return c.fault }

// Last reports whether the connection ends with the current request. The result can
// change from false to true until the request is read to its end and answered.
func (c *Conn) Last() bool { return c.last }

// Answered reports whether AppendResponse was called for the current request.
func (c *Conn) Answered() bool { return c.sent == sentResponse }

// BodyLeft returns how many bytes of the body are still to come, or -1 for a chunked body.
func (c *Conn) BodyLeft() int64 {
	switch c.state {
	case Fixed:
		return c.bodyLeft
	case ChunkSize, ChunkData, ChunkEnd, Trailer:
		return -1
	}
	return 0
}

// Next consumes the first n bytes of b and returns what they contain. b must begin with
// the first byte that is not yet consumed. With the event Body, body is a piece of the
// request's body and shares the memory of b.
func (c *Conn) Next(b []byte) (e Event, body []byte, n int) {
	if c.request.Method != nil { // the caller may have overwritten the bytes since Header
		c.request.dropSlices()
	}
	for {
		var elem element
		used := 0
		prev := c.state
		switch prev {
		case Start, Fields:
			elem, used = c.parseHeader(b[n:])
		case Fixed, ChunkData:
			elem, used = c.consumeBody(b[n:])
			body = b[n : n+used]
		case ChunkSize:
			elem, used = c.parseChunkLine(b[n:])
		case ChunkEnd:
			elem, used = c.parseChunkEnd(b[n:])
		case Trailer:
			elem, used = c.parseTrailerLine(b[n:])
		case Done:
			switch {
			case !c.endReturned:
				c.endReturned = true
				return End, nil, n
			case c.sent != sentResponse || c.last:
				return More, nil, n // bytes of a following request stay unread
			}
			c.begin()
			continue
		case Broken:
			return Bad, nil, n
		}
		n += used
		if elem == nothing {
			return More, nil, n
		}
		c.enter(elem)
		switch {
		case c.state == Broken:
			c.last = true
			return Bad, nil, n
		case prev == Fields && c.state != Fields:
			return Header, nil, n
		case elem == piece, elem == lastPiece:
			return Body, body, n
		}
	}
}

// enter moves to the state to which an element leads.
func (c *Conn) enter(elem element) {
	c.state = transitions[c.state][elem]
	if c.state == Broken && elem != bad {
		c.fault = Fault{BadFraming, "the request is not well formed"} // the table lacks the transition
	}
}

// begin resets everything known of the previous request.
func (c *Conn) begin() {
	state := c.state
	*c = New(c.maxHeader)
	c.state = state
	c.enter(answered)
}

// consumeBody consumes bytes of a body or chunk.
func (c *Conn) consumeBody(b []byte) (element, int) {
	n := int(min(c.bodyLeft, int64(len(b))))
	c.bodyLeft -= int64(n)
	switch {
	case n == 0:
		return nothing, 0
	case c.bodyLeft == 0:
		return lastPiece, n
	}
	return piece, n
}
