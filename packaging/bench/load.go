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

type result struct{ rate, p99 float64 } // requests per second, milliseconds

type load struct {
	name string
	run  func(url string, conns, seconds int) (result, error)
}

// newLoad returns wrk or, without wrk, collectord send.
func newLoad(binary, dir string) (load, error) {
	wrk, err := exec.LookPath("wrk")
	if err != nil {
		return sendLoad(binary), nil //nolint:nilerr // wrk is optional
	}
	script := filepath.Join(dir, "post.lua")
	text := fmt.Sprintf("wrk.method='POST'\nwrk.headers['Content-Type']='application/json'\nwrk.body='%s'\n", usage)
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		return load{}, err
	}
	return load{"wrk, 2 threads", func(url string, conns, seconds int) (r result, err error) {
		out, err := exec.Command(wrk, "-t2", fmt.Sprintf("-c%d", conns), fmt.Sprintf("-d%ds", seconds), "--timeout", "10s", "--latency", "-s", script, url).CombinedOutput()
		if err == nil && (strings.Contains(string(out), "Non-2xx") || strings.Contains(string(out), "Socket errors")) {
			err = errors.New("not all requests were answered 201")
		}
		if err != nil {
			return r, fmt.Errorf("wrk: %w: %s", err, out)
		}
		rate := regexp.MustCompile(`Requests/sec:\s+([\d.]+)`).FindSubmatch(out)
		p99 := regexp.MustCompile(`99%\s+([\d.]+)(us|ms|s)`).FindSubmatch(out)
		if rate == nil || p99 == nil {
			return r, fmt.Errorf("wrk: %s", out)
		}
		r.rate, _ = strconv.ParseFloat(string(rate[1]), 64)
		if r.rate == 0 {
			return r, fmt.Errorf("wrk: no request was answered in %d s", seconds)
		}
		r.p99, _ = strconv.ParseFloat(string(p99[1]), 64)
		r.p99 *= map[string]float64{"us": 0.001, "ms": 1, "s": 1000}[string(p99[2])]
		return r, nil
	}}, nil
}
