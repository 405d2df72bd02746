package httpserver

import (
	"bytes"
	"fmt"

	"collectord/collectord/http1"
	"collectord/collectord/usage"
	"collectord/wal"
)

// maxErrors is how many rejected usages an answer lists.
const maxErrors = 100

// batch is the result of splitting one request into usages, without their records.
type batch struct {
	single   bool // the body is one object, and the answer is its id
	given    bool // the ids are derived from the Idempotency-Key, not made by the log
	values   int  // usages in the request, valid or not
	faults   []rejected
	rejected usage.Counts
	gaps     gaps // which values were rejected, if the client asks for the ids
}

// gaps is a bit set of the rejected values of a body; nil means that none was rejected.
type gaps []byte

// gapBytes returns the size of the gaps of n values, in bytes.
func gapBytes(n int) int { return (n + 7) / 8 }

func (g gaps) add(i int)      { g[i/8] |= 1 << (i % 8) }
func (g gaps) has(i int) bool { return g != nil && g[i/8]>>(i%8)&1 == 1 }

// maxValues returns the max number of values in a body. A byte separates any two values,
// and a request has at most MaxRecords.
func (h *Server) maxValues(body []byte) int { return min((len(body)+1)/2, h.opts.MaxRecords) }

// rejected is a usage that fails a check.
type rejected struct {
	index int
	fault usage.Error
}

func (b *batch) reject(v *usage.Value) {
	if len(b.faults) < maxErrors {
		b.faults = append(b.faults, rejected{v.Index, v.Fault})
	}
	if b.gaps != nil {
		b.gaps.add(b.values)
	}
	b.values++
	b.rejected.Add(v.Fault.Code)
}

// split finds and checks the usages in the body. If it returns a problem, none is stored
// and the request counts as one rejected usage.
func (h *Server) split(r *request, ids *idDeriver) *problem {
	form, p := formOf(r.content, r.body)
	if p != nil {
		return p
	}
	r.batch.single, r.batch.given = form == usage.Object, ids != nil
	if !r.batch.single {
		n := min(bytes.Count(r.body, []byte("{")), h.opts.MaxRecords)
		h.makeRoom(r, n, ids != nil)
	}
	s := h.splitters.take(len(r.body))
	defer h.splitters.give(s, len(r.body))
	s.Reset(r.body, form, usage.Limits{MaxUsageBytes: h.limits.Load().MaxRecord, MaxUsages: h.opts.MaxRecords})
	for s.Next() {
		v := &s.Value
		if v.Fault.Code != "" {
			if r.prefer.ids && r.batch.gaps == nil {
				r.batch.gaps = make(gaps, gapBytes(h.maxValues(r.body)))
			}
			r.batch.reject(v)
			continue
		}
		r.batch.values++
		r.parts = append(r.parts, part{uint32(v.Start), uint32(v.Start + len(v.Usage))})
		if ids != nil {
			r.ids = append(r.ids, ids.id(v.Index, v.Usage))
		}
	}
	if fault := s.Err(); fault != nil {
		return badUsage(fault)
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

// unstorable returns the problem for a batch of which nothing is stored: all its usages
// are rejected, or one is and the client asks for all or nothing.
func (r *request) unstorable() *problem {
	first := &r.batch.faults[0].fault
	p := badUsage(first)
	p.detail = fmt.Sprintf("%d of %d usages can't be stored, so none was; the first: %s", r.batch.rejected.Total(), r.batch.values, p.detail)
	p.members = r.appendCounts(nil, 0, r.batch.values)
	if r.prefer.strict {
		p.header = http1.Field{Name: "Preference-Applied", Value: "handling=strict"}
	}
	return p
}

// badUsage returns the problem for a fault in a usage or in the whole body.
func badUsage(e *usage.Error) *problem {
	return &problem{code: e.Code, detail: e.Error()}
}

// part is the range of a usage in the body. It takes a tenth of the memory of a
// wal.Record.
type part struct{ from, to uint32 }

// perRecordOverhead is the memory that a stored usage takes beside its bytes: a part, an
// id, and the header that the log adds to its copy.
const perRecordOverhead = 8 + 16 + 30

// maxStored returns the max bytes that are being stored at a time. They suffice for one
// of the largest requests, or many smaller ones.
func (o *Options) maxStored() int {
	return max(o.MaxBody, o.MaxDecoded) + o.MaxRecords*perRecordOverhead + gapBytes(o.MaxRecords)
}

// makeRoom allocates the parts and ids for n usages of a request. It first waits for
// memory for the log's copy; the wait depends on no client, since requests that hold this
// memory have arrived.
func (h *Server) makeRoom(r *request, n int, given bool) {
	if n > freeParts || len(r.body) > freeBytes {
		r.stored = len(r.body) + n*(perRecordOverhead+len(r.client))
		if cap(r.body) <= smallBody {
			r.stored += len(r.body) // the log's copy exists beside the body
		}
		if r.prefer.ids {
			r.stored += gapBytes(h.maxValues(r.body))
		}
		r.stored = min(r.stored, h.opts.maxStored())
		h.storing.wait(r.stored)
	}
	r.parts = h.spareParts.grow(r.parts, n)
	if given || r.prefer.ids {
		r.ids = h.spareIDs.grow(r.ids, n)
	}
}

// forgetAfter is how many bytes of a large body are copied before their pages are freed.
const forgetAfter = 1 << 20

// eachRecord yields the usages of a request as records, and stores the ids that the log
// sets if the answer needs them. It frees the pages of a large body once the log has
// copied them, so that the body is not in memory twice.
func (h *Server) eachRecord(r *request, yield func(*wal.Record) bool) {
	forgotten := 0
	wanted := !r.batch.given && (r.batch.single || r.prefer.ids)
	for i, p := range r.parts {
		r.record = wal.Record{Usage: r.body[p.from:p.to:p.to], Source: wal.HTTP, Client: r.client}
		if r.batch.given {
			r.record.ID = r.ids[i]
		}
		if !yield(&r.record) {
			return
		}
		if r.record.ReceivedAt == 0 {
			continue // the log is only measuring the records
		}
		if wanted {
			r.ids = append(r.ids, r.record.ID)
		}
		if int(p.to)-forgotten >= forgetAfter {
			forgotten = h.largeBodies.forgetUpTo(r.body, forgotten, int(p.to))
		}
	}
}
