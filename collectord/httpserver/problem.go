package httpserver

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"

	"collectord/collectord/http1"
)

// Codes for what is wrong with a request.
const (
	CodeBadRequest   = "bad_request"
	CodeUnauthorized = "unauthorized"
	CodeCrossSite    = "cross_site"
	CodeNotFound     = "not_found"
	CodeMethod       = "method_not_allowed"
	CodeTimeout      = "timeout"
	CodeMediaType    = "unsupported_media_type"
	CodeEncoding     = "unsupported_encoding"
	CodeBadEncoding  = "bad_encoding"
	CodeInProgress   = "idempotency_in_progress"
	CodeMismatch     = "idempotency_mismatch"
	CodeExpectation  = "expectation_failed"
	CodeHeaderSize   = "header_too_large"
	CodeRateLimited  = "rate_limited"
	CodeVersion      = "unsupported_version"
	CodeLogFull      = "log_full"
	CodeOverloaded   = "overloaded"
	CodeShuttingDown = "shutting_down"
	CodeCommitFailed = "commit_failed"
	CodeInternal     = "internal"
)

// problem is an answer that says what went wrong (RFC 9457).
type problem struct {
	code   string
	detail string
	header http1.Field // one more, if its name is not empty
	close  bool        // the connection can't be used any more

	members []byte // more members of the JSON object, or none
}

// DefaultProblemBase is a relative reference, so that it names no host.
const DefaultProblemBase = "docs/problems.md"

const problemType = "application/problem+json"

func (p *problem) status() int { return statusByCode[p.code] }

// body is the problem as JSON. Its type is a link to the paragraph about its code, in
// the document at base. The detail never repeats what a client sent.
func (p *problem) body(base string) []byte {
	b, err := json.Marshal(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Code   string `json:"code"`
		Detail string `json:"detail,omitempty"`
	}{base + "#" + p.code, http.StatusText(p.status()), p.status(), p.code, p.detail})
	if err != nil {
		return nil // strings and a number: it can't fail
	}
	if len(p.members) > 0 {
		b = append(b[:len(b)-1], ',')
		b = append(append(b, p.members...), '}')
	}
	return append(b, '\n')
}

// answer is the problem as an answer and its body.
func (p *problem) answer(base string) (a http1.Answer, body []byte) {
	a = http1.Answer{Status: p.status(), Type: problemType, Close: p.close}
	if p.header.Name != "" {
		a.More = []http1.Field{p.header}
	}
	return a, p.body(base)
}

// unavailable asks the client to come back.
func unavailable(code, detail string) *problem {
	return &problem{code: code, detail: detail, header: retryAfter()}
}

// retryAfter asks each client to come back at another time.
func retryAfter() http1.Field {
	return http1.Field{Name: "Retry-After", Value: strconv.Itoa(1 + rand.IntN(5))}
}

// badFraming answers what is not a request of HTTP, or not one thing.
func badFraming(detail string) *problem {
	return &problem{code: CodeBadRequest, detail: detail, close: true}
}

// badRequest answers what package http1 makes no request of.
func (h *Server) badRequest(f http1.Fault) *problem {
	p := badFraming(f.Reason)
	switch f.Kind {
	case http1.TooLarge:
		p.code = CodeHeaderSize
		p.detail = fmt.Sprintf("a request's header has at most %d bytes (http.max_header)", h.opts.MaxHeader)
	case http1.BadVersion:
		p.code = CodeVersion
	case http1.Expectation:
		p.code = CodeExpectation
	}
	return p
}

// tooSlow answers a request of which no more is waited for.
func (h *Server) tooSlow() *problem {
	return &problem{
		code: CodeTimeout, close: true,
		detail: fmt.Sprintf("the request must arrive at %d bytes a second or more (http.body_rate)", h.limits.Load().BodyRate),
	}
}
