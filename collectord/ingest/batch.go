package ingest

import (
	"bytes"
	"fmt"
	"net/http"
)

// maxErrors is how many refused usages an answer names.
const maxErrors = 100

// batch is what became of the usages of one request, beside its records.
type batch struct {
	single  bool // one object, answered by its id
	given   bool // the ids do not come from the log
	values  int  // usages that were sent, good or bad
	faults  []refused
	reasons []reason
	gaps    []int // which of the values were refused, if the ids are asked for
}

// refused is a usage that can't be stored.
type refused struct {
	index int
	fault usageError
}

// reason counts usages that were refused with the same code.
type reason struct {
	code string
	n    int
}

func (b *batch) refuse(index int, fault *usageError, ids bool) {
	if len(b.faults) < maxErrors {
		b.faults = append(b.faults, refused{index, *fault})
	}
	if ids {
		b.gaps = append(b.gaps, b.values)
	}
	b.values++
	for i := range b.reasons {
		if b.reasons[i].code == fault.code {
			b.reasons[i].n++
			return
		}
	}
	b.reasons = append(b.reasons, reason{fault.code, 1})
}

// refusedValues is how many of the values can't be stored.
func (b *batch) refusedValues() (n int) {
	for _, r := range b.reasons {
		n += r.n
	}
	return n
}

// split finds the usages in the body and checks them. A problem means that none
// is taken, and that what came counts as one.
func (h *HTTP) split(r *request, ids *idDeriver) *problem {
	start := skipSpace(r.body, 0)
	if r.header.lines || start < len(r.body) && r.body[start] == '[' {
		n := min(bytes.Count(r.body, []byte("{")), h.opts.MaxRecords)
		h.makeRoom(r, n, ids != nil)
	}
	r.batch.given = ids != nil
	s := splitter{h: h, r: r, ids: ids}
	var fault *usageError
	switch {
	case r.header.lines:
		fault = s.lines()
	case start < len(r.body) && r.body[start] == '[':
		fault = s.array(start)
	default:
		r.batch.single = true
		var usage []byte
		if usage, fault = checkOnlyUsage(r.body); fault == nil {
			fault = s.value(0, usage, start, nil)
		}
		if fault == nil && len(r.batch.faults) > 0 {
			fault = &r.batch.faults[0].fault
		}
	}
	if fault == nil && r.batch.values == 0 {
		fault = &usageError{CodeEmpty, len(r.body), "there is no usage"}
	}
	if fault != nil {
		return badUsage(fault)
	}
	return nil
}

// splitter takes a body apart.
type splitter struct {
	h   *HTTP
	r   *request
	ids *idDeriver // nil: the log draws the ids
}

// value takes on one usage, which begins at at, or what is wrong with it. The
// fault it returns is one of the whole body.
func (s *splitter) value(index int, usage []byte, at int, fault *usageError) *usageError {
	r := s.r
	if most := s.h.opts.MaxRecords; r.batch.values == most {
		return &usageError{CodeTooLarge, at, fmt.Sprintf("usage beyond the %d a request may hold (http.max_records) begins", most)}
	}
	if most := s.h.limits.Load().MaxRecord; fault == nil && len(usage) > most {
		fault = &usageError{CodeTooLarge, at, fmt.Sprintf("usage of more than %d bytes (http.max_record) begins", most)}
	}
	if fault != nil {
		r.batch.refuse(index, fault, r.header.prefer.ids)
		return nil
	}
	r.batch.values++
	r.parts = append(r.parts, part{uint32(at), uint32(at + len(usage))})
	if s.ids != nil {
		r.ids = append(r.ids, s.ids.id(index, usage))
	}
	return nil
}

// lines takes NDJSON apart: one value a line, blank lines count but hold none.
func (s *splitter) lines() *usageError {
	body := s.r.body
	for index, at := 0, 0; at < len(body); index++ {
		end := len(body)
		if n := bytes.IndexByte(body[at:], '\n'); n >= 0 {
			end = at + n
		}
		line := body[at:end]
		if start := skipSpace(line, 0); start < len(line) {
			usage, fault := checkOnlyUsage(line)
			if fault != nil {
				fault.offset += at
			}
			if broken := s.value(index, usage, at+start, fault); broken != nil {
				return broken
			}
		}
		at = end + 1
	}
	return nil
}

// array takes a JSON array apart. If it is none, nothing can be relied on: where
// one usage ends and the next begins is a guess then.
func (s *splitter) array(start int) *usageError {
	body := s.r.body
	at := skipSpace(body, start+1)
	for index := 0; at == len(body) || body[at] != ']' || index > 0; index++ {
		if at == len(body) {
			return &usageError{CodeInvalidJSON, at, "the text ends too soon"}
		}
		usage, end, fault, broken := checkElement(body, at)
		if broken != nil {
			return broken
		}
		if broken := s.value(index, usage, at, fault); broken != nil {
			return broken
		}
		at = skipSpace(body, end)
		if at < len(body) && body[at] == ']' {
			break
		}
		if at < len(body) && body[at] != ',' {
			return &usageError{CodeInvalidJSON, at, "neither a comma nor the end of the array"}
		}
		at = skipSpace(body, min(at+1, len(body)))
	}
	if at = skipSpace(body, at+1); at < len(body) {
		return &usageError{CodeInvalidJSON, at, "something follows the JSON array"}
	}
	return nil
}

// checkElement is checkUsage for an element of an array. It finds the end of one
// that is JSON but can't be stored, too; broken says that it is no JSON, and the
// array neither.
func checkElement(body []byte, at int) (usage []byte, end int, fault, broken *usageError) {
	if body[at] == '{' {
		usage, rest, fault := checkUsage(body[at:])
		if fault == nil {
			return usage, len(body) - len(rest), nil, nil
		}
		fault.offset += at
		if fault.code == CodeInvalidJSON {
			return nil, 0, nil, fault
		}
		end, broken = valueEnd(body, at)
		return nil, end, fault, broken
	}
	end, broken = valueEnd(body, at)
	return nil, end, &usageError{CodeNotAnObject, at, "a JSON value that is not an object begins"}, broken
}

// valueEnd returns where the JSON value that begins at start ends. Duplicate
// names and bad UTF-8 within strings do not keep it from having an end.
func valueEnd(b []byte, start int) (int, *usageError) {
	s := scan(b, start, true)
	if s.fault.code != "" {
		return 0, &usageError{s.fault.code, s.fault.offset, s.fault.reason}
	}
	return s.end, nil
}

// unstorable answers a batch of which nothing is taken: nothing can be, or the
// client wants all or nothing.
func (r *request) unstorable() *problem {
	first := &r.batch.faults[0].fault
	p := badUsage(first)
	p.detail = fmt.Sprintf("%d of %d usages can't be stored, so none was; the first: %s", r.batch.refusedValues(), r.batch.values, p.detail)
	p.members = r.appendCounts(nil, 0, r.batch.values)
	if r.header.prefer.strict {
		p.header = [2]string{"Preference-Applied", "handling=strict"}
	}
	return p
}

// badUsage answers what is wrong with a usage, or with all.
func badUsage(e *usageError) *problem {
	p := &problem{status: http.StatusBadRequest, code: e.code, detail: e.Error()}
	if e.code == CodeTooLarge {
		p.status = http.StatusRequestEntityTooLarge
	}
	return p
}
