package httpserver

import (
	"bytes"
	"fmt"

	"collectord/collectord/http1"
	"collectord/collectord/usage"
	"collectord/wal"
)

// maxErrors is how many rejected usages an answer names.
const maxErrors = 100

// batch is what became of the usages of one request, beside its records.
type batch struct {
	single   bool // one object, answered by its id
	given    bool // the ids do not come from the log
	values   int  // usages that were sent, good or bad
	faults   []rejected
	rejected usage.Counts
	gaps     gaps // which of the values were rejected, if the ids are asked for
}

// gaps are a bit for each value of a body, 1 for one that was rejected; nil: none was.
type gaps []byte

// gapBytes is what they take for n values.
func gapBytes(n int) int { return (n + 7) / 8 }

func (g gaps) add(i int)      { g[i/8] |= 1 << (i % 8) }
func (g gaps) has(i int) bool { return g != nil && g[i/8]>>(i%8)&1 == 1 }

// maxValues is how many values a body can hold: no two lie side by side.
func (h *Server) maxValues(body []byte) int { return min((len(body)+1)/2, h.opts.MaxRecords) }

// rejected is a usage that can't be stored.
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

// split finds the usages in the body and checks them. A problem means that none
// is taken, and that what came counts as one.
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
	s.Reset(r.body, form, usage.Limits{Record: h.limits.Load().MaxRecord, Records: h.opts.MaxRecords})
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

// formOf returns how usages lie in a body of that content.
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

// unstorable answers a batch of which nothing is taken: nothing can be, or the
// client wants all or nothing.
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

// badUsage answers what is wrong with a usage, or with all.
func badUsage(e *usage.Error) *problem {
	return &problem{code: e.Code, detail: e.Error()}
}

// part is where a usage begins in the body, and ends: a tenth of a record.
type part struct{ from, to uint32 }

// What it takes to store a usage, beside its bytes: its part and id here, and what
// the log puts before it in its copy.
const perRecordOverhead = 8 + 16 + 30

// maxStored is what is stored at a time takes: one of the largest requests, or
// many others.
func (o *Options) maxStored() int {
	return max(o.MaxBody, o.MaxDecoded) + o.MaxRecords*perRecordOverhead + gapBytes(o.MaxRecords)
}

// makeRoom makes room for n usages of a request, and waits until the log may copy
// them. That does not depend on any client: what is stored has arrived.
func (h *Server) makeRoom(r *request, n int, given bool) {
	if n > freeParts || len(r.body) > freeBytes {
		r.stored = len(r.body) + n*(perRecordOverhead+len(r.client))
		if cap(r.body) <= smallBody {
			r.stored += len(r.body) // which stays while its copy is there
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

// forgetAfter is how much of a large body is copied before it is forgotten.
const forgetAfter = 1 << 20

// eachRecord goes through the usages of a request as records, and keeps the ids
// that the log gives them if they are asked for. Of a large body it lets go what
// the log has copied, so that it is never there twice.
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
			continue // it has only been looked at
		}
		if wanted {
			r.ids = append(r.ids, r.record.ID)
		}
		if int(p.to)-forgotten >= forgetAfter {
			forgotten = h.largeBodies.forgetUpTo(r.body, forgotten, int(p.to))
		}
	}
}
