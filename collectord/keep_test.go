package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"collectord/shipper/bucket/s3test"
	"collectord/wal"
)

// TestShipListsUnconfirmedObjectsOnceMore ships the log of a killed daemon to a storage
// that loses objects soon after it has confirmed them.
func TestShipListsUnconfirmedObjectsOnceMore(t *testing.T) {
	for name, c := range map[string]struct {
		loses  int64 // number of objects that the storage loses
		args   []string
		status int
		out    string
		there  int
	}{
		"the storage loses one":  {1, nil, 0, "shipped 40 records in 2 objects", 1},
		"--no-wait":              {1, []string{"--no-wait"}, 0, "shipped 20 records in 1 object", 0},
		"the storage loses all":  {9, nil, 2, "vanished: 1 object", 0},
		"the storage loses none": {0, nil, 0, "shipped 20 records in 1 object", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			f, settings := fakeS3(t, dir)
			var left atomic.Int64
			left.Store(c.loses)
			f.Behave(s3test.Behaviour{Stored: func(key string) bool {
				if strings.Contains(key, "/dt=") && left.Add(-1) >= 0 {
					f.Put(key, nil) // deletes the object, whose put is confirmed nevertheless
				}
				return false
			}})
			configFile, port, admin := configure(t, dir, "wal: {min_free: 0, seal_after: 1h}\nshutdown: {grace: 0s, drain: 0s}\nshipper:\n  "+settings+"\n")
			d := start(t, configFile, port, admin)
			d.post(&acknowledged{ids: map[int]string{}}, 0, 20, 1, false)
			d.kill()
			out, stderr, status := runCollectord(t, append([]string{"ship", "--config", configFile}, c.args...)...)
			if status != c.status || !strings.Contains(out, c.out) {
				t.Errorf("ship exits with %d: %s%s", status, out, stderr)
			}
			there := 0
			until(t, "the lost objects are deleted", func() bool {
				there = 0
				for key := range f.Objects() {
					if strings.Contains(key, "/dt=") {
						there++
					}
				}
				return there == c.there
			})
			if out := mustRun(t, "wal", "ls", "--config", configFile); strings.Contains(out, "sealed  0") {
				t.Errorf("segments are left: %s", out)
			}
		})
	}
}

// TestAFolderIsSyncedAndNothingIsKeptForIt checks the effective settings per destination.
func TestAFolderIsSyncedAndNothingIsKeptForIt(t *testing.T) {
	for destination, want := range map[string]time.Duration{"": 0, "file:///archive": 0, "s3://bucket/prefix": 5 * time.Minute} {
		settings := ""
		if destination != "" {
			settings = fmt.Sprintf("shipper: {destination: '%s', s3: {endpoint: 'http://x:1'}}\n", destination)
		}
		cfg, err := loadConfig(t, settings)
		if err != nil {
			t.Fatal(err)
		}
		if got := shipperLimits(cfg).Keep; got != want {
			t.Errorf("%q: segments are kept for %v, want %v", destination, got, want)
		}
	}
}

// TestWalLsExplainsThatASealedSegmentMayBeShipped covers destinations with and without a
// check after shipper.keep. Without that check, no sealed segment is shipped.
func TestWalLsExplainsThatASealedSegmentMayBeShipped(t *testing.T) {
	dir := t.TempDir()
	l, err := wal.Open(filepath.Join(dir, "data"), wal.Options{Node: "edge-1"})
	if err == nil {
		err = errors.Join(l.Append(t.Context(), wal.Record{Usage: []byte(`{}`)}), l.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	const finding = "Some sealed segments may be shipped already: a segment stays for 5m0s (shipper.keep) after the storage confirmed it."
	for shipper, want := range map[string]bool{
		"{destination: 's3://bucket/prefix', s3: {endpoint: 'http://x:1'}}":           true,
		"{destination: 's3://bucket/prefix', s3: {endpoint: 'http://x:1'}, keep: 0s}": false,
		"{destination: 'file:///archive'}":                                            false,
	} {
		config := filepath.Join(dir, "config.yaml")
		if err := os.WriteFile(config, []byte("data_dir: "+filepath.Join(dir, "data")+"\nshipper: "+shipper+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if out := mustRun(t, "wal", "ls", "--config", config); strings.Contains(out, finding) != want || !strings.Contains(out, "sealed") {
			t.Errorf("%s: %s", shipper, out)
		}
	}
}
