package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// million is how many usages are posted, at least, one by one.
const million = 1_000_000

// benchMillion measures how long it takes until a million single posts are
// acknowledged, shipped to MinIO, and proven to be there by a deep audit; with
// the load generator and MinIO on the same cores.
func benchMillion(binary, dir string) error {
	dir = filepath.Join(dir, "million")
	minio := filepath.Join(os.Getenv("HOME"), ".cache", "collectord-tools", "bin", "minio")
	if path := os.Getenv("TEST_MINIO"); path != "" {
		minio = path
	}
	if _, err := os.Stat(minio); err != nil {
		fmt.Println("\na million single posts, shipped to MinIO and audited: not measured:", err)
		return nil
	}
	// In MinIO's own layout a folder that is there at start is a bucket.
	if err := os.MkdirAll(filepath.Join(dir, "minio", "usages"), 0o750); err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	server := exec.Command(minio, "server", "--quiet", "--address", addr, filepath.Join(dir, "minio"))
	server.Env = append(os.Environ(), "MINIO_ROOT_USER=bench", "MINIO_ROOT_PASSWORD=bench-secret", "MINIO_BROWSER=off", "MINIO_UPDATE=off")
	if err := server.Start(); err != nil {
		return err
	}
	defer func() {
		_ = server.Process.Kill()
		_ = server.Wait()
		_ = os.RemoveAll(dir)
	}()
	if err := waitFor("http://" + addr + "/minio/health/ready"); err != nil {
		return err
	}
	credentials := filepath.Join(dir, "credentials")
	if err := os.WriteFile(credentials, []byte("[default]\naws_access_key_id = bench\naws_secret_access_key = bench-secret\n"), 0o600); err != nil {
		return err
	}
	d, err := startDaemon(binary, dir, fmt.Sprintf("shutdown: {grace: 5m}\nshipper: {destination: 's3://usages', s3: {endpoint: 'http://%s', region: us-east-1, credentials_file: '%s'}}\n", addr, credentials))
	if err != nil {
		return err
	}
	stopped := false
	defer func() {
		if !stopped {
			d.stop()
		}
	}()
	load, err := loader(binary, dir)
	if err != nil {
		return err
	}
	acknowledged := func() (int, error) {
		all, err := d.series()
		return int(all[`collectord_usages_appended_total{source="http"}`]), err
	}
	began := time.Now()
	n := 0
	for last := 0; n < million; {
		// No more than is missing, as far as can be told.
		seconds := 1
		if last > 0 {
			seconds = min(4, max(1, (million-n)/last))
		}
		if _, err := load.run(d.url, 256, seconds); err != nil {
			return err
		}
		now, err := acknowledged()
		if err != nil {
			return err
		}
		last, n = (now-n)/seconds, now
	}
	posted := time.Since(began)
	rss, err := d.rss()
	if err != nil {
		return err
	}
	d.stop() // seals, and ships the rest
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
		return fmt.Errorf("%d were acknowledged, and the audit says %s", n, strings.TrimSpace(string(out)))
	}
	fmt.Printf("\n%d single posts, 256 connections: acknowledged after %.1f s, shipped to MinIO after %.1f s, audited to the last record after %.1f s; RSS %.0f MiB\n",
		n, posted.Seconds(), shipped.Seconds(), took.Seconds(), rss)
	return nil
}
