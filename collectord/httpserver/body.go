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
	firstBufferBytes  = 4 << 10
	unbudgetedBytes   = firstBufferBytes // bytes of a body that need no budget
	smallBodyBytes    = 64 << 10         // only larger bodies take from MaxInFlight
	smallBodiesBytes  = 2 << 20          // budget that all bodies share, for their bytes from unbudgetedBytes to smallBodyBytes
	budgetStepBytes   = 64 << 10         // bytes taken from MaxInFlight at a time
	firstDecodedBytes = 1 << 20          // first size tried when the decoded size is unknown
	maxSpareBuffers   = 16
	spareMappingBytes = 128 << 10 // bytes of a large body's memory that stay allocated for reuse
	maxSpareRanges    = 4 << 10   // lists of more usages are not kept for reuse
	unbudgetedUsages  = 64        // usages of a request that need not wait for memory
)

// request is the state of a POST of usages, from its header to its answer. The next
// request reuses its memory.
type request struct {
	client  string // the client's name, or empty
	terms   terms
	content mediaType
	coding  coding
	key     []byte // Idempotency-Key, or empty

	rawBody     []byte      // the body as sent
	body        []byte      // the body as decoded
	ranges      []byteRange // ranges in body of the valid usages
	ids         []wal.ID    // ids of the usages in ranges, if derived here or if the client asks for them
	batch       batch
	responseBuf []byte

	repeated bool   // it repeats an answered request, so that nothing is stored
	claimed  bool   // settle must be called
	claimKey digest // digest of client and key

	record  wal.Record                   // the record that was yielded last
	records func(func(*wal.Record) bool) // yields all records to the log

	reserved     reservation // budget for the body or a large answer
	storingBytes int         // bytes taken from Server.storing
}

// reservation is the bytes that a request has taken from the budgets for bodies.
type reservation struct{ small, large int }

// begin replaces the state of the previous request and keeps only the memory of its
// buffers.
func (r *request) begin(h *header, client string) {
	*r = request{
		client: client, terms: terms{prefer: h.prefer}, content: h.content, coding: h.coding, key: append(r.key[:0], h.key...),
		rawBody: r.rawBody[:0], ranges: r.ranges[:0], ids: r.ids[:0], responseBuf: r.responseBuf[:0],
		batch:   batch{faults: r.batch.faults[:0]},
		records: r.records,
	}
}

// release returns a request and its memory for reuse. The caller must not use the request
// or its buffers afterwards.
func (h *Server) release(r *request) {
	h.releaseReservation(r.reserved)
	h.storing.release(r.storingBytes)
	if r.coding != identity {
		h.recycleBuffer(r.body)
	}
	if cap(r.rawBody) > firstBufferBytes { // the first buffer stays for the next request
		r.rawBody = h.recycleBuffer(r.rawBody)
	}
	if cap(r.ranges) > unbudgetedUsages {
		h.spareRanges.put(r.ranges, maxSpareRanges)
		r.ranges = nil
	}
	if cap(r.ids) > unbudgetedUsages {
		h.spareIDs.put(r.ids, maxSpareRanges)
		r.ids = nil
	}
	if cap(r.responseBuf) > unbudgetedBytes {
		r.responseBuf = nil
	}
	r.begin(&header{}, "") // so that the request refers to no memory of the connection
	h.requests.Put(r)
}

// releaseReservation returns a reservation to the budgets.
func (h *Server) releaseReservation(a reservation) {
	h.small.release(a.small)
	h.inFlight.release(a.large)
}

// recycleBuffer keeps a buffer for other requests. It always returns nil.
func (h *Server) recycleBuffer(b []byte) []byte {
	switch {
	case cap(b) == 0:
	case cap(b) <= smallBodyBytes:
		h.spareBodies[sizeClass(cap(b))].put(b, smallBodyBytes)
	default:
		h.largeBodies.put(b)
	}
	return nil
}

