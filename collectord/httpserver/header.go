package httpserver

import (
	"bytes"
	"errors"
	"fmt"

	"collectord/collectord/http1"
	"collectord/collectord/origin"
	"collectord/collectord/usage"
)

// header is the part of a request's header that this server uses. Its byte slices share
// the memory of the received header and are valid as long as that memory.
type header struct {
	contentType []byte
	encoding    []byte // Content-Encoding
	key         []byte // Idempotency-Key, without quotes
	bearer      []byte // the bearer token; nil if there is none or another scheme
	origins     origin.Headers
	prefer      preferences

	content mediaType
	coding  coding
}

// readHeader reads the fields once. It returns a problem for contradictory fields:
// Authorization and Idempotency-Key may appear once, and fields about the body may be
// repeated with the same value.
func readHeader(q *http1.Request) (h header, p *problem) {
	h.origins.Authority = origin.Authority(q.Target, q.Host)
	var keys, authorizations int
	same := true
	repeat := func(known *[]byte, value []byte) {
		same = same && (*known == nil || bytes.Equal(*known, value))
		*known = value
	}
	for fields := q.Fields(); ; {
		name, value, ok := fields.Next()
		if !ok {
			break
		}
		switch len(name) {
		case len("prefer"):
			switch {
			case http1.EqualFold(name, "prefer"):
				h.prefer.add(value)
			case http1.EqualFold(name, "origin"):
				h.origins.Origins++
				h.origins.Origin = value
			}
		case len("content-type"):
			if http1.EqualFold(name, "content-type") {
				repeat(&h.contentType, value)
			}
		case len("authorization"):
			if http1.EqualFold(name, "authorization") {
				authorizations++
				h.bearer = bearer(value)
			}
		case len("sec-fetch-site"):
			if http1.EqualFold(name, "sec-fetch-site") {
				h.origins.Sites++
				h.origins.Site = value
			}
		case len("idempotency-key"):
			if http1.EqualFold(name, "idempotency-key") {
				keys++
				h.key = value
			}
		case len("content-encoding"):
			if http1.EqualFold(name, "content-encoding") {
				repeat(&h.encoding, value)
			}
		}
	}
	switch {
	case keys > 1 || authorizations > 1:
		return h, badFraming("send at most one Authorization and one Idempotency-Key")
	case !same:
		return h, badFraming("Content-Type and Content-Encoding must each have one value")
	case keys == 1:
		if h.key = unquote(h.key); !validKey(h.key) {
			return h, badFraming("an Idempotency-Key has 1 to 255 visible ASCII characters")
		}
	}
	return h, nil
}

// bearer returns the token in a value of Authorization (RFC 6750, section 2.1), or nil
// for another scheme.
func bearer(value []byte) []byte {
	const scheme = "bearer"
	if len(value) < len(scheme) || !http1.EqualFold(value[:len(scheme)], scheme) {
		return nil
	}
	rest := value[len(scheme):]
	if len(rest) > 0 && rest[0] != ' ' && rest[0] != '\t' {
		return nil
	}
	return http1.Trim(rest)
}

// coding is a content coding (RFC 9110, section 8.4.1).
type coding int

const (
	identity coding = iota
	gzipped
	zstandard
)

// acceptEncoding is the field Accept-Encoding in the answer to an unsupported
// Content-Encoding.
const acceptEncoding = "gzip, zstd"

// checkBeforeBody makes all checks that need no body, and returns the client. The order
// is: the header itself (bad), the origin, the client, the body's size and type. So a
// page of another site learns nothing about tokens, and a stranger learns nothing about
// limits.
func (h *Server) checkBeforeBody(c *conn, q *http1.Request, fields *header, bad *problem) (client string, p *problem) {
	if bad != nil {
		return "", bad
	}
	if p = h.checkPage(c, fields); p != nil {
		return "", p
	}
	if client, p = h.identify(c, fields); p != nil {
		return "", p
	}
	if p = h.checkBody(fields, q.Length); p != nil {
		return "", p
	}
	if q.ExpectsContinue { // before the client sends the body (RFC 9110, section 10.1.1)
		if err := h.log.Full(); err != nil && !errors.Is(err, ErrStarting) {
			return "", logProblem(err)
		}
	}
	return client, nil
}

