package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"collectord/collectord/send"
)

// benchDaemonSizes measures the cost of several segment sizes under a load of batches,
// while the daemon ships to a folder.
func benchDaemonSizes(seconds int, binary, dir string) error {
	fmt.Printf("\nNDJSON of %d usages, %d connections, %d s, shipped to a folder\nwal.segment_size      usages/s        p99      GC   objects   peak RSS\n", batchUsages, batchConns, 2*seconds)
	for _, mib := range []int{8, 64, 256} {
		data := filepath.Join(dir, "size-"+strconv.Itoa(mib))
		if err := os.MkdirAll(data, 0o755); err != nil {
			return err
		}
		d, err := startDaemon(binary, data,
			fmt.Sprintf("wal: {segment_size: %dMiB, max_bytes: 8GiB, min_free: 1GiB}\nshutdown: {grace: 2m}\n", mib))
		if err != nil {
			return err
		}
		var a send.Summary
		gc, err := d.gcDuring(2*seconds, func() (err error) {
			a, err = runSend(binary, 2*seconds, append(batchFlags(true, ""), d.url, "--connections", strconv.Itoa(batchConns))...)
			return err
		})
		rss, rssErr := d.rss()
		metrics, seriesErr := d.series()
		d.stop()
		for _, err := range []error{err, rssErr, seriesErr} {
			if err != nil {
				return err
			}
		}
		fmt.Printf("%12d MiB %14.0f %7.1f ms %5.1f %% %9.0f %6.0f MiB\n", mib, a.UsagesPerSecond, a.Latency.P99, gc, metrics["collectord_shipper_objects_total"], rss)
	}
	return nil
}