// grow returns b with room for n bytes or more.
func (h *Server) grow(b []byte, n int) ([]byte, error) {
	if n > smallBodyBytes {
		return h.growLarge(b)
	}
	size := sizeClass(n)
	grown := append(h.spareBodies[size].grow(nil, firstBufferBytes<<size), b...)
	h.recycleBuffer(b)
	return grown, nil
}

// Bodies of up to smallBodyBytes have buffers of firstBufferBytes, twice that, and so on. A
// separate list for each size keeps a small body from holding a large buffer.
const sizeClasses = 5

// sizeClass returns how often firstBufferBytes is doubled to have room for n bytes.
func sizeClass(n int) int { return bits.Len(uint(n-1) / firstBufferBytes) }

// bufferBytes returns the bytes of memory for a body of n bytes.
func bufferBytes(n int) int {
	if n > smallBodyBytes {
		return n
	}
	return firstBufferBytes << sizeClass(n)
}

// growLarge returns b with room for a body of any size.
func (h *Server) growLarge(b []byte) ([]byte, error) {
	large, err := h.largeBodies.get()
	if err != nil {
		h.opts.Logger.Error("no memory for a large body: it is rejected", "trouble", "body_memory", "error", err)
		return b, errNoMemory
	}
	large = append(large, b...)
	h.recycleBuffer(b)
	return large, nil
}

// reserve takes from the budgets what a body of n bytes needs beyond its reservation. It
// reports false if not enough is left.
func (h *Server) reserve(r *request, n int) bool {
	if more := min(bufferBytes(n), smallBodyBytes) - r.reserved.allowedBytes(); more > 0 {
		switch {
		case h.small.tryReserve(more):
			r.reserved.small += more
		case h.inFlight.tryReserve(more):
			r.reserved.large += more
		default:
			return false
		}
	}
	for n > r.reserved.allowedBytes() {
		if !h.inFlight.tryReserve(budgetStepBytes) {
			return false
		}
		r.reserved.large += budgetStepBytes
	}
	return true
}

// releaseExcess returns the part of a reservation that n bytes do not need, in multiples
// of budgetStepBytes.
func (h *Server) releaseExcess(a *reservation, n int) {
	if excess := (a.allowedBytes() - n) / budgetStepBytes * budgetStepBytes; excess > 0 && a.large > 0 {
		excess = min(excess, a.large)
		a.large -= excess
		h.inFlight.release(excess)
	}
}

// allowedBytes returns how many bytes of a body or answer the reservation allows.
func (a *reservation) allowedBytes() int { return unbudgetedBytes + a.small + a.large }

var (
	errTooLong  = errors.New("the limit is reached")
	errNoMemory = errors.New("no memory is left for the body")
)

// appendFrom appends all of src to dst, up to limit bytes. The returned bytes are valid even
// with an error.
func (h *Server) appendFrom(r *request, dst []byte, src io.Reader, limit int) ([]byte, error) {
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
		space := dst[len(dst):min(cap(dst), r.reserved.allowedBytes(), limit+1)]
		if len(space) == 0 { // the buffer is larger than the reservation
			if !h.reserve(r, len(dst)+1) {
				return dst, errNoMemory
			}
			continue
		}
		n, err := src.Read(space)
		dst = dst[:len(dst)+n]
		switch {
		case len(dst) > limit:
			return dst, errTooLong
		case errors.Is(err, io.EOF):
			return dst, nil
		case err != nil:
			return dst, err
		}
	}
}

// bodySpace returns memory for up to n of the next bytes of a body; n must be above 0.
func (h *Server) bodySpace(r *request, n int) ([]byte, error) {
	for {
		dst := r.rawBody
		space := dst[len(dst):min(cap(dst), r.reserved.allowedBytes())]
		if len(space) > 0 {
			return space[:min(n, len(space))], nil
		}
		if !h.reserve(r, len(dst)+1) {
			return nil, errNoMemory
		}
		if len(dst) == cap(dst) {
			var err error
			if r.rawBody, err = h.grow(dst, len(dst)+1); err != nil {
				return nil, err
			}
		}
	}
}

