package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"collectord/wal"
)

// backlogPerSecond is how many bytes of backlog are made for each second of the measurement.
const backlogPerSecond = 192 << 20

// benchDrain measures single posts while a backlog is shipped to a folder, which uses the
// same disk and CPUs. It measures the durable limit at the same time.
func benchDrain(rounds, seconds int, binary, dir string) error {
	dir = filepath.Join(dir, "drain")
	defer os.RemoveAll(dir)
	row := &posts{conns: 100}
	var shipped []float64
	ended := 0
	fmt.Println("\nsingle posts while a backlog is shipped to a folder on the same disk")
	for i := range rounds {
		if err := fillLog(filepath.Join(dir, "data"), int64(2*seconds+1)*backlogPerSecond); err != nil {
			return err
		}
		rate, more, err := row.measureDraining(i, binary, dir, seconds)
		if err != nil {
			return err
		}
		if shipped = append(shipped, rate); !more {
			ended++
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	printComparison("the durable limit", []*posts{row}, func(p *posts) *comparison { return &p.limit })
	printLatency([]*posts{row})
	fmt.Printf("shipped meanwhile: %.0f MB of lines per second\n", median(shipped))
	if ended > 0 {
		fmt.Printf("the backlog was shipped before the end in %d of %d rounds\n", ended, rounds)
	}
	return nil
}

// measureDraining does one round. It returns how many MB of lines were shipped per second,
// and whether the backlog was not yet empty at the end.
func (p *posts) measureDraining(round int, binary, dir string, seconds int) (rate float64, more bool, err error) {
	d, err := startDaemon(binary, dir, "wal: {max_bytes: 64GiB, min_free: 1GiB}\nshutdown: {grace: 0s}\n")
	if err != nil {
		return 0, false, err
	}
	defer d.stop()
	load, err := newLoad(binary, dir)
	if err != nil {
		return 0, false, err
	}
	before, err := d.series()
	if err != nil {
		return 0, false, err
	}
	if err := p.measure(round, d, load, seconds, rival{"", &p.limit}); err != nil {
		return 0, false, err
	}
	after, err := d.series()
	const raw = "collectord_shipper_raw_bytes_total"
	return (after[raw] - before[raw]) / 1e6 / float64(2*seconds), after["collectord_usages_shipped_total"] < after["collectord_usages_recovered_total"], err
}

// fillLog fills a log with size bytes of usages.
func fillLog(dir string, size int64) (err error) {
	log, err := wal.Open(dir, wal.Options{Node: "bench", Sync: wal.SyncInterval, MaxBytes: 64 << 30})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	usages := make([][]byte, 100_000) // more than fit into the compressor's window
	for i := range usages {
		usages[i] = realUsage(i)
	}
	batch := make([]wal.Record, 500)
	for n, written := 0, int64(0); written < size; {
		for i := range batch {
			batch[i] = wal.Record{Usage: usages[n%len(usages)]}
			written += int64(len(batch[i].Usage))
			n++
		}
		if err := log.Append(context.Background(), batch...); err != nil {
			return err
		}
	}
	return nil
}
