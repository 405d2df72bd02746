package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// benchHTTP compares single posts with a constant response and with the durable limit.
func benchHTTP(rounds, seconds int, binary, dir string) error {
	dir = filepath.Join(dir, "http")
	if err := os.MkdirAll(dir, 0o755); err != nil { // nginx's workers run as another user
		return err
	}
	d, err := startDaemon(binary, dir, "")
	if err != nil {
		return err
	}
	defer d.stop()
	c, err := startConstant(dir, nil)
	if err != nil {
		return err
	}
	defer c.stop()
	load, err := newLoad(binary, dir)
	if err != nil {
		return err
	}
	fmt.Printf("single posts; load: %s\n", load.name)
	rows := []*posts{
		{conns: 8},
		{conns: 100, constant: comparison{floor: 0.55, aim: 0.65}, limit: comparison{floor: 0.8, aim: 0.95}},
		{conns: 256, constant: comparison{floor: 0.65, aim: 0.8}, limit: comparison{floor: 0.8, aim: 0.95}},
		{conns: 1000, constant: comparison{floor: 0.65, aim: 0.8}, limit: comparison{floor: 0.8, aim: 0.95}},
	}
	for _, row := range rows {
		for i := range rounds {
			if err := row.measure(i, d, load, seconds, rival{c.url, &row.constant}, rival{"", &row.limit}); err != nil {
				return err
			}
		}
	}
	printComparison(c.name, rows, func(p *posts) *comparison { return &p.constant })
	printComparison("the durable limit: a thread in epoll, another that writes and syncs, no checks", rows, func(p *posts) *comparison { return &p.limit })
	printLatency(rows)
	if err := d.benchSend(rounds, seconds, load, sendLoad(binary)); err != nil {
		return err
	}
	if err := d.benchAB(rounds, seconds, dir, c); err != nil {
		return err
	}
	rss, err := d.rss()
	if err != nil {
		return err
	}
	fmt.Printf("\nRSS of the daemon, highest over all rows: %.0f MiB\n", rss)
	return nil
}

// benchSend compares the load generators: collectord send should cost no more than wrk.
func (d *daemon) benchSend(rounds, seconds int, load, own load) error {
	if load.name == own.name {
		return nil
	}
	fmt.Printf("\nby collectord send, compared with %s\nconnections   requests/s        p99      GC      theirs        p99   ratio\n", load.name)
	for _, conns := range []int{100, 256} {
		var rates, p99, gcs, loadRates, loadP99 []float64
		var shares ratios
		for range rounds {
			var a result
			gc, err := d.gcDuring(seconds, func() (err error) {
				a, err = own.run(d.url, conns, seconds)
				return err
			})
			if err != nil {
				return err
			}
			b, err := load.run(d.url, conns, seconds)
			if err != nil {
				return err
			}
			rates, p99, gcs, shares = append(rates, a.rate), append(p99, a.p99), append(gcs, gc), append(shares, a.rate/b.rate)
			loadRates, loadP99 = append(loadRates, b.rate), append(loadP99, b.p99)
		}
		fmt.Printf("%11d %12.0f %7.1f ms %5.1f %% %11.0f %7.1f ms   %s\n", conns, median(rates), median(p99), median(gcs), median(loadRates), median(loadP99), shares)
	}
	return nil
}
