// Command bench measures collectord beside what the same machine can do without
// it, in turn and in one run, so that the ratios mean something on a machine
// that is shared and noisy.
//
//	http: single posts by wrk (or collectord send), with fsync before each answer, beside
//	      nginx (or a constant Go handler) answering a constant 201, and beside the durable
//	      limit, which stores each post and does nothing else; with ab
//	drain: single posts while a backlog is shipped to a folder
//	tls:  single posts over TLS, beside nginx with the same certificate
//	udp:  one sender from 10,000 datagrams a second to full blast, and where each of
//	      them went; several usages a datagram; CPU beside a bare recvmmsg loop
//	batches: arrays and NDJSON of 1,000 usages, plain and compressed, beside the
//	      log alone and the decoders alone
//	log:  durable appends, and the same bytes written and synced by a bare loop
//	segments: the log by the size of its segments, the writer of a segment with and without
//	      copies, and a start over 256 MiB that were not sealed
//	ship: shipping to a folder, and the compressor alone on the same lines
//	audit: a deep audit, and decoding the same objects alone
//	listing: audit and fleet of a million listed objects
//	cat:  cat of a folder beside zstdcat, and of many small objects in MinIO, also far away
//	million: single posts, until they are shipped to MinIO and audited
//	backlog: how long the daemon takes to start over 10 GiB that wait for upload
//	metrics: HTTP while somebody scrapes, and what counting takes
//
// With -profile it measures nothing, and records what make profile is for.
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

// usage is what wrk posts and the log is given. It is as long as those that
// collectord send makes up.
const usage = `{"patientId":"10012345","timestamp":"2026-11-23T08:30:12.000Z","medication":"Salbutamol","dose":1}`

func main() {
	rounds := flag.Int("rounds", 3, "rounds; the table shows medians")
	seconds := flag.Int("seconds", 4, "length of each measurement")
	binary := flag.String("binary", "bin/collectord", "the daemon to measure")
	dir := flag.String("dir", "", "where to put data (default: a temporary directory)")
	only := flag.String("only", "", "measure only this: http, drain, tls, udp, batches, log, segments, ship, audit, listing, cat, million, backlog, sizes or metrics")
	profile := flag.String("profile", "", "record a profile for the compiler to this file instead")
	child := flag.String(childFlag, "", "do a part of a measurement, given as JSON, in a process of its own")
	receive := flag.Bool(bareFlag, false, "be the receiver that the udp section compares with")
	limitFile := flag.String(limitFlag, "", "be the server that the http section compares with, and write to this file")
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
	fmt.Println("GC: share of the garbage collector in the daemon's CPU time, by profiles; at most 5 % is the aim")

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
