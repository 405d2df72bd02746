package main

import (
	"fmt"
	"path/filepath"
	"slices"
)

// posts is a row of single posts over conns connections, with the results of each round.
type posts struct {
	conns           int
	rates, p99, gcs []float64

	constant, limit comparison
	syncP99         []float64 // of the durable limit, in milliseconds
}

// comparison is another server under the same load, and collectord's ratio to it.
type comparison struct {
	floor, aim float64 // of the ratio; 0: none
	rates, p99 []float64
	ratios     ratios
}

// rival is a server that is measured in turn with collectord.
type rival struct {
	url string // of a running server; "": the durable limit, which measure starts
	to  *comparison
}

// measure does one round: collectord and its rivals in turn. Every second round runs in
// reverse order.
func (p *posts) measure(round int, d *daemon, load load, seconds int, rivals ...rival) error {
	var ours result
	others := make([]result, len(rivals))
	turns := []func() error{func() (err error) {
		ours, err = p.measureOwn(d, load, seconds)
		return err
	}}
	for i, r := range rivals {
		turns = append(turns, func() (err error) {
			if r.url != "" {
				others[i], err = load.run(r.url, p.conns, seconds)
				return err
			}
			run, err := againstLimit(filepath.Dir(d.dir), load, p.conns, seconds)
			others[i], p.syncP99 = run.result, append(p.syncP99, run.syncP99)
			return err
		})
	}
	if round%2 == 1 {
		slices.Reverse(turns)
	}
	for _, turn := range turns {
		if err := turn(); err != nil {
			return err
		}
	}
	for i, r := range rivals {
		r.to.rates, r.to.p99 = append(r.to.rates, others[i].rate), append(r.to.p99, others[i].p99)
		r.to.ratios = append(r.to.ratios, ours.rate/others[i].rate)
	}
	return nil
}

func (p *posts) measureOwn(d *daemon, load load, seconds int) (own result, err error) {
	gc, err := d.gcDuring(seconds, func() (err error) {
		own, err = load.run(d.url, p.conns, seconds)
		return err
	})
	p.rates, p.p99, p.gcs = append(p.rates, own.rate), append(p.p99, own.p99), append(p.gcs, gc)
	return own, err
}

// printComparison prints rows with the results of one of their rivals.
func printComparison(name string, rows []*posts, of func(*posts) *comparison) {
	fmt.Printf("\ncompared with %s\nconnections   requests/s        p99      GC       theirs        p99   ratio              floor    aim\n", name)
	for _, p := range rows {
		b := of(p)
		fmt.Printf("%11d %12.0f %7.1f ms %5.1f %% %12.0f %7.1f ms   %-17s %6s %6s\n", p.conns, median(p.rates), median(p.p99), median(p.gcs),
			median(b.rates), median(b.p99), b.ratios, goal(b.floor), goal(b.aim))
	}
}

func goal(v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", v)
}

// printLatency prints the p99 of rows and its limit: twice the p99 of the disk plus 1 ms. It
// also prints how far the durable limit itself is from that.
func printLatency(rows []*posts) {
	fmt.Println("\np99 of requests, compared with the p99 of write and fdatasync that the durable limit measured in the same round")
	fmt.Println("connections   requests  write and fdatasync     at most   p99 / at most       the durable limit's")
	for _, p := range rows {
		var maxP99 []float64
		var shares, limitShares ratios
		for i, sync := range p.syncP99 {
			maxP99 = append(maxP99, 2*sync+1)
			shares = append(shares, p.p99[i]/maxP99[i])
			limitShares = append(limitShares, p.limit.p99[i]/maxP99[i])
		}
		fmt.Printf("%11d %7.2f ms %17.2f ms %8.2f ms   %-17s   %s\n", p.conns, median(p.p99), median(p.syncP99), median(maxP99), shares, limitShares)
	}
}
