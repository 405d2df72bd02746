package http1

import (
	"net/http"
	"strconv"
)

// Answer is the header of an answer.
type Answer struct {
	Status int    // 200 to 599
	Date   string // as RFC 9110 section 5.6.7 has it; empty: none
	Type   string // Content-Type
	Length int    // bytes of the body, which follows unless the method was HEAD
	Close  bool   // ends the connection, whatever the request says

	More []Field // beside these
}

// Field is a line of an answer's header. Names and values are the server's own.
type Field struct{ Name, Value string }

// AppendContinue appends what has the client send the body that it holds back. It is
// sent once, before anything of the body is waited for.
func (c *Conn) AppendContinue(dst []byte) []byte {
	if c.sent != sentNothing {
		return dst // too late, or twice
	}
	c.sent = sentContinue
	return append(dst, "HTTP/1.1 100 Continue\r\n\r\n"...)
}

// AppendAnswer appends the header of the answer to the request in hand. Behind it comes
// the body, unless HeaderOnly says otherwise. The connection ends with it if Last says so:
// as it does where the request was not read to its end.
func (c *Conn) AppendAnswer(dst []byte, a *Answer) []byte {
	if c.sent == sentAnswer {
		return dst // a request has one answer
	}
	c.sent = sentAnswer
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
	for _, f := range a.More {
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

// HeaderOnly reports whether the answer to the request in hand has no body.
func (c *Conn) HeaderOnly() bool { return c.request.head }

var statusLines = func() (t [600]string) { //nolint:gochecknoglobals // a constant table
	for status := 200; status < len(t); status++ {
		t[status] = "HTTP/1.1 " + strconv.Itoa(status) + " " + http.StatusText(status) + "\r\n"
	}
	return t
}()

func statusLine(status int) string { return statusLines[status] }
