package httpserver

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"github.com/klauspost/compress/zstd"

	"collectord/wal"
)

// Sizes of what a request holds of its body.
const (
	firstBuffer  = 4 << 10
	freeBytes    = firstBuffer // of a body that everyone may hold
	smallBody    = 64 << 10    // taken from MaxInFlight is only what is beyond
	smallBodies  = 2 << 20     // what bodies hold between the two, all together
	bodyStep     = 64 << 10    // taken from MaxInFlight at a time
	modestBody   = 1 << 20     // tried first where it is not known how large a body becomes
	spareBuffers = 16
	spareBytes   = 128 << 10 // of a large body's memory that are kept for others
	spareParts   = 4 << 10   // nor are those for more usages
	freeParts    = 64        // usages of a request that do not wait for memory
)

// request is what a POST of usages needs, from its header to its answer. Its memory is used
// by the next.
type request struct {
	client  string // who sends it, or empty
	prefer  preferences
	content mediaType
	coding  coding
	key     []byte // Idempotency-Key, or empty

	arriving []byte   // the body as it is sent
	body     []byte   // as it is read
	parts    []part   // of body: the usages that can be stored
	ids      []wal.ID // theirs, where they are given or wanted
	batch    batch
	answer   []byte

	again   bool   // it was answered before, and nothing is stored
	claimed bool   // owes settle
	claim   digest // of its key

	record  wal.Record                   // the one that the log has in hand
	records func(func(*wal.Record) bool) // all of them, for the log

	held   allotment // bytes of body, or of a large answer
	stored int       // bytes, taken from the server's storing
}

// allotment is what a request holds of the budgets for bodies.
type allotment struct{ small, large int }

// begin replaces all that is left of an earlier request, but for the memory of its
// buffers.
func (r *request) begin(h *header, client string) {
	*r = request{
		client: client, prefer: h.prefer, content: h.content, coding: h.coding, key: append(r.key[:0], h.key...),
		arriving: r.arriving[:0], parts: r.parts[:0], ids: r.ids[:0], answer: r.answer[:0],
		batch:   batch{faults: r.batch.faults[:0]},
		records: r.records,
	}
}

// release gives back what the request took. Nothing may refer to its buffers.
func (h *Server) release(r *request) {
	h.give(r.held)
	h.storing.give(r.stored)
	if r.coding != identity {
		h.putBack(r.body)
	}
	if cap(r.arriving) > firstBuffer { // which the next request needs, too
		r.arriving = h.putBack(r.arriving)
	}
	if cap(r.parts) > freeParts {
		h.spareParts.keep(r.parts, spareParts)
		r.parts = nil
	}
	if cap(r.ids) > freeParts {
		h.spareIDs.keep(r.ids, spareParts)
		r.ids = nil
	}
	if cap(r.answer) > freeBytes {
		r.answer = nil
	}
	r.begin(&header{}, "") // so that it keeps nothing of the connection in memory
	h.requests.Put(r)
}

// give takes an allotment back.
func (h *Server) give(a allotment) {
	h.small.give(a.small)
	h.inFlight.give(a.large)
}

// putBack leaves larger buffers to other requests.
func (h *Server) putBack(b []byte) []byte {
	switch {
	case cap(b) == 0:
	case cap(b) <= smallBody:
		h.spareBodies[sizeOf(cap(b))].keep(b, smallBody)
	default:
		h.largeBodies.give(b)
	}
	return nil
}

// grow returns b with room for n bytes, and mostly more.
func (h *Server) grow(b []byte, n int) ([]byte, error) {
	if n > smallBody {
		return h.large(b)
	}
	size := sizeOf(n)
	grown := append(h.spareBodies[size].grow(nil, firstBuffer<<size), b...)
	h.putBack(b)
	return grown, nil
}

// Bodies of up to smallBody are in buffers of firstBuffer, or twice that, and so
// on: one that holds little never has the buffer of one that held more.
const bodySizes = 5

// sizeOf is the number of doublings that make room for n bytes.
func sizeOf(n int) int { return bits.Len(uint(n-1) / firstBuffer) }

// roomFor is what a body of n bytes takes.
func roomFor(n int) int {
	if n > smallBody {
		return n
	}
	return firstBuffer << sizeOf(n)
}

// large returns b with room for any body.
func (h *Server) large(b []byte) ([]byte, error) {
	large, err := h.largeBodies.take()
	if err != nil {
		h.opts.Logger.Error("no memory for a large body: it is refused", "trouble", "body_memory", "error", err)
		return b, errNoMemory
	}
	large = append(large, b...)
	h.putBack(b)
	return large, nil
}

// reserve takes what a body of n bytes needs, as it grows.
func (h *Server) reserve(r *request, n int) bool {
	if more := min(roomFor(n), smallBody) - r.held.mayHold(); more > 0 {
		switch {
		case h.small.take(more):
			r.held.small += more
		case h.inFlight.take(more):
			r.held.large += more
		default:
			return false
		}
	}
	for n > r.held.mayHold() {
		if !h.inFlight.take(bodyStep) {
			return false
		}
		r.held.large += bodyStep
	}
	return true
}

// unreserve gives back what n bytes do not need.
func (h *Server) unreserve(a *allotment, n int) {
	if over := (a.mayHold() - n) / bodyStep * bodyStep; over > 0 && a.large > 0 {
		over = min(over, a.large)
		a.large -= over
		h.inFlight.give(over)
	}
}

// mayHold is how many bytes of a body, or of an answer, it gives a right to.
func (a *allotment) mayHold() int { return freeBytes + a.small + a.large }

