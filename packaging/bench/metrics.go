package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"collectord/collectord/histogram"
)

// benchMetrics measures the cost of metrics: requests with and without concurrent scrapes,
// in turn, and the time that a commit and a request spend on counting.
func benchMetrics(rounds, seconds int, binary, dir string) error {
	dir = filepath.Join(dir, "metrics")
	if err := os.Mkdir(dir, 0o750); err != nil {
		return err
	}
	d, err := startDaemon(binary, dir, "")
	if err != nil {
		return err
	}
	defer d.stop()
	load, err := newLoad(binary, dir)
	if err != nil {
		return err
	}
	const conns = 100
	if _, err := load.run(d.url, conns, seconds); err != nil { // warm-up
		return err
	}
	fmt.Printf("\nmetrics, %d connections    requests/s    while scraped   ratio               scrapes/s      GC\n", conns)
	for _, every := range []time.Duration{time.Second, 0} {
		var alone, scraped, rates, gcs []float64
		var shares ratios
		for range rounds {
			a, err := load.run(d.url, conns, seconds)
			if err != nil {
				return err
			}
			var scrapes atomic.Int64
			stop, stopped := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(stopped)
				d.scrape(every, stop, &scrapes)
			}()
			var b result
			gc, err := d.gcDuring(seconds, func() (err error) {
				b, err = load.run(d.url, conns, seconds)
				return err
			})
			close(stop)
			<-stopped
			if err != nil {
				return err
			}
			alone, scraped, shares, gcs = append(alone, a.rate), append(scraped, b.rate), append(shares, b.rate/a.rate), append(gcs, gc)
			rates = append(rates, float64(scrapes.Load())/float64(seconds))
		}
		name := "without a pause"
		if every > 0 {
			name = "every " + every.String()
		}
		fmt.Printf("scraped %-18s %10.0f %16.0f   %-17s %11.1f %5.1f %%\n", name, median(alone), median(scraped), shares, median(rates), median(gcs))
	}

	h := histogram.NewLatency()
	observe := perCall(func(i int) { h.Observe(uint64(i) * 1000) })
	clock := perCall(func(int) { _ = time.Now() })
	fmt.Printf("counting a value in a histogram: %.1f ns; reading the clock: %.1f ns\n", observe, clock)
	fmt.Printf("a commit counts 4 values and reads the clock 3 times: %.0f ns; a request counts 1 value and reads the clock 2 times: %.0f ns\n", 4*observe+3*clock, observe+2*clock)
	return nil
}

// scrape reads /metrics until stop is closed.
func (d *daemon) scrape(every time.Duration, stop <-chan struct{}, n *atomic.Int64) {
	for {
		if resp, err := http.Get(d.admin + "/metrics"); err == nil {
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			n.Add(1)
		}
		select {
		case <-stop:
			return
		case <-time.After(every):
		}
	}
}

// perCall returns how many nanoseconds a call takes.
func perCall(call func(i int)) float64 {
	const n = 10_000_000
	began := time.Now()
	for i := range n {
		call(i)
	}
	return float64(time.Since(began).Nanoseconds()) / n
}
