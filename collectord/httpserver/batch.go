package httpserver

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"collectord/collectord/http1"
	"collectord/collectord/usage"
	"collectord/wal"
)

// maxErrors is how many rejected usages an answer lists.
const maxErrors = 100

// ReasonStrict is the reason under which valid usages are counted as rejected, because
// others of their request are invalid and it has Prefer: handling=strict.
const ReasonStrict = "strict"

// batch is the result of splitting one request into usages, without their records.
type batch struct {
	single         bool // the body is one object, and the answer is its id
	derivedIDs     bool // the ids are derived from the Idempotency-Key, not made by the log
	valueCount     int  // usages in the request, valid or not
	faults         []rejectedUsage
	rejectedCounts usage.Counts
	rejectedSet    bitSet // which values were rejected, if the client asks for the ids
}

// rejectedUsage is a usage that fails a check.
type rejectedUsage struct {
	index int
	fault usage.Error
}

func (b *batch) reject(v *usage.Value) {
	if len(b.faults) < maxErrors {
		b.faults = append(b.faults, rejectedUsage{v.Index, v.Fault})
	}
	if b.rejectedSet != nil {
		b.rejectedSet.add(b.valueCount)
	}
	b.valueCount++
	b.rejectedCounts.Add(v.Fault.Code)
}

