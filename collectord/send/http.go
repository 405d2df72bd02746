package send

import (
	"context"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// A retry waits a random time up to a bound that doubles with each attempt ("full
// jitter").
const (
	firstBackoff = 100 * time.Millisecond
	maxBackoff   = 10 * time.Second
)

// client sends requests, one at a time, over its own connection.
type client struct {
	run      *run
	due      <-chan int64 // numbers of requests that are due; nil: claim the next one
	conn     *connection
	batches  *batcher
	bodyBuf  []byte // buffer of a body
	request  []byte
	failures int // consecutive requests without a response
}

func (c *client) send(ctx context.Context) {
	defer c.conn.close()
	p := c.run.plan
	if c.due != nil {
		for k := range c.due {
			c.sendBatch(ctx, k, p.start.Add(p.due(k)))
		}
		return
	}
	for ctx.Err() == nil {
		k, n, _ := p.claim(1)
		if n == 0 {
			return
		}
		c.sendBatch(ctx, k, time.Now())
	}
}

// sendBatch sends request k until it has a final response or must not be retried. Its
// latency counts from due.
func (c *client) sendBatch(ctx context.Context, k int64, due time.Time) {
	counts, usages := c.run.counts, c.run.plan.size(k)
	counts.sent.Add(usages)
	c.buildRequest(k)
	began := time.Now()
	for attempt := 0; ; attempt++ {
		a, err := c.conn.exchange(ctx, c.request)
		now := time.Now()
		rejected := c.countResponse(k, a, err)
		retry := err != nil || a.retryable()
		if retry && c.pauseBeforeRetry(ctx, attempt, a.retryAfter, c.run.opts.RetryFor-now.Sub(began)) {
			counts.retries.Add(1)
			continue
		}
		if err != nil {
			counts.failed.Add(usages)
			c.pauseAfterFailure(ctx)
			return
		}
		c.failures = 0
		counts.latencies.observe(now.Sub(due))
		switch {
		case a.status >= 200 && a.status < 300:
			rejected = min(max(rejected, 0), usages)
			counts.acknowledged.Add(usages - rejected)
			counts.rejected.Add(rejected)
			if a.replayed {
				counts.repeated.Add(usages - rejected)
			}
			if c.run.plan.usages == 1 {
				counts.setID(parseReport(a.body).ID)
			}
		case retry:
			counts.failed.Add(usages)
		default:
			counts.rejected.Add(usages)
			report := parseReport(a.body)
			c.addRejection(rejection{first: k * c.run.plan.batchSize, usages: usages, status: a.status, code: report.Code, detail: report.Detail})
		}
		return
	}
}

// countResponse counts a response to request k, or the error if there is none, and the error
// codes of the response. It returns how many usages were rejected.
func (c *client) countResponse(k int64, a response, err error) (rejected int64) {
	counts := c.run.counts
	if err != nil {
		counts.countError(reasonOf(err))
		return 0
	}
	counts.statuses[a.status].Add(1)
	if a.status > 200 && a.status < 300 {
		return 0 // all usages are stored
	}
	report := parseReport(a.body)
	if report.Code != "" { // a problem document, which may list some of its usages
		counts.countCode(report.Code, 1)
		return report.Rejected
	}
	for _, e := range report.Errors {
		counts.countCode(e.Code, 1)
		if e.Index >= 0 && e.Index < c.run.plan.size(k) {
			c.addRejection(rejection{first: k*c.run.plan.batchSize + e.Index, usages: 1, status: a.status, code: e.Code, detail: e.Detail})
		}
	}
	return report.Rejected
}

// addRejection records a rejection. A server may repeat the token, which must not be printed.
func (c *client) addRejection(r rejection) {
	if token := c.run.opts.Token; token != "" && strings.Contains(r.code+" "+r.detail, token) {
		r.code, r.detail = "unprintable", ""
	}
	c.run.counts.addRejection(r)
}

// pauseBeforeRetry waits before a retry. It returns false if the wait would exceed
// timeLeft, or if ctx ends.
func (c *client) pauseBeforeRetry(ctx context.Context, attempt int, minWait, timeLeft time.Duration) bool {
	wait := max(backoff(attempt), minWait)
	return wait < timeLeft && sleep(ctx, wait)
}

// pauseAfterFailure waits after a failed request, so that a client does not busy-loop
// while the daemon is down.
func (c *client) pauseAfterFailure(ctx context.Context) {
	c.failures++
	sleep(ctx, backoff(min(c.failures, 8)-5)) // an upper bound of 6 to 800 ms
}

// buildRequest builds request k in c.request, which the next call overwrites.
func (c *client) buildRequest(k int64) {
	body := c.batches.body(&c.bodyBuf, k)
	b := append(c.request[:0], c.run.header...)
	if c.run.key != "" {
		b = append(b, "Idempotency-Key: "...)
		b = append(b, c.run.key...)
		b = append(b, '-')
		b = strconv.AppendInt(b, k, 10)
		b = append(b, "\r\n"...)
	}
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(len(body)), 10)
	b = append(b, "\r\n\r\n"...)
	c.request = append(b, body...)
}

// backoff returns a random wait before the given retry. A negative attempt has a shorter
// bound than firstBackoff.
func backoff(attempt int) time.Duration {
	limit := min(firstBackoff<<max(min(attempt, 16), 0)>>max(min(-attempt, 16), 0), maxBackoff)
	return rand.N(limit)
}

// sleep waits for d. It returns false if ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return ctx.Err() == nil
	}
}

// dispatch sends the numbers of requests when they are due. Idle clients receive them.
func (r *run) dispatch(ctx context.Context, due chan<- int64) {
	defer close(due)
	over := make(<-chan time.Time)
	if r.plan.maxDuration > 0 {
		t := time.NewTimer(r.plan.maxDuration)
		defer t.Stop()
		over = t.C
	}
	for ctx.Err() == nil {
		k, n, wait := r.plan.claim(64)
		if n == 0 {
			if wait == 0 {
				return
			}
			shortSleep(wait)
			continue
		}
		for i := range n {
			select {
			case due <- k + i:
			case <-over:
				return
			case <-ctx.Done():
				return
			}
		}
	}
}

// requestHead returns the start of all requests.
func requestHead(o Options, t target) []byte {
	mediaType := "application/json"
	if o.Lines {
		mediaType = "application/x-ndjson"
	}
	b := []byte("POST " + t.path + " HTTP/1.1\r\nHost: " + t.host + "\r\nUser-Agent: collectord-send\r\nContent-Type: " + mediaType + "\r\n")
	if o.Compress != "" {
		b = append(b, "Content-Encoding: "+o.Compress+"\r\n"...)
	}
	if o.Token != "" {
		b = append(b, "Authorization: Bearer "+o.Token+"\r\n"...)
	}
	return b
}
