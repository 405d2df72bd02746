package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// benchAB measures single posts by ab: with one connection per request, and with the
// keep-alive of HTTP/1.0.
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
	fmt.Println("          requests/s      GC       theirs   ratio              floor")
	for _, row := range []struct {
		name  string
		flags []string
		floor float64
	}{{"ab", nil, 0}, {"ab -k", []string{"-k"}, 0.75}} {
		var ours, theirs, gcs []float64
		var shares ratios
		for range rounds {
			var a float64
			gc, err := d.gcDuring(seconds, func() (err error) {
				a, err = run(d.url, row.flags...)
				return err
			})
			if err != nil {
				return err
			}
			b, err := run(c.url, row.flags...)
			if err != nil {
				return err
			}
			ours, theirs, shares, gcs = append(ours, a), append(theirs, b), append(shares, a/b), append(gcs, gc)
		}
		fmt.Printf("%-6s %13.0f %5.1f %% %12.0f   %-17s %6s\n", row.name, median(ours), median(gcs), median(theirs), shares, goal(row.floor))
	}
	return nil
}
