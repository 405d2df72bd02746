package httpserver

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"

	"collectord/collectord/http1"
	"collectord/collectord/usage"
)

// problem describes an error answer (RFC 9457).
type problem struct {
	code       string
	detail     string
	extraField http1.Field // an additional field, if its name is not empty
	close      bool        // close the connection after the answer

	extraMembers []byte // additional members of the JSON object, or none
}

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

// DefaultProblemBase is the default of Options.ProblemBase. It is a relative reference,
// so that it names no host.
const DefaultProblemBase = "docs/problems.md"

const problemType = "application/problem+json"

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

// timeoutProblem returns the problem for a request whose deadline has passed in a state. The
// detail names the limits of that state.
func (h *Server) timeoutProblem(s state) *problem {
	limits := h.limits.Load()
	detail := fmt.Sprintf("the header of a request must arrive within %v (http.header_timeout)", limits.HeaderTimeout)
	if s == stateBody {
		detail = fmt.Sprintf("after %v, a body must arrive at %d bytes per second or more (http.body_grace, http.body_rate)", limits.BodyGrace, limits.BodyRate)
	}
	return &problem{code: CodeTimeout, close: true, detail: detail}
}

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

// ProblemKind is a kind of rejected request. docs/problems.md has a paragraph for each.
type ProblemKind struct {
	Code    string
	Status  int
	Meaning string
	Advice  string // how the client or the operator can fix it
}

// ProblemKinds returns every kind, ordered by status. Codes are stable, so that clients
// may compare them.
func ProblemKinds() []ProblemKind {
	return []ProblemKind{
		{usage.CodeInvalidJSON, http.StatusBadRequest, "The body, or a usage in it, is not valid JSON (RFC 8259).", "Correct the body at the offset that the detail names. An array with a syntax error is rejected as a whole; in NDJSON, only the line with the error is rejected."},
		{usage.CodeNotAnObject, http.StatusBadRequest, "A usage is valid JSON, but not an object.", "Wrap the value in an object, such as `{\"value\":1}`."},
		{usage.CodeEmpty, http.StatusBadRequest, "The body has no usage: it is empty, blank, or `[]`.", "Send at least one usage."},
		{usage.CodeDuplicateName, http.StatusBadRequest, "An object has two members with one name. Readers of the bucket would disagree on which counts.", "Rename one of them, or send an array."},
		{usage.CodeInvalidUTF8, http.StatusBadRequest, "The body has bytes that are not UTF-8, or half of an escaped surrogate pair.", "Encode it as UTF-8."},
		{usage.CodeTooDeep, http.StatusBadRequest, "A usage has more than 64 levels of objects and arrays.", "Flatten it."},
		{usage.CodeNumberRange, http.StatusBadRequest, "An integer is outside [-2^63, 2^64), or another number is too large for binary64.", "Send it as a string."},
		{CodeBadEncoding, http.StatusBadRequest, "The compressed body is damaged or cut off, or its zstd window is larger than 8 MiB.", "Compress it again, with a smaller window."},
		{CodeBadRequest, http.StatusBadRequest, "The request is not HTTP/1, its body is cut off, or two programs could understand its header differently.", "Correct the client, or the proxy before this collector; the detail names the rule."},
		{CodeUnauthorized, http.StatusUnauthorized, "The request has no token or client certificate, or one that is not valid here. The header `WWW-Authenticate` names the scheme.", "Send `Authorization: Bearer` and a token from `collectord token new`, or connect with a client certificate."},
		{CodeCrossSite, http.StatusForbidden, "A [web page](security.md#web-pages-origin-and-cors) of another site may have sent the request.", "Send a valid bearer token, or have the operator add the page's origin to `http.origins`, or the host's name to `http.hosts`."},
		{CodeNotFound, http.StatusNotFound, "The path is not served here. If it belongs to the admin server, such as `/metrics`, the detail names `admin.listen`.", "Post usages to `/api/usages`."},
		{CodeMethod, http.StatusMethodNotAllowed, "The path does not support this method. The header `Allow` lists the methods that it supports.", "Use `POST` for `/api/usages`."},
		{CodeTimeout, http.StatusRequestTimeout, "The request arrived more slowly than `http.header_timeout`, or `http.body_grace` and `http.body_rate`, allow.", "Repeat it over a better connection, or in smaller batches."},
		{CodeInProgress, http.StatusConflict, "The first request with this `Idempotency-Key` has no answer yet.", "Repeat it after `Retry-After` seconds."},
		{usage.CodeTooLarge, http.StatusRequestEntityTooLarge, "The body or a usage exceeds a limit, which the detail names: `http.max_body`, `http.max_decoded`, `http.max_records` or `http.max_record`.", "Send smaller batches, or have the operator raise the limit."},
		{CodeMediaType, http.StatusUnsupportedMediaType, "The `Content-Type` is not one of JSON or NDJSON in UTF-8.", "Send `application/json` or `application/x-ndjson`. `curl -d` sends a form's type unless told otherwise."},
		{CodeEncoding, http.StatusUnsupportedMediaType, "The `Content-Encoding` is not supported. The header `Accept-Encoding` lists the supported ones.", "Send the body as it is, or use `gzip` or `zstd`."},
		{CodeExpectation, http.StatusExpectationFailed, "`Expect` asks for something other than `100-continue`.", "Leave the header out."},
		{CodeMismatch, http.StatusUnprocessableEntity, "An earlier request had the same `Idempotency-Key` and another body. Nothing was stored.", "Use a new key for each new body."},
		{CodeRateLimited, http.StatusTooManyRequests, "The usages exceed `http.rate`, or the rate of the token. Nothing was stored.", "Repeat the request after `Retry-After` seconds."},
		{CodeHeaderSize, http.StatusRequestHeaderFieldsTooLarge, "The header is larger than `http.max_header` (8 KiB).", "Send fewer or shorter header fields."},
		{CodeInternal, http.StatusInternalServerError, "The collector has a fault. Nothing was stored.", "Please report it, with the line of the collector's log."},
		{CodeLogFull, http.StatusServiceUnavailable, "The log is full, or its disk fails. Nothing was stored.", "Repeat the request after `Retry-After` seconds. The operator finds the reason with `collectord status`."},
		{CodeOverloaded, http.StatusServiceUnavailable, "Too many connections are open, or too many bytes are arriving at once. Nothing was stored.", "Repeat the request after `Retry-After` seconds."},
		{CodeShuttingDown, http.StatusServiceUnavailable, "The collector is stopping. Nothing was stored.", "Repeat the request after `Retry-After` seconds, over a new connection."},
		{CodeCommitFailed, http.StatusServiceUnavailable, "The disk failed while the usages were being written. They may be stored.", "Repeat the request with the same `Idempotency-Key`: if a usage is stored twice, both copies have the same id."},
		{CodeVersion, http.StatusHTTPVersionNotSupported, "The request has another version than HTTP/1.0 or 1.1.", "Use HTTP/1.1; a proxy can translate HTTP/2."},
	}
}

//nolint:gochecknoglobals // computed once and never changed
var statusByCode = func() map[string]int {
	m := map[string]int{}
	for _, k := range ProblemKinds() {
		m[k.Code] = k.Status
	}
	return m
}()
