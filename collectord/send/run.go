package send

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// run is the state of one run.
type run struct {
	opts     Options
	target   target
	plan     *plan
	counts   *counts
	prepared [][]byte
	header   []byte // start of each request
	key      string // Idempotency-Key of requests, without their number
}

// Run sends usages as the options specify, until all are sent, the time is over, or ctx
// ends. It waits for the responses to requests that were sent. The Summary contains the
// outcome of the usages. The error means that the options are invalid or that nothing
// could be sent.
func Run(ctx context.Context, o Options) (Summary, error) {
	o = o.withDefaults()
	t, err := parseTarget(o.Target)
	if err != nil {
		return Summary{}, err
	}
	if err := o.check(t); err != nil {
		return Summary{}, err
	}
	r := &run{opts: o, target: t, plan: newPlan(o), counts: newCounts(), header: requestHead(o, t), key: o.Key}
	if r.key == "" && o.RetryFor > 0 {
		r.key = rand.Text()
	}
	r.prepare()
	work := r.sendHTTP
	if t.udp() {
		work = r.sendUDP
	}
	took, err := work(ctx)
	s := r.counts.summary(t, took)
	s.Rejections = r.counts.describeRejections(o.Payload)
	s.Interrupted = ctx.Err() != nil
	s.UsagesUnsent = r.unsent(s)
	return s, err
}

// sendUDP sends with one thread per socket.
func (r *run) sendUDP(ctx context.Context) (took time.Duration, err error) {
	if err := r.checkDatagrams(); err != nil {
		return 0, err
	}
	sockets := make([]*socket, r.opts.Connections)
	for i := range sockets {
		s, err := r.dialUDP(ctx)
		if err != nil {
			return 0, err
		}
		defer func() { _ = s.conn.Close() }()
		sockets[i] = s
	}
	defer r.startClock()()
	errs := make([]error, len(sockets))
	var wg sync.WaitGroup
	for i, s := range sockets {
		wg.Go(func() { errs[i] = s.run(ctx) })
	}
	wg.Wait()
	took = time.Since(r.plan.start)
	for _, s := range sockets {
		errs = append(errs, s.lastError())
	}
	return took, errors.Join(errs...)
}

// sendHTTP sends with one goroutine per connection.
func (r *run) sendHTTP(ctx context.Context) (took time.Duration, err error) {
	secure := r.opts.TLS.Clone()
	if secure == nil {
		secure = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if secure.ServerName == "" {
		secure.ServerName, _, _ = net.SplitHostPort(r.target.address)
	}
	clients := make([]*client, r.opts.Connections)
	for i := range clients {
		clients[i] = &client{run: r, conn: &connection{target: r.target, tls: secure, timeout: r.opts.Timeout, counts: r.counts}, batches: r.newBatcher()}
	}
	if err := connect(ctx, clients); err != nil && r.opts.RetryFor == 0 {
		return 0, err
	}
	defer r.startClock()()
	var wg sync.WaitGroup
	var due chan int64
	if r.plan.rate > 0 {
		due = make(chan int64)
		wg.Go(func() { r.dispatch(ctx, due) })
	}
	for _, c := range clients {
		c.due = due
		wg.Go(func() { c.send(ctx) })
	}
	wg.Wait()
	return time.Since(r.plan.start), nil
}

// connect opens the connections, several at a time, before the first request is due. It
// fails only if every attempt fails: later requests may reconnect.
func connect(ctx context.Context, clients []*client) error {
	const parallel = 16
	var failed error
	var connected bool
	var mu sync.Mutex // guards connected and failed
	var wg sync.WaitGroup
	for first := range min(parallel, len(clients)) {
		wg.Go(func() {
			for i := first; i < len(clients); i += parallel {
				err := clients[i].conn.dial(ctx)
				mu.Lock()
				connected, failed = connected || err == nil, errors.Join(failed, err)
				mu.Unlock()
				if err != nil {
					return // the daemon is probably down; the other connections are opened on demand
				}
			}
		})
	}
	wg.Wait()
	if connected {
		return nil
	}
	return fmt.Errorf("no connection: %w", failed)
}

// startClock starts the clock, and reports progress until end is called.
func (r *run) startClock() (end func()) {
	r.plan.start = time.Now()
	if r.opts.Progress == nil {
		return func() {}
	}
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticks := time.NewTicker(200 * time.Millisecond)
		defer ticks.Stop()
		for {
			select {
			case <-stop:
				return
			case <-ticks.C:
				r.opts.Progress(r.plan.progress())
			}
		}
	}()
	return func() { close(stop); <-ended }
}

// unsent returns how many usages were due and were not sent. With a count, all remaining
// usages were due; without one, the rate determines which were due.
func (r *run) unsent(s Summary) int64 {
	handled := s.UsagesSent
	if r.target.udp() {
		handled += s.UsagesFailed // refused by the kernel
	}
	switch {
	case r.opts.Duration == 0:
		return r.opts.Count - handled
	case r.opts.Rate > 0 && !s.Interrupted:
		return r.plan.usages - handled
	}
	return 0
}
