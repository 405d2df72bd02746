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

// Sizes of the memory for a request's body and usages.
const (
	firstBuffer  = 4 << 10
	freeBytes    = firstBuffer // bytes of a body that need no budget
	smallBody    = 64 << 10    // only larger bodies take from MaxInFlight
	smallBodies  = 2 << 20     // budget that all bodies share, for their bytes from freeBytes to smallBody
	bodyStep     = 64 << 10    // bytes taken from MaxInFlight at a time
	modestBody   = 1 << 20     // first size tried when the decoded size is unknown
	spareBuffers = 16
	spareBytes   = 128 << 10 // bytes of a large body's memory that stay allocated for reuse
	spareParts   = 4 << 10   // lists of more usages are not kept for reuse
	freeParts    = 64        // usages of a request that need not wait for memory
)

// request is the state of a POST of usages, from its header to its answer. The next
// request reuses its memory.
type request struct {
	client  string // the client's name, or empty
	prefer  preferences
	content mediaType
	coding  coding
	key     []byte // Idempotency-Key, or empty

	arriving []byte   // the body as sent
	body     []byte   // the body as decoded
	parts    []part   // ranges in body of the valid usages
	ids      []wal.ID // ids of the usages in parts, if derived here or asked for
	batch    batch
	answer   []byte

	again   bool   // it repeats an answered request, so that nothing is stored
	claimed bool   // settle must be called
	claim   digest // digest of client and key

	record  wal.Record                   // the record that was yielded last
	records func(func(*wal.Record) bool) // yields all records to the log

	held   allotment // budget for the body or a large answer
	stored int       // bytes taken from Server.storing
}

// allotment is the bytes that a request has taken from the budgets for bodies.
type allotment struct{ small, large int }

// begin replaces the state of the previous request and keeps only the memory of its
// buffers.
func (r *request) begin(h *header, client string) {
	*r = request{
		client: client, prefer: h.prefer, content: h.content, coding: h.coding, key: append(r.key[:0], h.key...),
		arriving: r.arriving[:0], parts: r.parts[:0], ids: r.ids[:0], answer: r.answer[:0],
		batch:   batch{faults: r.batch.faults[:0]},
		records: r.records,
	}
}

// release returns a request and its memory for reuse. The caller must not use the request
// or its buffers afterwards.
func (h *Server) release(r *request) {
	h.give(r.held)
	h.storing.give(r.stored)
	if r.coding != identity {
		h.putBack(r.body)
	}
	if cap(r.arriving) > firstBuffer { // the first buffer stays for the next request
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
	r.begin(&header{}, "") // so that the request refers to no memory of the connection
	h.requests.Put(r)
}

// give returns an allotment to the budgets.
func (h *Server) give(a allotment) {
	h.small.give(a.small)
	h.inFlight.give(a.large)
}

// putBack keeps a buffer for other requests. It always returns nil.
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

// grow returns b with room for n bytes or more.
func (h *Server) grow(b []byte, n int) ([]byte, error) {
	if n > smallBody {
		return h.large(b)
	}
	size := sizeOf(n)
	grown := append(h.spareBodies[size].grow(nil, firstBuffer<<size), b...)
	h.putBack(b)
	return grown, nil
}

// Bodies of up to smallBody have buffers of firstBuffer, twice that, and so on. A
// separate list for each size keeps a small body from holding a large buffer.
const bodySizes = 5

// sizeOf returns how often firstBuffer is doubled to have room for n bytes.
func sizeOf(n int) int { return bits.Len(uint(n-1) / firstBuffer) }

// roomFor returns the bytes of memory for a body of n bytes.
func roomFor(n int) int {
	if n > smallBody {
		return n
	}
	return firstBuffer << sizeOf(n)
}

// large returns b with room for a body of any size.
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

// reserve takes from the budgets what a body of n bytes needs beyond its allotment. It
// reports false if not enough is left.
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

// unreserve returns what n bytes do not need, in multiples of bodyStep.
func (h *Server) unreserve(a *allotment, n int) {
	if over := (a.mayHold() - n) / bodyStep * bodyStep; over > 0 && a.large > 0 {
		over = min(over, a.large)
		a.large -= over
		h.inFlight.give(over)
	}
}

// mayHold returns how many bytes of a body or answer the allotment allows.
func (a *allotment) mayHold() int { return freeBytes + a.small + a.large }

var (
	errTooLong  = errors.New("the limit is reached")
	errNoMemory = errors.New("no memory is left for it")
)

// fill appends all of src to dst, up to most bytes. The returned bytes are valid even
// with an error.
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
		if len(room) == 0 { // the buffer is larger than the allotment
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

// bodyRoom returns memory for up to n of the next bytes of a body; n must be above 0.
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

// keepBody appends a piece to the body.
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

// unreadable returns the problem for a body that is too large or has no memory.
func (h *Server) unreadable(err error) *problem {
	if errors.Is(err, errTooLong) {
		return h.bodyTooLarge()
	}
	return noMemory()
}

func noMemory() *problem {
	return unavailable(CodeOverloaded, "too much is arriving at once (http.max_in_flight); nothing was stored")
}

// decode decodes the body. The body has arrived as a whole, so that a slow client
// occupies no decoder.
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
	// While it is decoded, a body is in memory in both forms. Only the decoded form
	// counts as in flight; decoding bounds the form as sent.
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
		r.arriving = h.putBack(r.arriving) // other requests can use it before the answer
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

// decodeZstd decodes into the body, whose memory is allocated before. If the frames do
// not contain the decoded size, it tries a smaller size first, because other requests
// could use the rest of the max meanwhile.
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
			decoder, into = h.decoders.zstd, r.body // room for any body, and zstdSlack
		}
		out, err := decoder.DecodeAll(r.arriving, into)
		if err == nil && len(out) <= h.opts.MaxDecoded {
			r.body = out
			h.unreserve(&r.held, len(out))
			return len(out), nil
		}
		r.body = h.putBack(r.body[:min(room, cap(r.body))]) // the decoder may have written to all of it
		switch {
		case room < most: // a lack of room causes many different errors
		case err == nil || errors.Is(err, zstd.ErrDecoderSizeExceeded) && bound > h.opts.MaxDecoded:
			return len(out), errTooLong
		default:
			return len(out), err
		}
	}
}
