package send

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// response is the response to a request. Its body is valid until the next response is read.
type response struct {
	status     int
	body       []byte
	replayed   bool
	retryAfter time.Duration
	closes     bool // the connection must be closed after it
}

// retryable reports whether a repetition of the same request may get a different response.
func (a response) retryable() bool {
	switch a.status {
	case 408, 409, 425, 429, 500, 502, 503, 504:
		return true
	}
	return false
}

// retryAfter parses a Retry-After value: seconds or a date (RFC 9110, sections 10.2.3 and
// 5.6.7). It returns 0 for an invalid value.
func retryAfter(value []byte, now time.Time) time.Duration {
	if len(value) == 0 {
		return 0
	}
	if s, err := strconv.ParseUint(string(value), 10, 31); err == nil {
		return time.Duration(s) * time.Second
	}
	for _, layout := range [...]string{"Mon, 02 Jan 2006 15:04:05 GMT", time.RFC850, time.ANSIC} {
		if at, err := time.Parse(layout, string(value)); err == nil {
			return max(at.Sub(now), 0)
		}
	}
	return 0
}

// report is the JSON body of a response: about a usage, a batch, or a problem.
type report struct {
	ID       string
	Code     string
	Detail   string
	Rejected int64
	Errors   []struct {
		Index  int64
		Code   string
		Detail string
	}
}

// parseReport returns the zero report if the body is not valid JSON.
func parseReport(body []byte) (r report) {
	if json.Unmarshal(body, &r) != nil {
		return report{}
	}
	r.ID, r.Code, r.Detail = printable(r.ID), printable(r.Code), printableText(r.Detail)
	for i := range r.Errors {
		e := &r.Errors[i]
		e.Code, e.Detail = printable(e.Code), printableText(e.Detail)
	}
	return r
}

// printable replaces unprintable or long text of the server, which must not reach a
// terminal.
func printable(s string) string {
	if len(s) > 64 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "unprintable"
	}
	return s
}

// printableText is printable for a text with blanks.
func printableText(s string) string {
	if len(s) > 256 || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r >= 0x7f }) {
		return "unprintable"
	}
	return s
}
