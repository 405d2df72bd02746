package httpserver

import (
	"bytes"
	"net/http"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/valyala/fasthttp"
)

// idText is what an id takes in an answer: UUID, quotes and comma.
const idText = 36 + 2 + 1

// answer tells the client what was stored.
func (h *Server) answer(ctx *fasthttp.RequestCtx, r *request, prefer preferences) {
	ctx.SetContentType("application/json")
	a := r.answer[:0]
	if r.batch.single {
		a = append(a, `{"id":"`...)
		a = r.ids[0].AppendTo(a)
		a = append(a, `"}`...)
		ctx.SetStatusCode(http.StatusCreated)
		ctx.SetBody(a)
		r.answer = a
		return
	}
	status := http.StatusCreated
	if len(r.batch.faults) > 0 {
		status = http.StatusOK
	}
	if applied := prefer.applied(); applied != "" {
		ctx.Response.Header.Set("Preference-Applied", applied)
	}
	a = append(a, '{')
	a = r.appendCounts(a, len(r.parts), r.batch.values-len(r.parts))
	if prefer.ids {
		a = r.appendIDs(a)
	}
	a = append(a, '}')
	ctx.SetStatusCode(status)
	if len(a) <= freeBytes {
		ctx.SetBody(a)
		r.answer = a
		return
	}
	// The memory is counted as the body's until the client has the answer.
	ctx.SetBodyStream(&heldAnswer{Reader: *bytes.NewReader(a), h: h, small: r.small, reserved: r.reserved}, len(a))
	r.small, r.reserved, r.answer = 0, 0, nil
}

// heldAnswer is a large answer, whose memory counts until it is written.
type heldAnswer struct {
	bytes.Reader
	h               *Server
	small, reserved int
}

func (a *heldAnswer) Close() error {
	a.h.small.give(a.small)
	a.h.inFlight.give(a.reserved)
	a.small, a.reserved = 0, 0
	return nil
}

// appendCounts appends what became of a batch, as members of a JSON object.
func (r *request) appendCounts(dst []byte, accepted, rejected int) []byte {
	dst = append(dst, `"accepted":`...)
	dst = strconv.AppendInt(dst, int64(accepted), 10)
	dst = append(dst, `,"rejected":`...)
	dst = strconv.AppendInt(dst, int64(rejected), 10)
	if len(r.batch.faults) == 0 {
		return dst
	}
	dst = append(dst, `,"errors":[`...)
	for i := range r.batch.faults {
		f := &r.batch.faults[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"index":`...)
		dst = strconv.AppendInt(dst, int64(f.index), 10)
		dst = append(dst, `,"code":"`...)
		dst = append(dst, f.fault.Code...)
		dst = append(dst, `","detail":`...)
		dst, _ = jsontext.AppendQuote(dst, f.fault.Error()) // ASCII of ours
		dst = append(dst, '}')
	}
	dst = append(dst, ']')
	if r.batch.rejected.Total() > maxErrors {
		dst = append(dst, `,"errors_truncated":true`...)
	}
	return dst
}

// appendIDs appends an id for each usage that was sent, null for one that was
// refused.
func (r *request) appendIDs(dst []byte) []byte {
	dst = append(dst, `,"ids":[`...)
	gaps, ids := r.batch.gaps, r.ids
	dst = slices.Grow(dst, idText*r.batch.values)
	for i := range r.batch.values {
		if i > 0 {
			dst = append(dst, ',')
		}
		if len(gaps) > 0 && gaps[0] == i {
			gaps = gaps[1:]
			dst = append(dst, "null"...)
			continue
		}
		dst = append(dst, '"')
		dst = ids[0].AppendTo(dst)
		dst = append(dst, '"')
		ids = ids[1:]
	}
	return append(dst, ']')
}
