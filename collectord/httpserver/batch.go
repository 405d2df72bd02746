package httpserver

import (
	"bytes"
	"fmt"
	"net/http"

	"collectord/collectord/usage"
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
	gaps     []int // which of the values were rejected, if the ids are asked for
}

// rejected is a usage that can't be stored.
type rejected struct {
	index int
	fault usage.Error
}

func (b *batch) reject(v *usage.Value, ids bool) {
	if len(b.faults) < maxErrors {
		b.faults = append(b.faults, rejected{v.Index, v.Fault})
	}
	if ids {
		b.gaps = append(b.gaps, b.values)
	}
	b.values++
	b.rejected.Add(v.Fault.Code)
}

// split finds the usages in the body and checks them. A problem means that none
// is taken, and that what came counts as one.
func (h *Server) split(r *request, ids *idDeriver) *problem {
	form, p := formOf(r.header.content, r.body)
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
			r.batch.reject(v, r.header.prefer.ids)
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
	if r.header.prefer.strict {
		p.header = [2]string{"Preference-Applied", "handling=strict"}
	}
	return p
}

// badUsage answers what is wrong with a usage, or with all.
func badUsage(e *usage.Error) *problem {
	p := &problem{status: http.StatusBadRequest, code: e.Code, detail: e.Error()}
	if e.Code == usage.CodeTooLarge {
		p.status = http.StatusRequestEntityTooLarge
	}
	return p
}