// makeRecords makes records of the body, or returns why nothing is stored. It reports all
// rejected usages to the ledger. A repeated request with a known Idempotency-Key stores
// nothing.
func (h *Server) makeRecords(c *conn, r *request) *problem {
	r.terms.maxRecord = uint32(h.limits.Load().MaxRecord)
	ids, p := h.claimKey(r)
	if p == nil {
		p = h.split(r, ids)
	}
	if p != nil {
		h.log.Reject(wal.HTTP, p.code, 1)
		return p
	}
	for _, rejected := range r.batch.rejectedCounts {
		h.log.Reject(wal.HTTP, rejected.Code, rejected.N)
	}
	if size := r.maxResponseBytes(); size > unbudgetedBytes && !h.reserve(r, len(r.body)+size) { // the body and the answer are in memory at the same time
		h.log.Reject(wal.HTTP, CodeOverloaded, len(r.ranges))
		return noMemoryProblem()
	}
	if len(r.ranges) == 0 || len(r.batch.faults) > 0 && r.terms.prefer.strict {
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

// split finds and checks the usages in the body. If it returns a problem, no usage is
// stored and the request counts as one rejected usage.
func (h *Server) split(r *request, ids *idDeriver) *problem {
	form, p := formOf(r.content, r.body)
	if p != nil {
		return p
	}
	r.batch.single, r.batch.derivedIDs = form == usage.Object, ids != nil
	if !r.batch.single {
		n := min(bytes.Count(r.body, []byte("{")), h.opts.MaxRecords)
		h.allocateUsages(r, n, ids != nil)
	}
	s := h.splitters.get(len(r.body))
	defer h.splitters.put(s, len(r.body))
	s.Reset(r.body, form, usage.Limits{MaxUsageBytes: int(r.terms.maxRecord), MaxUsages: h.opts.MaxRecords})
	for s.Next() {
		v := &s.Value
		if v.Fault.Code != "" {
			if r.terms.prefer.ids && r.batch.rejectedSet == nil {
				r.batch.rejectedSet = make(bitSet, bitSetBytes(h.maxValues(r.body)))
			}
			r.batch.reject(v)
			continue
		}
		r.batch.valueCount++
		r.ranges = append(r.ranges, byteRange{uint32(v.Start), uint32(v.Start + len(v.Usage))})
		if ids != nil {
			r.ids = append(r.ids, ids.id(v.Index, v.Usage))
		}
	}
	if fault := s.Err(); fault != nil {
		return usageProblem(fault)
	}
	return nil
}

// formOf returns the form of the usages in a body, from its Content-Type and its first
// bytes.
func formOf(c mediaType, body []byte) (usage.Form, *problem) {
	form := usage.FormOf(body)
	switch {
	case c == linesContent:
		return usage.Lines, nil
	case c == objectContent && form == usage.Array:
		return form, unsupportedType("this Content-Type is for one JSON object: send an array as application/json")
	case c == arrayContent && form != usage.Array:
		return form, unsupportedType("this Content-Type is for a JSON array: send one object as application/json or application/cloudevents+json")
	}
	return form, nil
}

// nothingStoredProblem returns the problem for a batch that is not stored: all of its
// usages are rejected, or some are and the client asks for all or nothing.
func (r *request) nothingStoredProblem() *problem {
	first := &r.batch.faults[0].fault
	p := usageProblem(first)
	p.detail = fmt.Sprintf("%d of %d usages can't be stored, so nothing was stored; the first fault: %s", r.batch.rejectedCounts.Total(), r.batch.valueCount, p.detail)
	p.extraMembers = r.appendCounts(nil, 0, r.batch.valueCount)
	if r.terms.prefer.strict {
		p.extraField = http1.Field{Name: "Preference-Applied", Value: "handling=strict"}
	}
	return p
}

// usageProblem returns the problem for a fault in a usage or in the whole body.
func usageProblem(e *usage.Error) *problem {
	return &problem{code: e.Code, detail: e.Error()}
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
	claim, first := h.window.claim(key, toDigest(hashParts(kind, r.body)), r.terms)
	r.terms = first
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

// byteRange is the range of a usage in the body. It takes a tenth of the memory of a
// wal.Record.
type byteRange struct{ from, to uint32 }

// perRecordOverhead is the memory that a stored usage takes in addition to its bytes: a
// byteRange, an id, and the header that the log adds to its copy.
const perRecordOverhead = 8 + 16 + 30

// maxStoringBytes returns the max bytes that are being stored at a time: enough for one
// of the largest requests, or for many smaller ones.
func (o *Options) maxStoringBytes() int {
	return max(o.MaxBody, o.MaxDecoded) + o.MaxRecords*perRecordOverhead + bitSetBytes(o.MaxRecords)
}

// allocateUsages allocates the ranges and ids for n usages of a request. It first waits for
// memory for the log's copy. No client can prolong that wait, since the requests that use
// this memory have arrived completely.
func (h *Server) allocateUsages(r *request, n int, derivedIDs bool) {
	if n > unbudgetedUsages || len(r.body) > unbudgetedBytes {
		r.storingBytes = len(r.body) + n*(perRecordOverhead+len(r.client))
		if cap(r.body) <= smallBodyBytes {
			r.storingBytes += len(r.body) // the body and the log's copy exist at the same time
		}
		if r.terms.prefer.ids {
			r.storingBytes += bitSetBytes(h.maxValues(r.body))
		}
		r.storingBytes = min(r.storingBytes, h.opts.maxStoringBytes())
		h.storing.reserve(r.storingBytes)
	}
	r.ranges = h.spareRanges.grow(r.ranges, n)
	if derivedIDs || r.terms.prefer.ids {
		r.ids = h.spareIDs.grow(r.ids, n)
	}
}

// freePagesEveryBytes is how many bytes of a large body are copied before their pages are
// freed.
const freePagesEveryBytes = 1 << 20

// eachRecord yields the usages of a request as records, and stores the ids that the log
// sets if the answer needs them. It frees the pages of a large body once the log has
// copied them, so that the body is not in memory twice.
func (h *Server) eachRecord(r *request, yield func(*wal.Record) bool) {
	freed := 0
	needsIDs := !r.batch.derivedIDs && (r.batch.single || r.terms.prefer.ids)
	for i, p := range r.ranges {
		r.record = wal.Record{Usage: r.body[p.from:p.to:p.to], Source: wal.HTTP, Client: r.client}
		if r.batch.derivedIDs {
			r.record.ID = r.ids[i]
		}
		if !yield(&r.record) {
			return
		}
		if r.record.ReceivedAt == 0 {
			continue // the log is only measuring the records
		}
		if needsIDs {
			r.ids = append(r.ids, r.record.ID)
		}
		if int(p.to)-freed >= freePagesEveryBytes {
			freed = h.largeBodies.freePagesUpTo(r.body, freed, int(p.to))
		}
	}
}

// maxValues returns the max number of values in a body. A byte separates any two values,
// and a request has at most MaxRecords.
func (h *Server) maxValues(body []byte) int { return min((len(body)+1)/2, h.opts.MaxRecords) }

// bitSet is a set of indexes of values. A nil bitSet is empty.
type bitSet []byte

// bitSetBytes returns the size in bytes of a bitSet for n values.
func bitSetBytes(n int) int { return (n + 7) / 8 }

func (s bitSet) add(i int)      { s[i/8] |= 1 << (i % 8) }
func (s bitSet) has(i int) bool { return s != nil && s[i/8]>>(i%8)&1 == 1 }
