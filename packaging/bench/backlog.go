package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"collectord/wal"
)

// benchLogs measures the log on the file system of dir, and on one with a journal.
func benchLogs(rounds, seconds int, dir string) error {
	if err := benchLog(rounds, seconds, "the file system of "+filepath.Dir(dir), dir); err != nil {
		return err
	}
	path, unmount, err := journalled(dir)
	if err != nil {
		fmt.Println("\nlog on a journalled ext4: not measured:", err)
		return nil
	}
	defer unmount()
	return benchLog(rounds, seconds, "an ext4 with a journal, on a loop device", path)
}

// benchBacklog measures a start with a backlog. The segments are sparse files, since a
// start reads only their names.
func benchBacklog(binary, dir string) error {
	const segments, size = 1280, 8 << 20
	data := filepath.Join(dir, "backlog")
	log, err := wal.Open(filepath.Join(data, "data"), wal.Options{SegmentSize: 4 << 10})
	if err != nil {
		return err
	}
	for range segments {
		if err := log.Append(context.Background(), wal.Record{Usage: []byte(usage)}); err != nil {
			return err
		}
		if err := log.Seal(context.Background()); err != nil {
			return err
		}
	}
	if err := log.Close(); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(data, "data", "wal", "*-*", "*"))
	for _, f := range files {
		err = errors.Join(err, os.Truncate(f, size))
	}
	if err != nil {
		return err
	}
	unusedPort, err := freePort()
	if err != nil {
		return err
	}
	credentials := filepath.Join(data, "credentials")
	if err := os.WriteFile(credentials, []byte("[default]\naws_access_key_id = a\naws_secret_access_key = b\n"), 0o600); err != nil {
		return err
	}
	began := time.Now()
	d, err := startDaemon(binary, data, fmt.Sprintf("wal: {max_bytes: 20GiB}\nshutdown: {grace: 0s}\nshipper: {destination: 's3://bucket', s3: {endpoint: 'http://127.0.0.1:%d', region: us-east-1, credentials_file: '%s'}}\n", unusedPort, credentials))
	if err != nil {
		return err
	}
	defer d.stop()
	took := time.Since(began)
	rss, err := d.rss()
	if err != nil {
		return err
	}
	metrics, err := d.series()
	if err != nil {
		return err
	}
	fmt.Printf("\nbacklog of %d segments, %d GiB, storage unavailable: ready after %d ms, RSS %.0f MiB, %.0f bytes in the log\n",
		len(files), segments*size>>30, took.Milliseconds(), rss, metrics["collectord_wal_bytes"])
	return nil
}
