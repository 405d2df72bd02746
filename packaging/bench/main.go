// Command bench compares collectord with simpler programs on the same machine. It measures
// both in turn in one run, so that the ratios are meaningful on a shared, noisy machine.
//
//	http: single posts by wrk (or collectord send), with fsync before each response, compared
//	      with a constant 201 by nginx (or a Go handler) and with the durable limit, which
//	      stores each post and does nothing else; also by ab
//	drain: single posts while a backlog is shipped to a folder
//	tls:  single posts over TLS, compared with nginx and the same certificate
//	udp:  one sender from 10,000 datagrams per second to its maximum, and where datagrams are
//	      lost; several usages per datagram; CPU time compared with a bare recvmmsg loop
//	batches: arrays and NDJSON of 1,000 usages, plain and compressed, compared with the log
//	      alone and the decoders alone
//	log:  durable appends, compared with a bare loop that writes and syncs the same bytes
//	segments: the log by segment size, the segment writer with and without copies, and a
//	      start over 256 MiB that were not sealed
//	ship: shipping to a folder, compared with the compressor alone on the same lines
//	audit: a deep audit, compared with decoding the same objects alone
//	listing: audit and fleet of a million listed objects
//	cat:  cat of a folder compared with zstdcat, and of many small objects in a local and a
//	      remote MinIO
//	million: a million single posts until they are shipped to MinIO and audited
//	backlog: the start of the daemon over 10 GiB that wait for upload
//	sizes: batches with several segment sizes, shipped to a folder
//	metrics: HTTP with concurrent scrapes, and the time for counting
//
// With -profile it records the profile of make profile instead of measuring.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
)

// usage is the usage that wrk posts and that the log stores. It has the length of the
// usages that collectord send generates.
const usage = `{"patientId":"10012345","timestamp":"2026-11-23T08:30:12.000Z","medication":"Salbutamol","dose":1}`

func main() {
	rounds := flag.Int("rounds", 3, "rounds; the table shows medians")
	seconds := flag.Int("seconds", 4, "length of each measurement")
	binary := flag.String("binary", "bin/collectord", "the daemon to measure")
	dir := flag.String("dir", "", "where to put data (default: a temporary directory)")
	only := flag.String("only", "", "measure only this: http, drain, tls, udp, batches, log, segments, ship, audit, listing, cat, million, backlog, sizes or metrics")
	profile := flag.String("profile", "", "record a profile for the compiler to this file instead")
	child := flag.String(childFlag, "", "run a part of a measurement, given as JSON, in a separate process")
	receive := flag.Bool(bareFlag, false, "run the receiver with which the udp section compares")
	limitFile := flag.String(limitFlag, "", "run the server with which the http section compares; it writes to this file")
	flag.Parse()
	if *receive {
		if err := receiveBare(); err != nil {
			fmt.Fprintln(os.Stderr, "bare receiver:", err)
			os.Exit(1)
		}
		return
	}
	if *limitFile != "" {
		if err := serveLimit(*limitFile); err != nil {
			fmt.Fprintln(os.Stderr, "durable limit:", err)
			os.Exit(1)
		}
		return
	}
	if *child != "" {
		if err := runChild(*child); err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
		return
	}
	if err := bench(*rounds, *seconds, *binary, *dir, *only, *profile); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(rounds, seconds int, binary, dir, only, profile string) error {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return err
	}
	if dir == "" {
		if dir, err = os.MkdirTemp("", "collectord-bench-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	if profile != "" {
		return recordProfile(seconds, binary, dir, profile)
	}
	fmt.Printf("machine: %d cores, Linux %s, %s; load generators on the same machine\n", runtime.NumCPU(), kernel(), cpu())
	fmt.Printf("usage: %d bytes; %d rounds of %d s; medians, and of ratios also the lowest and highest; fsync before each 201\n", len(usage), rounds, seconds)
	fmt.Println("GC: share of the garbage collector in the daemon's CPU time, by profiles; the aim is at most 5 %")

	known := only == ""
	for _, part := range parts(rounds, seconds, binary, dir) {
		if only != "" && only != part.name {
			continue
		}
		known = true
		if err := part.run(); err != nil {
			return err
		}
	}
	if !known {
		return fmt.Errorf("no measurement is called %q", only)
	}
	return nil
}

type part struct {
	name string
	run  func() error
}

func parts(rounds, seconds int, binary, dir string) []part {
	timed := func(f func(rounds, seconds int, binary, dir string) error) func() error {
		return func() error { return f(rounds, seconds, binary, dir) }
	}
	counted := func(f func(rounds int, binary, dir string) error) func() error {
		return func() error { return f(rounds, binary, dir) }
	}
	return []part{
		{"http", timed(benchHTTP)},
		{"drain", timed(benchDrain)},
		{"tls", timed(benchTLS)},
		{"udp", timed(benchUDP)},
		{"batches", timed(benchBatches)},
		{"log", func() error { return benchLogs(rounds, seconds, dir) }},
		{"segments", func() error { return benchSegments(rounds, seconds, dir) }},
		{"ship", func() error { return benchShip(rounds, dir) }},
		{"audit", counted(benchAudit)},
		{"listing", counted(benchListing)},
		{"cat", counted(benchCat)},
		{"million", func() error { return benchMillion(binary, dir) }},
		{"backlog", func() error { return benchBacklog(binary, dir) }},
		{"sizes", func() error { return benchDaemonSizes(seconds, binary, dir) }},
		{"metrics", timed(benchMetrics)},
	}
}

func kernel() string {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "?"
	}
	return strings.TrimSpace(string(b))
}

func cpu() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	if m := regexp.MustCompile(`model name\s*: (.*)`).FindSubmatch(b); m != nil {
		return string(m[1])
	}
	return runtime.GOARCH
}
