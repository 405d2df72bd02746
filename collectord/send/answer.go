package send

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// answer is what a request was answered. Its body lasts until the next one.
type answer struct {
	status     int
	body       []byte
	replayed   bool
	retryAfter time.Duration
	last       bool // on its connection
}

// again reports whether the same request may be answered otherwise later.
func (a answer) again() bool {
	switch a.status {
	case 408, 409, 425, 429, 500, 502, 503, 504:
		return true
	}
	return false
}

// retryAfter reads seconds or a date (RFC 9110, sections 10.2.3 and 5.6.7).
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

// statement is what a body says: of a batch, or of a problem.
type statement struct {
	ID       string
	Code     string
	Rejected int64
	Errors   []struct{ Code string }
}

func said(body []byte) (s statement) {
	if json.Unmarshal(body, &s) != nil {
		return statement{}
	}
	s.Code = printable(s.Code)
	for i := range s.Errors {
		s.Errors[i].Code = printable(s.Errors[i].Code)
	}
	return s
}

func idOf(body []byte) string { return printable(said(body).ID) }

// printable keeps what another program made up from a terminal.
func printable(s string) string {
	if len(s) > 64 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "unprintable"
	}
	return s
}
