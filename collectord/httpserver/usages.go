package httpserver

import (
	"errors"
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"collectord/collectord/http1"
	"collectord/wal"
)

// ReasonStrict is the reason under which valid usages are counted as rejected, because
// others of their request are invalid and it has Prefer: handling=strict.
const ReasonStrict = "strict"

// makeRecords makes records of the body, or returns why nothing is stored. It reports all
// rejected usages to the ledger. A repeated request with a known Idempotency-Key stores
// nothing.
func (h *Server) makeRecords(c *conn, r *request) *problem {
	ids, p := h.claimKey(r)
	if p == nil {
		p = h.split(r, ids)
	}
	if p != nil {
		h.log.Reject(wal.HTTP, p.code, 1)
		return p
	}
	for _, c := range r.batch.rejectedCounts {
		h.log.Reject(wal.HTTP, c.Code, c.N)
	}
	if size := r.maxResponseBytes(); size > unbudgetedBytes && !h.reserve(r, len(r.body)+size) { // the body and the answer are in memory at the same time
		h.log.Reject(wal.HTTP, CodeOverloaded, len(r.ranges))
		return noMemoryProblem()
	}
	if len(r.ranges) == 0 || len(r.batch.faults) > 0 && r.prefer.strict {
		h.log.Reject(wal.HTTP, ReasonStrict, len(r.ranges))
		return r.nothingStoredProblem()
	}
	if r.repeated { // a repeated request costs nothing of the rate
		h.log.Repeat(wal.HTTP, len(r.ranges))
		return nil
	}
	if p = h.admit(r.client, len(r.ranges), c.now()); p == nil && !c.protect() {
		p = tooManyConnectionsProblem()
	}
	if p != nil {
		h.log.Reject(wal.HTTP, p.code, len(r.ranges))
	}
	return p
}

// claimKey looks up the request's Idempotency-Key and returns the idDeriver of the request.
// Without a key, both results are nil.
func (h *Server) claimKey(r *request) (*idDeriver, *problem) {
	if len(r.key) == 0 {
		return nil, nil
	}
	key := toDigest(hashParts([]byte(r.client), r.key)) // each client has its own keys
	kind := []byte("json")
	if r.content == linesContent {
		kind = []byte("lines")
	}
	claim, prefer := h.window.claim(key, toDigest(hashParts(kind, r.body)), r.prefer)
	r.prefer = prefer
	switch claim {
	case claimNew:
		r.claimKey, r.claimed = key, true
	case claimRepeated:
		r.repeated = true
	case claimUnderWay:
		return nil, &problem{
			code: CodeInProgress, extraField: retryAfter(),
			detail: "the first request with this Idempotency-Key has no answer yet",
		}
	default:
		return nil, &problem{
			code:   CodeMismatch,
			detail: "an earlier request had the same Idempotency-Key and another body; nothing was stored",
		}
	}
	return newIDDeriver(r.client, r.key), nil
}

// settle ends the claim of a request, if it has one.
func (r *request) settle(w *window, stored bool) {
	if r.claimed {
		r.claimed = false
		w.settle(r.claimKey, stored)
	}
}

func toDigest(sum [32]byte) (d digest) {
	copy(d[:], sum[:])
	return d
}

// appendProblem translates an error of the log, which has already counted the usages.
func (h *Server) appendProblem(err error) *problem {
	if p := logProblem(err); p != nil {
		return p
	}
	h.opts.Logger.Error("the log rejected usages that were checked: a fault of collectord (please report it)", "trouble", "internal", "error", err)
	return &problem{code: CodeInternal, detail: "nothing was stored"}
}

// logProblem returns the problem for a known error of the log, or nil for others.
func logProblem(err error) *problem {
	switch {
	case errors.Is(err, wal.ErrClosed):
		return unavailable(CodeShuttingDown, "this collector is shutting down; nothing was stored")
	case errors.Is(err, wal.ErrCommitFailed):
		return unavailable(CodeCommitFailed, "the disk failed; the usages may be stored: repeat the request with the same Idempotency-Key")
	case errors.Is(err, wal.ErrFull), errors.Is(err, wal.ErrUnavailable):
		return unavailable(CodeLogFull, "the log is full, or its disk fails; nothing was stored")
	}
	return nil
}

// admit takes n usages from the rate of the client's token and from the overall rate. The
// caller counts the rejected usages.
func (h *Server) admit(token string, n int, now time.Time) *problem {
	ok, wait := h.rates.Take(token, n, now)
	if ok {
		return nil
	}
	return &problem{
		code:       CodeRateLimited,
		detail:     "more usages a second than http.rate or the token allows; nothing was stored",
		extraField: http1.Field{Name: "Retry-After", Value: retrySeconds(wait)},
	}
}

// retrySeconds returns wait in whole seconds, plus up to half as much at random, so that
// rejected clients do not retry at the same time.
func retrySeconds(wait time.Duration) string {
	seconds := int(math.Ceil(wait.Seconds()))
	return strconv.Itoa(max(1, seconds) + rand.IntN(seconds/2+2))
}
