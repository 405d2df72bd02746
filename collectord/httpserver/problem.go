package httpserver

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"

	"collectord/collectord/http1"
)

// Codes of problems with a request. They are stable: see ProblemKinds.
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

// problem describes an error answer (RFC 9457).
type problem struct {
	code       string
	detail     string
	extraField http1.Field // an additional field, if its name is not empty
	close      bool        // close the connection after the answer

	extraMembers []byte // additional members of the JSON object, or none
}

// DefaultProblemBase is the default of Options.ProblemBase. It is a relative reference,
// so that it names no host.
const DefaultProblemBase = "docs/problems.md"

const problemType = "application/problem+json"

func (p *problem) status() int { return statusByCode[p.code] }

// body returns the problem as JSON. Its type links to the paragraph for its code in the
// document at base. The detail must never repeat what a client sent.
func (p *problem) body(base string) []byte {
	b, err := json.Marshal(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Code   string `json:"code"`
		Detail string `json:"detail,omitempty"`
	}{base + "#" + p.code, http.StatusText(p.status()), p.status(), p.code, p.detail})
	if err != nil {
		return nil // strings and a number always marshal
	}
	if len(p.extraMembers) > 0 {
		b = append(b[:len(b)-1], ',')
		b = append(append(b, p.extraMembers...), '}')
	}
	return append(b, '\n')
}

// response returns the answer's header and its body.
func (p *problem) response(base string) (a http1.Response, body []byte) {
	a = http1.Response{Status: p.status(), Type: problemType, Close: p.close}
	if p.extraField.Name != "" {
		a.ExtraFields = []http1.Field{p.extraField}
	}
	return a, p.body(base)
}

// unavailable returns a problem that asks the client to retry later.
func unavailable(code, detail string) *problem {
	return &problem{code: code, detail: detail, extraField: retryAfter()}
}

// retryAfter returns a random Retry-After of 1 to 5 seconds, so that clients do not retry
// at the same time.
func retryAfter() http1.Field {
	return http1.Field{Name: "Retry-After", Value: strconv.Itoa(1 + rand.IntN(5))}
}

// badFraming returns the problem for a request that is not valid HTTP or is ambiguous. It
// closes the connection.
func badFraming(detail string) *problem {
	return &problem{code: CodeBadRequest, detail: detail, close: true}
}

// faultProblem returns the problem for a request that package http1 rejects.
func (h *Server) faultProblem(f http1.Fault) *problem {
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

// timeoutProblem returns the problem for a request whose deadline has passed.
func (h *Server) timeoutProblem() *problem {
	return &problem{
		code: CodeTimeout, close: true,
		detail: fmt.Sprintf("the request must arrive at %d bytes per second or more (http.body_rate)", h.limits.Load().BodyRate),
	}
}
