package ingest

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"strconv"
)

// Codes for what is wrong with a request.
const (
	CodeBadRequest   = "bad_request"
	CodeCrossSite    = "cross_site"
	CodeNotFound     = "not_found"
	CodeMethod       = "method_not_allowed"
	CodeTimeout      = "timeout"
	CodeMediaType    = "unsupported_media_type"
	CodeEncoding     = "unsupported_encoding"
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
	return append(b, '\n')
}

func badUsage(e *usageError) *problem {
	return &problem{status: http.StatusBadRequest, code: e.code, detail: e.Error()}
}

// unavailable asks the client to come back, each at another time.
func unavailable(code, detail string) *problem {
	after := strconv.Itoa(1 + rand.IntN(5))
	return &problem{status: http.StatusServiceUnavailable, code: code, detail: detail, header: [2]string{"Retry-After", after}}
}
