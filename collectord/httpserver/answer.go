package httpserver

import (
	"net/http"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"collectord/collectord/http1"
	"collectord/wal"
)

// Max bytes of the parts of an answer.
const (
	idDigits   = 36 // a UUID
	idText     = idDigits + len(`"",`)
	gapText    = len("null,")
	faultText  = 200
	countsText = 200
)

// answerSize returns the max bytes of the answer to the usages of a request.
func (r *request) answerSize() int {
	n := countsText + faultText*len(r.batch.faults)
	if r.prefer.ids {
		n += idText*len(r.parts) + gapText*(r.batch.values-len(r.parts))
	}
	return n
}

// answerStored answers 2xx after the usages were stored, by this request or an earlier
// one.
func (c *conn) answerStored() {
	r := c.request
	c.know()
	c.server.clients.Accepted(c.sender, r.storedNow(), c.now())
	a := http1.Response{Status: http.StatusCreated, Type: "application/json"}
	var more [2]http1.Field
	switch {
	case r == nil:
		c.answerID(&a, c.id)
		return
	case r.again:
		a.ExtraFields = append(more[:0], http1.Field{Name: "Idempotency-Replayed", Value: "true"})
	}
	if r.batch.single {
		c.answerID(&a, r.ids[0])
		return
	}
	if len(r.batch.faults) > 0 {
		a.Status = http.StatusOK
	}
	if applied := r.prefer.applied(); applied != "" {
		a.ExtraFields = append(a.ExtraFields, http1.Field{Name: "Preference-Applied", Value: applied})
	}
	text := append(slices.Grow(r.answer[:0], r.answerSize()), '{')
	text = r.appendCounts(text, len(r.parts), r.batch.values-len(r.parts))
	if r.prefer.ids {
		text = r.appendIDs(text)
	}
	text = append(text, '}')
	r.answer = text
	if len(text) > freeBytes {
		r.answer = nil // it is still to be written, so the next request must not use it
	}
	c.answer(&a, text)
}

// storedNow returns how many usages a request stored. A nil request, as keepID leaves it,
// stored one.
func (r *request) storedNow() int {
	switch {
	case r == nil:
		return 1
	case r.again:
		return 0
	}
	return len(r.parts)
}

// answerID answers a request that is a single usage.
func (c *conn) answerID(a *http1.Response, id wal.ID) {
	const before, after = `{"id":"`, `"}`
	c.beginAnswer(a, len(before)+idDigits+len(after))
	c.out = append(id.AppendTo(append(c.out, before...)), after...)
	c.endAnswer(a)
}

// appendCounts appends the accepted and rejected counts of a batch, and its errors, as
// members of a JSON object.
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
		dst, _ = jsontext.AppendQuote(dst, f.fault.Error()) // the server's own ASCII text
		dst = append(dst, '}')
	}
	dst = append(dst, ']')
	if r.batch.rejected.Total() > maxErrors {
		dst = append(dst, `,"errors_truncated":true`...)
	}
	return dst
}

// appendIDs appends an id for each usage of the request, and null for a rejected one.
func (r *request) appendIDs(dst []byte) []byte {
	dst = append(dst, `,"ids":[`...)
	ids := r.ids
	for i := range r.batch.values {
		if i > 0 {
			dst = append(dst, ',')
		}
		if r.batch.gaps.has(i) {
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
