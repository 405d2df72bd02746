package httpserver

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"strconv"
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
	status int
	code   string
	detail string
	header [2]string // one more header, if its name is not empty
	close  bool      // the connection can't be used any more

	members []byte // more members of the JSON object, or none
}

const problemType = "application/problem+json"

// body is the problem as JSON. The detail is ours or holds offsets only, never
// what a client sent.
func (p *problem) body() []byte {
	b, err := json.Marshal(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Code   string `json:"code"`
		Detail string `json:"detail,omitempty"`
	}{"about:blank", http.StatusText(p.status), p.status, p.code, p.detail})
	if err != nil {
		return nil // strings and a number: it can't fail
	}
	if len(p.members) > 0 {
		b = append(b[:len(b)-1], ',')
		b = append(append(b, p.members...), '}')
	}
	return append(b, '\n')
}

// unavailable asks the client to come back.
func unavailable(code, detail string) *problem {
	return &problem{status: http.StatusServiceUnavailable, code: code, detail: detail, header: retryAfter()}
}

// retryAfter asks each client to come back at another time.
func retryAfter() [2]string { return [2]string{"Retry-After", strconv.Itoa(1 + rand.IntN(5))} }
