package httpserver

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"collectord/collectord/http1"
	"collectord/wal"
)

// Maximum bytes of the parts of an answer.
const (
	uuidBytes       = 36 // a UUID
	idTextBytes     = uuidBytes + len(`"",`)
	nullTextBytes   = len("null,")
	faultTextBytes  = 200
	countsTextBytes = 200
)

// maxResponseBytes returns the max bytes of the answer to the usages of a request.
func (r *request) maxResponseBytes() int {
	n := countsTextBytes + faultTextBytes*len(r.batch.faults)
	if r.terms.prefer.ids {
		n += idTextBytes*len(r.ranges) + nullTextBytes*(r.batch.valueCount-len(r.ranges))
	}
	return n
}

// answerStored answers 2xx after the usages were stored, by this request or an earlier
// one.
func (c *conn) answerStored() {
	r := c.request
	c.markClient()
	c.server.clients.Accepted(c.sender, r.newlyStored(), c.now())
	a := http1.Response{Status: http.StatusCreated, Type: "application/json"}
	var more [2]http1.Field
	switch {
	case r == nil:
		c.answerWithID(&a, c.keptID)
		return
	case r.repeated:
		a.ExtraFields = append(more[:0], http1.Field{Name: "Idempotency-Replayed", Value: "true"})
	}
	if r.batch.single {
		c.answerWithID(&a, r.ids[0])
		return
	}
	if len(r.batch.faults) > 0 {
		a.Status = http.StatusOK
	}
	if applied := r.terms.prefer.applied(); applied != "" {
		a.ExtraFields = append(a.ExtraFields, http1.Field{Name: "Preference-Applied", Value: applied})
	}
	text := append(slices.Grow(r.responseBuf[:0], r.maxResponseBytes()), '{')
	text = r.appendCounts(text, len(r.ranges), r.batch.valueCount-len(r.ranges))
	if r.terms.prefer.ids {
		text = r.appendIDs(text)
	}
	text = append(text, '}')
	r.responseBuf = text
	if len(text) > unbudgetedBytes {
		r.responseBuf = nil // it is still to be written, so the next request must not use it
	}
	c.respond(&a, text)
}

// newlyStored returns how many usages a request stored. A nil request is one that
// reduceToID has released: it stored one usage.
func (r *request) newlyStored() int {
	switch {
	case r == nil:
		return 1
	case r.repeated:
		return 0
	}
	return len(r.ranges)
}

// answerWithID answers a request that is a single usage.
func (c *conn) answerWithID(a *http1.Response, id wal.ID) {
	const before, after = `{"id":"`, `"}`
	c.beginResponse(a, len(before)+uuidBytes+len(after))
	c.out = append(id.AppendTo(append(c.out, before...)), after...)
	c.finishResponse(a)
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
	if r.batch.rejectedCounts.Total() > maxErrors {
		dst = append(dst, `,"errors_truncated":true`...)
	}
	return dst
}

// appendIDs appends an id for each usage of the request, and null for a rejected one.
func (r *request) appendIDs(dst []byte) []byte {
	dst = append(dst, `,"ids":[`...)
	ids := r.ids
	for i := range r.batch.valueCount {
		if i > 0 {
			dst = append(dst, ',')
		}
		if r.batch.rejectedSet.has(i) {
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

// route is the resource and method that a request addresses.
type route uint8

const (
	routeNone route = iota
	routeUsages
	routeOtherMethod // another method for the path of usages
	routeHealth
	routeHealthMethod
	routeAdmin // a path of the admin server
	routeUnknown
)

const (
	usagesPath = "/api/usages"
	healthPath = "/healthz"
)

func (h *Server) routeOf(q *http1.Request) route {
	method := q.Method
	switch string(q.Path()) {
	case usagesPath:
		if string(method) == http.MethodPost {
			return routeUsages
		}
		return routeOtherMethod
	case healthPath:
		if string(method) == http.MethodGet || string(method) == http.MethodHead {
			return routeHealth
		}
		return routeHealthMethod
	}
	if h.opts.AdminServes != nil && h.opts.AdminServes(string(q.Path())) {
		return routeAdmin
	}
	return routeUnknown
}

// answerPage answers every request that is not a POST of usages.
func (c *conn) answerPage() {
	switch c.route {
	case routeHealth:
		word, status := c.server.health()
		c.respond(&http1.Response{Status: status, Type: "text/plain; charset=utf-8"}, []byte(word+"\n"))
	case routeHealthMethod:
		c.answerProblem(&problem{code: CodeMethod, extraField: http1.Field{Name: "Allow", Value: "GET, HEAD"}})
	case routeOtherMethod:
		c.answerProblem(&problem{code: CodeMethod, detail: "usages are posted", extraField: http1.Field{Name: "Allow", Value: "POST"}})
	case routeAdmin:
		where := strings.Join(c.server.opts.AdminAddresses, ", ")
		if where == "" {
			where = "off"
		}
		c.answerProblem(&problem{code: CodeNotFound, detail: "the admin server serves this path: admin.listen is " + where})
	default:
		c.answerProblem(&problem{code: CodeNotFound, detail: "usages are posted to " + usagesPath})
	}
}

// health returns the text and status of the answer to /healthz.
func (h *Server) health() (word string, status int) {
	full := h.log.Full()
	switch {
	case h.draining.Load():
		return "draining", http.StatusServiceUnavailable
	case errors.Is(full, ErrStarting):
		return "starting", http.StatusServiceUnavailable
	case full != nil:
		return "full", http.StatusServiceUnavailable
	}
	return "ok", http.StatusOK
}
