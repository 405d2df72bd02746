package httpserver

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/valyala/fasthttp"

	"collectord/wal"
)

// ReasonStrict counts usages that are valid but came with others that are not,
// and with Prefer: handling=strict.
const ReasonStrict = "strict"

// usages answers a POST. What it refuses it reports to the ledger.
func (h *Server) usages(ctx *fasthttp.RequestCtx, asked header) *problem {
	r := h.requests.Get().(*request) //nolint:forcetypeassert // the pool holds nothing else
	defer h.release(r)
	r.begin(asked)
	p := h.checkHeader(ctx, &r.header)
	if p != nil {
		p.close = true // the body stays unread
	} else {
		p = h.readBody(ctx, r)
	}
	if p != nil {
		h.log.Reject(wal.HTTP, p.code, 1)
		return p
	}
	if len(r.header.key) == 0 {
		return h.store(ctx, r, nil, false)
	}
	return h.storeOnce(ctx, r)
}

// storeOnce stores the usages of a request with an Idempotency-Key, unless it
// has been answered before.
func (h *Server) storeOnce(ctx *fasthttp.RequestCtx, r *request) *problem {
	key := shorten(hashParts([]byte(r.header.client), r.header.key)) // each client has keys of its own
	kind := []byte("json")
	if r.header.content == linesContent {
		kind = []byte("lines")
	}
	claim, prefer := h.window.claim(key, shorten(hashParts(kind, r.body)), r.header.prefer)
	r.header.prefer = prefer
	ids := newIDDeriver(r.header.client, r.header.key)
	switch claim {
	case claimed:
		p := h.store(ctx, r, ids, false)
		h.window.settle(key, p == nil)
		return p
	case repeated:
		return h.store(ctx, r, ids, true)
	}
	p := &problem{
		status: http.StatusUnprocessableEntity, code: CodeMismatch,
		detail: "the Idempotency-Key came with another body before; nothing was stored",
	}
	if claim == underWay {
		p = &problem{
			status: http.StatusConflict, code: CodeInProgress, header: retryAfter(),
			detail: "the first request with this Idempotency-Key has no answer yet",
		}
	}
	h.log.Reject(wal.HTTP, p.code, 1)
	return p
}

func shorten(sum [32]byte) (d digest) {
	copy(d[:], sum[:])
	return d
}

// store stores what is in the body and answers. Of a repeated request it stores
// nothing and answers as before.
func (h *Server) store(ctx *fasthttp.RequestCtx, r *request, ids *idDeriver, again bool) *problem {
	if p := h.split(r, ids); p != nil {
		h.log.Reject(wal.HTTP, p.code, 1)
		return p
	}
	for _, c := range r.batch.rejected {
		h.log.Reject(wal.HTTP, c.Code, c.N)
	}
	if len(r.parts) == 0 || len(r.batch.faults) > 0 && r.header.prefer.strict {
		h.log.Reject(wal.HTTP, ReasonStrict, len(r.parts))
		return r.unstorable()
	}
	if r.header.prefer.ids && !r.batch.single && !h.reserve(r, idText*r.batch.values) {
		h.log.Reject(wal.HTTP, CodeOverloaded, len(r.parts))
		return noMemory()
	}
	if again { // which costs nothing
		h.log.Repeat(wal.HTTP, len(r.parts))
		ctx.Response.Header.Set("Idempotency-Replayed", "true")
	} else if p := h.admit(r.header.client, len(r.parts), time.Now()); p != nil {
		h.log.Reject(wal.HTTP, p.code, len(r.parts))
		return p
	} else if !keep(ctx) {
		h.log.Reject(wal.HTTP, CodeOverloaded, len(r.parts))
		return noRoom()
	} else if err := h.log.AppendSeq(context.Background(), r.records); err != nil {
		return h.appendProblem(err, len(r.parts))
	}
	know(ctx)
	h.answer(ctx, r, r.header.prefer)
	return nil
}

// appendProblem translates an error of the log. The log has counted the usages
// unless it is of a kind that should not happen.
func (h *Server) appendProblem(err error, n int) *problem {
	if p := logProblem(err); p != nil {
		return p
	}
	h.opts.Logger.Error("the log refused usages that were checked", "error", err)
	h.log.Reject(wal.HTTP, CodeInternal, n)
	return &problem{status: http.StatusInternalServerError, code: CodeInternal, detail: "nothing was stored"}
}

// logProblem is why the log takes nothing.
func logProblem(err error) *problem {
	switch {
	case errors.Is(err, wal.ErrClosed):
		return unavailable(CodeShuttingDown, "this collector is shutting down; nothing was stored")
	case errors.Is(err, wal.ErrCommitFailed):
		return unavailable(CodeCommitFailed, "the disk failed; what was sent may be stored: repeat it with the same Idempotency-Key")
	case errors.Is(err, wal.ErrFull), errors.Is(err, wal.ErrUnavailable):
		return unavailable(CodeLogFull, "the log can't take more at the moment; nothing was stored")
	}
	return nil
}

func wrongMethod() *problem {
	return &problem{status: http.StatusMethodNotAllowed, code: CodeMethod, detail: "usages are posted", header: [2]string{"Allow", "POST"}}
}
