package http1

import (
	"net/http"
	"strconv"
)

// Response is the header of a response. It describes the body, which the caller writes.
type Response struct {
	Status int    // 200 to 599
	Date   string // in the format of RFC 9110, section 5.6.7; empty for no Date field
	Type   string // Content-Type
	Length int    // bytes of the body; a response to HEAD has the same Length and no body
	Close  bool   // ends the connection, whatever the request asks for

	ExtraFields []Field // further fields, written after those above
}

// Field is one field of a response's header. It is written without checks, so Name and
// Value must never come from a client.
type Field struct{ Name, Value string }

// AppendContinue appends a 100 (Continue). The client waits for it before it sends the
// body. Call AppendContinue once, before waiting for the body. It appends nothing on a
// second call or after AppendResponse.
func (c *Conn) AppendContinue(dst []byte) []byte {
	if c.sent != sentNothing {
		return dst // a 100 or a response was appended before
	}
	c.sent = sentContinue
	return append(dst, "HTTP/1.1 100 Continue\r\n\r\n"...)
}

// AppendResponse appends the header of the response to the current request; a second call
// appends nothing. The caller writes the body after it, unless HeaderOnly returns true.
// A response to a request that was not read to its end also ends the connection: see Last.
func (c *Conn) AppendResponse(dst []byte, a *Response) []byte {
	if c.sent == sentResponse {
		return dst // a request has one response
	}
	c.sent = sentResponse
	c.last = c.last || a.Close || c.state != Done
	dst = append(dst, statusLine(a.Status)...)
	if a.Date != "" {
		dst = append(dst, "Date: "...)
		dst = append(dst, a.Date...)
		dst = append(dst, "\r\n"...)
	}
	if a.Type != "" {
		dst = append(dst, "Content-Type: "...)
		dst = append(dst, a.Type...)
		dst = append(dst, "\r\n"...)
	}
	dst = append(dst, "Content-Length: "...)
	dst = strconv.AppendInt(dst, int64(a.Length), 10)
	dst = append(dst, "\r\n"...)
	for _, f := range a.ExtraFields {
		dst = append(dst, f.Name...)
		dst = append(dst, ": "...)
		dst = append(dst, f.Value...)
		dst = append(dst, "\r\n"...)
	}
	switch {
	case c.last:
		dst = append(dst, "Connection: close\r\n"...)
	case c.request.minor == 0:
		dst = append(dst, "Connection: keep-alive\r\n"...)
	}
	return append(dst, "\r\n"...)
}

// HeaderOnly reports whether the response to the current request has no body, because the
// method is HEAD.
func (c *Conn) HeaderOnly() bool { return c.request.head }

var statusLines = func() (t [600]string) { //nolint:gochecknoglobals // a constant table
	for status := 200; status < len(t); status++ {
		t[status] = "HTTP/1.1 " + strconv.Itoa(status) + " " + http.StatusText(status) + "\r\n"
	}
	return t
}()

func statusLine(status int) string { return statusLines[status] }