var (
	errTooLong  = errors.New("the limit is reached")
	errNoMemory = errors.New("no memory is left for it")
)

// fill reads all of src into dst, no more than most bytes. What dst holds is
// valid even with an error.
func (h *Server) fill(r *request, dst []byte, src io.Reader, most int) ([]byte, error) {
	for {
		if len(dst) == cap(dst) {
			if !h.reserve(r, len(dst)+1) {
				return dst, errNoMemory
			}
			var err error
			if dst, err = h.grow(dst, len(dst)+1); err != nil {
				return dst, err
			}
		}
		room := dst[len(dst):min(cap(dst), r.held.mayHold(), most+1)]
		if len(room) == 0 { // the buffer is larger than what is reserved
			if !h.reserve(r, len(dst)+1) {
				return dst, errNoMemory
			}
			continue
		}
		n, err := src.Read(room)
		dst = dst[:len(dst)+n]
		switch {
		case len(dst) > most:
			return dst, errTooLong
		case errors.Is(err, io.EOF):
			return dst, nil
		case err != nil:
			return dst, err
		}
	}
}

// bodyRoom returns where up to n of the next bytes of a body go, of which there are some.
func (h *Server) bodyRoom(r *request, n int) ([]byte, error) {
	for {
		dst := r.arriving
		room := dst[len(dst):min(cap(dst), r.held.mayHold())]
		if len(room) > 0 {
			return room[:min(n, len(room))], nil
		}
		if !h.reserve(r, len(dst)+1) {
			return nil, errNoMemory
		}
		if len(dst) == cap(dst) {
			var err error
			if r.arriving, err = h.grow(dst, len(dst)+1); err != nil {
				return nil, err
			}
		}
	}
}

// keepBody adds a piece to the body.
func (h *Server) keepBody(r *request, piece []byte) error {
	if len(r.arriving)+len(piece) > h.opts.MaxBody {
		return errTooLong
	}
	for len(piece) > 0 {
		room, err := h.bodyRoom(r, len(piece))
		if err != nil {
			return err
		}
		n := copy(room, piece)
		r.arriving, piece = r.arriving[:len(r.arriving)+n], piece[n:]
	}
	return nil
}

// unreadable answers a body that there is no room for.
func (h *Server) unreadable(err error) *problem {
	if errors.Is(err, errTooLong) {
		return h.bodyTooLarge()
	}
	return noMemory()
}

func noMemory() *problem {
	return unavailable(CodeOverloaded, "too much is arriving at once (http.max_in_flight); nothing was stored")
}

// decode makes the body of what was sent. A slow client holds no decoder: all of it has
// arrived.
func (h *Server) decode(r *request) (p *problem) {
	switch {
	case len(r.arriving) == 0:
		return nil
	case r.coding == identity:
		r.body = r.arriving
		return nil
	}
	h.decoders.enter()
	defer h.decoders.leave()
	// Until it is decoded it is there in both forms, of which only the larger one
	// counts as in flight.
	if size := len(r.arriving); size > smallBody {
		h.decoding.wait(size)
		defer h.decoding.give(size)
	}
	decode := h.decodeZstd
	if r.coding == gzipped {
		decode = h.decodeGzip
	}
	n, err := decode(r)
	switch {
	case err == nil:
		r.arriving = h.putBack(r.arriving) // others need not wait until the answer for that
		return nil
	case errors.Is(err, errTooLong):
		return tooLarge(fmt.Sprintf("a body has at most %d bytes once decoded (http.max_decoded)", h.opts.MaxDecoded))
	case errors.Is(err, errNoMemory):
		return noMemory()
	}
	return &problem{
		code:   CodeBadEncoding,
		detail: fmt.Sprintf("%s at byte %d of the decoded body", explain(err), n),
	}
}

func (h *Server) decodeGzip(r *request) (n int, err error) {
	from := bytes.NewReader(r.arriving)
	d, err := h.decoders.takeGzip(from)
	if err != nil {
		return 0, err
	}
	defer h.decoders.giveGzip(d)
	r.body, err = h.fill(r, r.body, &gzipMembers{member: d, sent: r.arriving, from: from}, h.opts.MaxDecoded)
	return len(r.body), err
}

// decodeZstd decodes into the body, for which there has to be room before. Where
// the frames do not tell, and their blocks need not be full, it tries with less
// room first: the rest might be another's meanwhile.
func (h *Server) decodeZstd(r *request) (n int, err error) {
	bound := zstdBound(r.arriving)
	most := min(bound, h.opts.MaxDecoded+1)
	for room := min(most, max(smallBody, min(64*len(r.arriving), modestBody))); ; room = most {
		if !h.reserve(r, room) {
			return 0, errNoMemory
		}
		if cap(r.body) < room {
			if r.body, err = h.grow(r.body, room); err != nil {
				return 0, err
			}
		}
		decoder, into := h.decoders.tight, r.body[:0:min(cap(r.body), r.held.mayHold())]
		if room == most && cap(r.body) > smallBody {
			decoder, into = h.decoders.zstd, r.body // room for any body, and some
		}
		out, err := decoder.DecodeAll(r.arriving, into)
		if err == nil && len(out) <= h.opts.MaxDecoded {
			r.body = out
			h.unreserve(&r.held, len(out))
			return len(out), nil
		}
		r.body = h.putBack(r.body[:min(room, cap(r.body))]) // all of it may have been written to
		switch {
		case room < most: // there are many errors that come of too little of it
		case err == nil || errors.Is(err, zstd.ErrDecoderSizeExceeded) && bound > h.opts.MaxDecoded:
			return len(out), errTooLong
		default:
			return len(out), err
		}
	}
}
