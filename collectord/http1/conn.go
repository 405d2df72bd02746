package http1

// Event is what Next has found.
type Event uint8

// Events.
const (
	More   Event = iota // nothing whole: more bytes are needed
	Header              // a request's header is whole
	Body                // a piece of its body
	End                 // the request is whole
	Bad                 // a Fault; nothing more is read from the connection
)

// State is where in a request the reading is.
type State uint8

// States, as in the table of the package.
const (
	Broken State = iota // also what the table does not have leads to
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

// element is what bytes turned out to be.
type element uint8

const (
	nothing element = iota // that is whole
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

// transitions is the table of doc.go. What is not in it is Broken.
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

// Limits on what a request may be.
const (
	maxChunkLine = 256     // bytes of the line with a chunk's size, extensions included
	maxLength    = 1 << 56 // bytes of a body or chunk
)

// Conn is the server's side of one connection. The zero value is not one: see New.
type Conn struct {
	max   int // bytes of a header, and of a trailer
	state State

	// What follows is of the request in hand, and is replaced as a whole.
	request Request
	fault   Fault
	line    int   // where in the bytes that are not consumed the line in hand begins
	looked  int   // up to where they were searched for its end
	left    int64 // bytes of the body, or of the chunk, still to come
	trailer int   // bytes of it that were consumed
	sent    sent
	ended   bool // Next has returned End
	last    bool // no other request follows
}

// sent is what the client has been sent for the request in hand.
type sent uint8

const (
	sentNothing sent = iota
	sentContinue
	sentAnswer
)

// New returns the state of a connection on which nothing has come yet. A request's header
// has at most maxHeader bytes, and so has its trailer.
func New(maxHeader int) Conn { return Conn{max: maxHeader, state: Start} }

// State returns where the reading is.
func (c *Conn) State() State { return c.state }

// Request describes the request in hand, from Header on and until the next one begins.
func (c *Conn) Request() *Request { return &c.request }

// Fault says what is wrong, after Bad.
func (c *Conn) Fault() Fault { return c.fault }

// Last reports whether the connection ends with the request in hand. Before it is answered
// and read to its end, that can still become true.
func (c *Conn) Last() bool { return c.last }

// Answered reports whether the request in hand was answered.
func (c *Conn) Answered() bool { return c.sent == sentAnswer }

// Left returns how many bytes of the body are still to come, or -1 where chunks do not say.
func (c *Conn) Left() int64 {
	switch c.state {
	case Fixed:
		return c.left
	case ChunkSize, ChunkData, ChunkEnd, Trailer:
		return -1
	}
	return 0
}

// Next says what the bytes are that were not consumed yet, and consumes the first n of
// them. A piece of a body is among these, and is valid as long as they are.
func (c *Conn) Next(b []byte) (e Event, body []byte, n int) {
	if c.request.Method != nil { // Header was returned before, and the bytes may be gone
		c.request.forget()
	}
	for {
		var what element
		used := 0
		was := c.state
		switch was {
		case Start, Fields:
			what, used = c.header(b[n:])
		case Fixed, ChunkData:
			what, used = c.content(b[n:])
			body = b[n : n+used]
		case ChunkSize:
			what, used = c.chunkLine(b[n:])
		case ChunkEnd:
			what, used = c.endOfChunk(b[n:])
		case Trailer:
			what, used = c.trailerLine(b[n:])
		case Done:
			switch {
			case !c.ended:
				c.ended = true
				return End, nil, n
			case c.sent != sentAnswer || c.last:
				return More, nil, n // what follows is not looked at
			}
			c.begin()
			continue
		case Broken:
			return Bad, nil, n
		}
		n += used
		if what == nothing {
			return More, nil, n
		}
		c.enter(what)
		switch {
		case c.state == Broken:
			c.last = true
			return Bad, nil, n
		case was == Fields && c.state != Fields:
			return Header, nil, n
		case what == piece, what == lastPiece:
			return Body, body, n
		}
	}
}

// enter goes from one state to the next.
func (c *Conn) enter(what element) {
	c.state = transitions[c.state][what]
	if c.state == Broken && what != bad {
		c.fault = Fault{BadFraming, "the request is not well formed"} // it is not in the table
	}
}

// begin replaces all that is known of a request.
func (c *Conn) begin() {
	state := c.state
	*c = New(c.max)
	c.state = state
	c.enter(answered)
}

// content takes bytes of a body or chunk.
func (c *Conn) content(b []byte) (element, int) {
	n := int(min(c.left, int64(len(b))))
	c.left -= int64(n)
	switch {
	case n == 0:
		return nothing, 0
	case c.left == 0:
		return lastPiece, n
	}
	return piece, n
}
