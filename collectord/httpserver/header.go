package httpserver

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"

	"github.com/valyala/fasthttp"

	"collectord/collectord/origin"
	"collectord/collectord/usage"
)

// header is what a request's header says that matters here. Its byte slices are
// parts of the raw header.
type header struct {
	contentType []byte
	encoding    []byte // Content-Encoding
	expect      []byte
	key         []byte // Idempotency-Key, without quotes
	bearer      []byte // the token in Authorization; nil: there is none, or another scheme
	unread      bool   // the body will not be read: whoever answers closes the connection
	from        origin.Headers
	prefer      preferences

	client  string // who sends it, or empty
	content mediaType
	coding  coding
}

// readHeader reads the raw header once. A problem means that a proxy in front
// could see the request end elsewhere than we do (RFC 9112, sections 2.2, 5.1,
// 5.2 and 6.3), or that what it says is not one thing. The server has its own
// opinion of the header by now, but is more lenient than is safe.
func readHeader(h *fasthttp.RequestHeader) (r header, p *problem) {
	var length, transfer, host, types, encodings, keys, authorizations int
	for raw := h.RawHeaders(); len(raw) > 0; {
		end := bytes.IndexByte(raw, '\n')
		if end < 1 || raw[end-1] != '\r' {
			return r, badFraming("a line of the header does not end with CR LF")
		}
		line := raw[:end-1]
		raw = raw[end+1:]
		if len(line) == 0 {
			if len(raw) > 0 {
				return r, badFraming("the header ends twice")
			}
			break
		}
		colon := bytes.IndexByte(line, ':')
		if colon < 1 || bytes.IndexByte(line[:colon], ' ') >= 0 || line[0] == '\t' {
			return r, badFraming("a line of the header is continued, or has white space in its name")
		}
		name, value := line[:colon], trimBlanks(line[colon+1:])
		switch name[0] | 0x20 {
		case 'a':
			if is(name, "authorization") {
				authorizations++
				r.bearer = bearer(value)
			}
		case 'h':
			if is(name, "host") {
				host++
				r.from.Authority = value
			}
		case 't':
			if is(name, "transfer-encoding") {
				transfer++
				if !is(value, "chunked") {
					return r, badFraming("the only Transfer-Encoding is chunked")
				}
			}
		case 'c':
			switch {
			case is(name, "content-length"):
				length++
			case is(name, "content-type"):
				types++
				r.contentType = value
			case is(name, "content-encoding"):
				encodings++
				r.encoding = value
			}
		case 'e':
			if is(name, "expect") {
				r.expect = value
			}
		case 'i':
			if is(name, "idempotency-key") {
				keys++
				r.key = value
			}
		case 'p':
			if is(name, "prefer") {
				r.prefer.add(value)
			}
		case 'o':
			if is(name, "origin") {
				r.from.Origins++
				r.from.Origin = value
			}
		case 's':
			if is(name, "sec-fetch-site") {
				r.from.Sites++
				r.from.Site = value
			}
		}
	}
	r.unread = length > 0 && h.ContentLength() == unreadLength
	old := string(h.Protocol()) == "HTTP/1.0"
	switch {
	case transfer > 0 && (length > 0 || old || transfer > 1):
		return r, badFraming("Transfer-Encoding goes with neither Content-Length nor HTTP/1.0")
	case length > 1:
		return r, badFraming("more than one Content-Length")
	case host == 0 && !old, host > 1:
		return r, badFraming("a request names one Host")
	case types > 1 || encodings > 1 || keys > 1 || authorizations > 1:
		return r, badFraming("Content-Type, Content-Encoding, Authorization and Idempotency-Key are given once")
	case keys == 1:
		if r.key = unquote(r.key); !validKey(r.key) {
			return r, badFraming("an Idempotency-Key has 1 to 255 visible ASCII characters")
		}
	}
	return r, nil
}

// bearer is the token in the value of Authorization (RFC 6750, section 2.1), or
// nil where another scheme is used.
func bearer(value []byte) []byte {
	const scheme = "bearer"
	if len(value) < len(scheme) || !is(value[:len(scheme)], scheme) {
		return nil
	}
	rest := value[len(scheme):]
	if len(rest) > 0 && rest[0] != ' ' && rest[0] != '\t' {
		return nil
	}
	return trimBlanks(rest)
}

func badFraming(detail string) *problem {
	return &problem{status: http.StatusBadRequest, code: CodeBadRequest, detail: detail, close: true}
}

// is compares without regard to case; lower must be in lower case.
func is(b []byte, lower string) bool {
	return len(b) == len(lower) && strings.EqualFold(string(b), lower)
}

func trimBlanks(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// coding is a content coding (RFC 9110, section 8.4.1).
type coding int

const (
	identity coding = iota
	gzipped
	zstandard
)

// acceptEncoding is what a refused Content-Encoding is answered with.
const acceptEncoding = "gzip, zstd"

// checkHeader decides what can be decided before the body is read: first where
// it comes from, then from whom, then what it is. A page of another site is told
// nothing of tokens, and a stranger nothing of limits.
func (h *Server) checkHeader(ctx *fasthttp.RequestCtx, r *header) (p *problem) {
	if p = h.checkPage(ctx, r); p != nil {
		return p
	}
	if r.client, p = h.identify(ctx, r); p != nil {
		return p
	}
	return h.checkBody(r, ctx.Request.Header.ContentLength())
}

func (h *Server) checkBody(r *header, length int) *problem {
	if length > h.opts.MaxBody {
		return h.bodyTooLarge()
	}
	switch e := r.encoding; {
	case len(e) == 0, is(e, "identity"):
	case is(e, "gzip"), is(e, "x-gzip"):
		r.coding = gzipped
	case is(e, "zstd"):
		r.coding = zstandard
	default:
		return &problem{
			status: http.StatusUnsupportedMediaType, code: CodeEncoding,
			detail: "send the body as it is, or in one of the codings in Accept-Encoding", header: [2]string{"Accept-Encoding", acceptEncoding},
		}
	}
	return r.checkType()
}

func (r *header) checkType() *problem {
	switch r.content = mediaTypeOf(r.contentType); r.content {
	case formContent:
		return unsupportedType("add the header Content-Type: application/json (curl -d sends a form's type unless told otherwise)")
	case otherContent:
		return unsupportedType("send Content-Type: application/json, or application/x-ndjson for a value a line, in UTF-8")
	}
	return nil
}

func unsupportedType(detail string) *problem {
	return &problem{status: http.StatusUnsupportedMediaType, code: CodeMediaType, detail: detail}
}

func (h *Server) bodyTooLarge() *problem {
	return tooLarge(fmt.Sprintf("a body has at most %d bytes as sent (http.max_body)", h.opts.MaxBody))
}

func tooLarge(detail string) *problem {
	return &problem{status: http.StatusRequestEntityTooLarge, code: usage.CodeTooLarge, detail: detail}
}
