package main

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// benchDoors measures single posts beside a constant answer.
func benchDoors(rounds, seconds int, binary, dir string) error {
	d, err := startDaemon(binary, dir, "")
	if err != nil {
		return err
	}
	defer d.stop()
	constant, stopConstant, err := startConstant(dir)
	if err != nil {
		return err
	}
	defer stopConstant()
	load, err := loader(binary, dir)
	if err != nil {
		return err
	}
	fmt.Printf("load: %s; constant answer: %s\n\n", load.name, constant.name)
	fmt.Println("HTTP              requests/s        p99   p99 of fsync    constant answer        p99    ratio    by collectord send        p99    ratio")
	own := sendLoad(binary)
	for _, conns := range []int{100, 256} {
		if err := d.besideConstant(rounds, seconds, conns, load, own, constant.url); err != nil {
			return err
		}
	}
	if err := d.benchAB(rounds, seconds, dir, constant.url); err != nil {
		return err
	}
	rss, err := d.rss()
	if err != nil {
		return err
	}
	fmt.Printf("\nRSS of the daemon, highest over all rows: %.0f MiB\n", rss)
	return nil
}

// besideConstant measures and prints a row for so many connections.
func (d *daemon) besideConstant(rounds, seconds, conns int, load, own load, constant string) error {
	var ours, theirs, ratios, sends, sendRatios []float64
	var ourP99, theirP99, sendP99, syncP99 []float64
	for range rounds {
		before, err := d.series()
		if err != nil {
			return err
		}
		a, err := load.run(d.url, conns, seconds)
		if err != nil {
			return err
		}
		after, err := d.series()
		if err != nil {
			return err
		}
		b, err := load.run(constant, conns, seconds)
		if err != nil {
			return err
		}
		c, err := own.run(d.url, conns, seconds)
		if err != nil {
			return err
		}
		ours, theirs, ratios = append(ours, a.rate), append(theirs, b.rate), append(ratios, a.rate/b.rate)
		ourP99, theirP99 = append(ourP99, a.p99), append(theirP99, b.p99)
		syncP99 = append(syncP99, 1000*quantile(before, after, "collectord_wal_fsync_seconds", 0.99))
		sends, sendP99, sendRatios = append(sends, c.rate), append(sendP99, c.p99), append(sendRatios, c.rate/a.rate)
	}
	fmt.Printf("%3d connections %12.0f %7.1f ms %6s %5.1f ms %18.0f %7.1f ms %8.2f %21.0f %7.1f ms %8.2f\n",
		conns, median(ours), median(ourP99), "<", median(syncP99), median(theirs), median(theirP99), median(ratios), median(sends), median(sendP99), median(sendRatios))
	return nil
}

// quantile is the bound of the histogram's bucket that holds it, of what was
// observed between two scrapes.
func quantile(before, after map[string]float64, name string, q float64) float64 {
	all := after[name+"_count"] - before[name+"_count"]
	least := math.Inf(1)
	for series, v := range after {
		bound, ok := strings.CutPrefix(series, name+`_bucket{le="`)
		le, err := strconv.ParseFloat(strings.TrimSuffix(bound, `"}`), 64)
		if ok && err == nil && v-before[series] >= q*all {
			least = min(least, le)
		}
	}
	return least
}

// benchAB measures as ab does, with a connection for each request, and with
// HTTP/1.0's keep-alive.
func (d *daemon) benchAB(rounds, seconds int, dir, constant string) error {
	ab, err := exec.LookPath("ab")
	if err != nil {
		fmt.Println("\nab is not installed: no rows for it")
		return nil //nolint:nilerr // as printed
	}
	body := filepath.Join(dir, "post.json")
	if err := os.WriteFile(body, []byte(usage), 0o600); err != nil {
		return err
	}
	run := func(url string, flags ...string) (float64, error) {
		args := append([]string{"-q", "-c", "100", "-t", strconv.Itoa(seconds), "-n", "1000000", "-p", body, "-T", "application/json"}, flags...)
		out, err := exec.Command(ab, append(args, url)...).CombinedOutput()
		if err != nil {
			return 0, fmt.Errorf("ab: %w: %s", err, out)
		}
		rate := regexp.MustCompile(`Requests per second:\s+([\d.]+)`).FindSubmatch(out)
		if rate == nil || strings.Contains(string(out), "Non-2xx") {
			return 0, fmt.Errorf("ab: %s", out)
		}
		return strconv.ParseFloat(string(rate[1]), 64)
	}
	fmt.Println("\nab, 100 connections   requests/s    constant answer    ratio")
	for _, flags := range [][]string{nil, {"-k"}} {
		var ours, theirs, ratios []float64
		for range rounds {
			a, err := run(d.url, flags...)
			if err != nil {
				return err
			}
			b, err := run(constant, flags...)
			if err != nil {
				return err
			}
			ours, theirs, ratios = append(ours, a), append(theirs, b), append(ratios, a/b)
		}
		fmt.Printf("%-20s %12.0f %18.0f %8.2f\n", strings.Join(append([]string{"ab"}, flags...), " "), median(ours), median(theirs), median(ratios))
	}
	return nil
}