// appendBody appends a piece to the body.
func (h *Server) appendBody(r *request, piece []byte) error {
	if len(r.rawBody)+len(piece) > h.opts.MaxBody {
		return errTooLong
	}
	for len(piece) > 0 {
		space, err := h.bodySpace(r, len(piece))
		if err != nil {
			return err
		}
		n := copy(space, piece)
		r.rawBody, piece = r.rawBody[:len(r.rawBody)+n], piece[n:]
	}
	return nil
}

// bodyProblem returns the problem for a body that is too large or has no memory.
func (h *Server) bodyProblem(err error) *problem {
	if errors.Is(err, errTooLong) {
		return h.bodyTooLarge()
	}
	return noMemoryProblem()
}

func noMemoryProblem() *problem {
	return unavailable(CodeOverloaded, "too many bytes are arriving at once (http.max_in_flight); nothing was stored")
}

// decode decodes the body. It is called after the whole body has arrived, so that a slow
// client occupies no decoder.
func (h *Server) decode(r *request) (p *problem) {
	switch {
	case len(r.rawBody) == 0:
		return nil
	case r.coding == identity:
		r.body = r.rawBody
		return nil
	}
	h.decoders.acquire()
	defer h.decoders.release()
	// While it is decoded, a body is in memory in both forms. The decoded form counts as
	// in flight; the form as sent takes from the budget decoding.
	if size := len(r.rawBody); size > smallBodyBytes {
		h.decoding.reserve(size)
		defer h.decoding.release(size)
	}
	decode := h.decodeZstd
	if r.coding == gzipped {
		decode = h.decodeGzip
	}
	n, err := decode(r)
	switch {
	case err == nil:
		r.rawBody = h.recycleBuffer(r.rawBody) // other requests can use it before the answer
		return nil
	case errors.Is(err, errTooLong):
		return tooLarge(fmt.Sprintf("a body has at most %d bytes once decoded (http.max_decoded)", h.opts.MaxDecoded))
	case errors.Is(err, errNoMemory):
		return noMemoryProblem()
	}
	return &problem{
		code:   CodeBadEncoding,
		detail: fmt.Sprintf("%s at byte %d of the decoded body", explain(err), n),
	}
}

func (h *Server) decodeGzip(r *request) (n int, err error) {
	from := bytes.NewReader(r.rawBody)
	d, err := h.decoders.getGzip(from)
	if err != nil {
		return 0, err
	}
	defer h.decoders.putGzip(d)
	r.body, err = h.appendFrom(r, r.body, &gzipMembers{member: d, sent: r.rawBody, from: from}, h.opts.MaxDecoded)
	return len(r.body), err
}

// decodeZstd decodes into the body, and allocates its memory first. If the frames do not
// contain the decoded size, it tries a size below the max first, and leaves the rest to
// other requests.
func (h *Server) decodeZstd(r *request) (n int, err error) {
	bound := zstdSizeBound(r.rawBody)
	limit := min(bound, h.opts.MaxDecoded+1)
	for size := min(limit, max(smallBodyBytes, min(64*len(r.rawBody), firstDecodedBytes))); ; size = limit {
		if !h.reserve(r, size) {
			return 0, errNoMemory
		}
		if cap(r.body) < size {
			if r.body, err = h.grow(r.body, size); err != nil {
				return 0, err
			}
		}
		decoder, into := h.decoders.capLimited, r.body[:0:min(cap(r.body), r.reserved.allowedBytes())]
		if size == limit && cap(r.body) > smallBodyBytes {
			decoder, into = h.decoders.zstd, r.body // room for any body, and zstdSlack
		}
		out, err := decoder.DecodeAll(r.rawBody, into)
		if err == nil && len(out) <= h.opts.MaxDecoded {
			r.body = out
			h.releaseExcess(&r.reserved, len(out))
			return len(out), nil
		}
		r.body = h.recycleBuffer(r.body[:min(size, cap(r.body))]) // the decoder may have written to all of it
		switch {
		case size < limit: // a lack of room causes many different errors
		case err == nil || errors.Is(err, zstd.ErrDecoderSizeExceeded) && bound > h.opts.MaxDecoded:
			return len(out), errTooLong
		default:
			return len(out), err
		}
	}
}
