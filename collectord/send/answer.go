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

// report is the JSON of an answer's body: on a usage, a batch, or a problem.
type report struct {
	ID       string
	Code     string
	Rejected int64
	Errors   []struct{ Code string }
}

// parseReport returns the zero report for what is not JSON.
func parseReport(body []byte) (r report) {
	if json.Unmarshal(body, &r) != nil {
		return report{}
	}
	r.ID, r.Code = printable(r.ID), printable(r.Code)
	for i := range r.Errors {
		r.Errors[i].Code = printable(r.Errors[i].Code)
	}
	return r
}

// printable keeps what another program made up from a terminal.
func printable(s string) string {
	if len(s) > 64 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "unprintable"
	}
	return s
}
