package send

import (
	"cmp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Summary is the result of a run. Its JSON names are stable.
type Summary struct {
	Target      string  `json:"target"`
	Seconds     float64 `json:"seconds"`
	Interrupted bool    `json:"interrupted"`
	ID          string  `json:"id,omitempty"` // of the usage, if the run has only one

	Requests  int64 `json:"requests"`  // sent, including retries; HTTP only
	Retries   int64 `json:"retries"`   // requests that were repeated
	Datagrams int64 `json:"datagrams"` // accepted by the kernel; UDP only

	UsagesSent         int64 `json:"usages_sent"`         // at least once; UDP: accepted by the kernel
	UsagesAcknowledged int64 `json:"usages_acknowledged"` // HTTP only, including UsagesRepeated
	UsagesRepeated     int64 `json:"usages_repeated"`     // the daemon had acknowledged them before, and stored them once
	UsagesRejected     int64 `json:"usages_rejected"`     // by a final response
	UsagesFailed       int64 `json:"usages_failed"`       // neither acknowledged nor rejected
	UsagesUnsent       int64 `json:"usages_unsent"`       // not sent when the run ended

	BytesSent     int64 `json:"bytes_sent"` // with headers; UDP: payload only
	BytesReceived int64 `json:"bytes_received"`

	UsagesPerSecond   float64 `json:"usages_per_second"`   // acknowledged; UDP: sent
	RequestsPerSecond float64 `json:"requests_per_second"` // UDP: datagrams

	Latency *Latency `json:"latency_ms,omitempty"` // of requests with a response

	Statuses map[string]int64 `json:"statuses"` // number of responses by status
	Codes    map[string]int64 `json:"codes"`    // error codes of problems, and of usages rejected in a batch
	Errors   map[string]int64 `json:"errors"`   // reasons for missing responses

	Rejections []Rejection `json:"rejections"` // the first maxRejections, by their place in the payload
}

// Rejection names usages that a response rejected.
type Rejection struct {
	Where  string `json:"where"`  // lines of the payload, or the numbers of the usages, counted from 1
	Status int    `json:"status"` // of the response; 200 if it accepted other usages of the request
	Code   string `json:"code"`
	Detail string `json:"detail"`          // in the words of the server; a byte is one of the request
	Cause  string `json:"cause,omitempty"` // the usage for which the whole request was rejected, if it is known
}

// maxRejections limits how many rejections are reported.
const maxRejections = 10

// rejection is a Rejection by the numbers of its usages in the run.
type rejection struct {
	first, usages int64
	status        int
	code, detail  string
}

// Complete reports whether every due usage was acknowledged or, with UDP, accepted by the
// kernel without an error.
func (s Summary) Complete() bool {
	return s.UsagesRejected+s.UsagesFailed+s.UsagesUnsent == 0 && (s.Datagrams == 0 || len(s.Errors) == 0)
}

// maxReasons limits how many different codes and errors are counted separately, since a
// server could send any number of codes.
const maxReasons = 100

// counts are the totals of all workers.
type counts struct {
	requests, retries, datagrams                   atomic.Int64
	sent, acknowledged, repeated, rejected, failed atomic.Int64
	bytesSent, bytesReceived                       atomic.Int64
	statuses                                       [1000]atomic.Int64
	latencies                                      histogram

	mu            sync.Mutex // guards the fields below
	codes, errors map[string]int64
	id            string
	rejections    []rejection // at most maxRejections
}

func newCounts() *counts { return &counts{codes: map[string]int64{}, errors: map[string]int64{}} }

func (c *counts) countCode(code string, n int64) { c.countReason(c.codes, code, n) }

func (c *counts) setID(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.id = id
}

func (c *counts) addRejection(r rejection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := false // a wrong token is reported once, and not for each request
	switch r.status {
	case 401, 403, 404, 405:
		known = slices.ContainsFunc(c.rejections, func(o rejection) bool { return o.status == r.status })
	}
	if !known && len(c.rejections) < maxRejections {
		c.rejections = append(c.rejections, r)
	}
}

// describeRejections returns the rejections with the places of their usages in p, which may
// be nil.
func (c *counts) describeRejections(p *Payload) []Rejection {
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.SortFunc(c.rejections, func(a, b rejection) int { return cmp.Compare(a.first, b.first) })
	all := []Rejection{}
	for _, r := range c.rejections {
		d := Rejection{Where: p.where(r.first, r.usages), Status: r.status, Code: r.code, Detail: r.detail}
		for n := r.first; r.usages > 1 && n < r.first+r.usages; n++ {
			if p != nil && !p.isObject(n) {
				d.Cause = p.where(n, 1) + " is not a JSON object"
				break
			}
		}
		all = append(all, d)
	}
	return all
}

func (c *counts) countError(reason string) { c.countReason(c.errors, reason, 1) }

func (c *counts) countReason(m map[string]int64, reason string, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := m[reason]; !known && len(m) >= maxReasons {
		reason = "others"
	}
	m[reason] += n
}

func (c *counts) summary(t target, took time.Duration) Summary {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Summary{
		Target: t.String(), Seconds: took.Seconds(), ID: c.id,
		Requests: c.requests.Load(), Retries: c.retries.Load(), Datagrams: c.datagrams.Load(),
		UsagesSent: c.sent.Load(), UsagesAcknowledged: c.acknowledged.Load(), UsagesRepeated: c.repeated.Load(),
		UsagesRejected: c.rejected.Load(), UsagesFailed: c.failed.Load(),
		BytesSent: c.bytesSent.Load(), BytesReceived: c.bytesReceived.Load(),
		Latency: c.latencies.summary(), Statuses: map[string]int64{}, Codes: c.codes, Errors: c.errors,
	}
	for status := range c.statuses {
		if n := c.statuses[status].Load(); n > 0 {
			s.Statuses[strconv.Itoa(status)] = n
		}
	}
	usages, sent := s.UsagesAcknowledged, s.Requests
	if t.udp() {
		usages, sent = s.UsagesSent, s.Datagrams
	}
	if took > 0 {
		s.UsagesPerSecond = float64(usages) / took.Seconds()
		s.RequestsPerSecond = float64(sent) / took.Seconds()
	}
	return s
}
