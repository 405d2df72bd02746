package httpserver

import (
	"net/http"

	"collectord/collectord/usage"
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
