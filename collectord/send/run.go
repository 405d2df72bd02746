package send

import (
	"context"
	"errors"
	"sync"
	"time"
)

// run is one run.
type run struct {
	opts     Options
	target   target
	plan     *plan
	counts   *counts
	prepared [][]byte
}

// Run sends what o says, until all is sent, the time is over, or ctx ends: then
// requests under way are still answered. The error is that nothing could be sent
// at all; what came of the usages is in the Summary.
func Run(ctx context.Context, o Options) (Summary, error) {
	o = o.withDefaults()
	t, err := parseTarget(o.Target)
	if err != nil {
		return Summary{}, err
	}
	if err := o.check(t); err != nil {
		return Summary{}, err
	}
	r := &run{opts: o, target: t, plan: newPlan(o), counts: newCounts()}
	r.prepare()
	workers, err := r.dial(ctx)
	if err != nil {
		return Summary{}, err
	}
	r.plan.start = time.Now()
	stopWatching := r.watch()
	err = r.work(ctx, workers)
	stopWatching()
	s := r.counts.summary(t, time.Since(r.plan.start))
	s.Interrupted = ctx.Err() != nil
	s.UsagesUnsent = r.unsent(s)
	return s, err
}

// worker sends what is due until there is no more, or ctx ends.
type worker interface {
	run(ctx context.Context) error
}

// dial makes a worker for each connection or socket.
func (r *run) dial(ctx context.Context) (workers []worker, err error) {
	if err := r.checkDatagrams(); err != nil {
		return nil, err
	}
	for range r.opts.Connections {
		s, err := r.dialUDP(ctx)
		if err != nil {
			for _, w := range workers {
				err = errors.Join(err, w.(*socket).conn.Close()) //nolint:forcetypeassert // made above
			}
			return nil, err
		}
		workers = append(workers, s)
	}
	return workers, nil
}

func (r *run) work(ctx context.Context, workers []worker) error {
	errs := make([]error, len(workers))
	var wg sync.WaitGroup
	for i, w := range workers {
		wg.Go(func() { errs[i] = w.run(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// unsent is how many usages were to be sent by now and were not: all of the rest
// where a count was given, else those that were due.
func (r *run) unsent(s Summary) int64 {
	took := s.UsagesSent + s.UsagesFailed
	if r.target.udp() {
		took = s.UsagesSent + s.UsagesFailed
	}
	switch {
	case r.opts.Count > 0 && (r.opts.Duration == 0 || s.Interrupted):
		return r.opts.Count - took
	case r.opts.Rate > 0 && !s.Interrupted:
		return r.plan.usages - took
	}
	return 0
}

// watch tells of the progress until it is stopped.
func (r *run) watch() (stop func()) {
	if r.opts.Progress == nil {
		return func() {}
	}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticks := time.NewTicker(200 * time.Millisecond)
		defer ticks.Stop()
		for {
			select {
			case <-end:
				return
			case <-ticks.C:
				r.opts.Progress(r.plan.progress())
			}
		}
	}()
	return func() { close(end); <-ended }
}