func (h *Server) checkBody(r *header, length int64) *problem {
	if length > int64(h.opts.MaxBody) {
		return h.bodyTooLarge()
	}
	switch e := r.encoding; {
	case len(e) == 0, http1.EqualFold(e, "identity"):
	case http1.EqualFold(e, "gzip"), http1.EqualFold(e, "x-gzip"):
		r.coding = gzipped
	case http1.EqualFold(e, "zstd"):
		r.coding = zstandard
	default:
		return &problem{
			code:   CodeEncoding,
			detail: "send the body as it is, or in one of the codings in Accept-Encoding", extraField: http1.Field{Name: "Accept-Encoding", Value: acceptEncoding},
		}
	}
	return r.checkType()
}

func (r *header) checkType() *problem {
	switch r.content = mediaTypeOf(r.contentType); r.content {
	case formContent:
		return unsupportedType("add the header Content-Type: application/json (curl -d sends a form's type unless told otherwise)")
	case otherContent:
		return unsupportedType("send Content-Type: application/json, or application/x-ndjson with one value per line, in UTF-8")
	}
	return nil
}

func unsupportedType(detail string) *problem {
	return &problem{code: CodeMediaType, detail: detail}
}

func (h *Server) bodyTooLarge() *problem {
	return tooLarge(fmt.Sprintf("a body has at most %d bytes as sent (http.max_body)", h.opts.MaxBody))
}

func tooLarge(detail string) *problem {
	return &problem{code: usage.CodeTooLarge, detail: detail}
}

// preferences are the preferences that the server supports (RFC 7240).
type preferences struct {
	strict bool // handling=strict: all or nothing
	ids    bool // return=representation: the answer contains the ids

	handlingSeen, returnSeen bool // seen in the header; only the first one counts
}

// add reads one field Prefer: preferences separated by commas. Their parameters are
// ignored.
func (p *preferences) add(field []byte) {
	for len(field) > 0 {
		var item []byte
		item, field = cutOutsideQuotes(field, ',')
		item, _ = cutOutsideQuotes(item, ';')
		name, value, _ := bytes.Cut(item, []byte("="))
		name, value = http1.Trim(name), unquote(http1.Trim(value))
		switch {
		case http1.EqualFold(name, "handling") && !p.handlingSeen:
			p.handlingSeen, p.strict = true, http1.EqualFold(value, "strict")
		case http1.EqualFold(name, "return") && !p.returnSeen:
			p.returnSeen, p.ids = true, http1.EqualFold(value, "representation")
		}
	}
}

// applied returns the value of Preference-Applied, or empty.
func (p preferences) applied() string {
	switch {
	case p.strict && p.ids:
		return "handling=strict, return=representation"
	case p.strict:
		return "handling=strict"
	case p.ids:
		return "return=representation"
	}
	return ""
}

// cutOutsideQuotes is bytes.Cut at a separator outside of quoted strings.
func cutOutsideQuotes(b []byte, separator byte) (before, after []byte) {
	quoted := false
	for i := 0; i < len(b); i++ {
		switch {
		case quoted && b[i] == '\\':
			i++
		case b[i] == '"':
			quoted = !quoted
		case b[i] == separator && !quoted:
			return b[:i], b[i+1:]
		}
	}
	return b, nil
}

// unquote removes one pair of quotes, if there is one.
func unquote(b []byte) []byte {
	if len(b) >= 2 && b[0] == '"' && b[len(b)-1] == '"' {
		return b[1 : len(b)-1]
	}
	return b
}
