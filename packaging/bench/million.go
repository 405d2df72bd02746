package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// million is the minimum number of usages that are posted one by one.
const million = 1_000_000

// benchMillion measures how long it takes until a million single posts are acknowledged,
// shipped to MinIO, and verified by a deep audit. The load generator and MinIO run on the
// same cores.
func benchMillion(binary, dir string) error {
	dir = filepath.Join(dir, "million")
	server, err := startMinIO(dir)
	if err != nil {
		return err
	}
	if server == nil {
		fmt.Println("\na million single posts, shipped to MinIO and audited: not measured: there is no minio (make tools builds it)")
		return nil
	}
	defer server.stop()
	d, err := startDaemon(binary, dir, "shutdown: {grace: 5m}\n"+server.settings)
	if err != nil {
		return err
	}
	stopped := false
	defer func() {
		if !stopped {
			d.stop()
		}
	}()
	load, err := newLoad(binary, dir)
	if err != nil {
		return err
	}
	began := time.Now()
	n := 0
	var gcs []float64
	for last := 0; n < million; {
		// Estimate the remaining time, to post few more than a million.
		seconds := 1
		if last > 0 {
			seconds = min(4, max(1, (million-n)/last))
		}
		gc, err := d.gcDuring(seconds, func() error {
			_, err := load.run(d.url, 256, seconds)
			return err
		})
		if err != nil {
			return err
		}
		gcs = append(gcs, gc)
		all, err := d.series()
		if err != nil {
			return err
		}
		now := int(all[`collectord_usages_appended_total{source="http"}`])
		last, n = (now-n)/seconds, now
	}
	posted := time.Since(began)
	rss, err := d.rss()
	if err != nil {
		return err
	}
	d.stop() // seals the log and ships the rest
	stopped = true
	shipped := time.Since(began)
	out, err := exec.Command(binary, "audit", "--deep", "--from-start", "--json", "--config", filepath.Join(dir, "collectord.yaml")).Output()
	if err != nil {
		return fmt.Errorf("audit: %w: %s", err, out)
	}
	took := time.Since(began)
	var log struct{ Records int }
	var sum struct{ Right bool }
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	if len(lines) != 2 || json.Unmarshal(lines[0], &log) != nil || json.Unmarshal(lines[1], &sum) != nil || !sum.Right || log.Records != n {
		return fmt.Errorf("%d usages were acknowledged, but the audit reports %s", n, strings.TrimSpace(string(out)))
	}
	fmt.Printf("\n%d single posts, 256 connections: acknowledged after %.1f s, shipped to MinIO after %.1f s, audited to the last record after %.1f s (aim 6 s for a million); RSS %.0f MiB; GC %.1f %%\n",
		n, posted.Seconds(), shipped.Seconds(), took.Seconds(), rss, median(gcs))
	return nil
}
