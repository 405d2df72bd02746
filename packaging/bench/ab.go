package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// benchAB measures single posts by ab: with one connection per request, and with the
// keep-alive of HTTP/1.0. The latter is also compared with the durable limit.
func (d *daemon) benchAB(rounds, seconds int, dir string, c constantServer) error {
	fmt.Printf("\nab, 100 connections, compared with %s\n", c.name)
	ab, err := exec.LookPath("ab")
	if err != nil {
		fmt.Println("not measured: ab is not installed")
		return nil //nolint:nilerr // reported on stdout
	}
	body := filepath.Join(dir, "post.json")
	if err := os.WriteFile(body, []byte(usage), 0o600); err != nil {
		return err
	}
	run := func(url string, seconds int, flags ...string) (float64, error) {
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
	limitRate := func(seconds int, flags ...string) (float64, error) {
		p, err := startReceiver("-"+limitFlag, filepath.Join(dir, "durable-limit"))
		if err != nil {
			return 0, err
		}
		rate, err := run("http://"+p.addr+"/api/usages", seconds, flags...)
		_, _, stopErr := p.stop()
		return rate, errors.Join(err, stopErr)
	}
	fmt.Println("          requests/s      GC       theirs   ratio              floor   durable limit   of theirs          ratio to it")
	for _, row := range []struct {
		name            string
		flags           []string
		floor           float64
		rounds, seconds int
	}{
		{"ab", nil, 0, rounds, seconds},
		{"ab -k", []string{"-k"}, 0.75, 4 * rounds, max(1, seconds/2)}, // on a busy machine, this ratio varies the most
	} {
		var own, constant, limit, gcs []float64
		var toConstant, limitToConstant, toLimit ratios
		for range row.rounds {
			var ours float64
			gc, err := d.gcDuring(row.seconds, func() (err error) {
				ours, err = run(d.url, row.seconds, row.flags...)
				return err
			})
			if err != nil {
				return err
			}
			theirs, err := run(c.url, row.seconds, row.flags...)
			if err != nil {
				return err
			}
			limits := 0.0
			if row.flags != nil { // the durable limit keeps every connection
				if limits, err = limitRate(row.seconds, row.flags...); err != nil {
					return err
				}
			}
			own, constant, limit, gcs = append(own, ours), append(constant, theirs), append(limit, limits), append(gcs, gc)
			toConstant, limitToConstant, toLimit = append(toConstant, ours/theirs), append(limitToConstant, limits/theirs), append(toLimit, ours/limits)
		}
		fmt.Printf("%-6s %13.0f %5.1f %% %12.0f   %-17s %6s", row.name, median(own), median(gcs), median(constant), toConstant, goal(row.floor))
		if row.flags != nil {
			fmt.Printf(" %15.0f   %-17s  %s", median(limit), limitToConstant, toLimit)
		}
		fmt.Println()
	}
	return nil
}
