//go:build torture

package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"collectord/shipper/bucket/storages"
)

// These tests check real storages. Run them with make stores, which prints the table of
// docs/storages.md.

var storageKills = flag.Int("storagekills", 6, "how often the daemon, the storage or both are killed, for each storage")

// busySlots limits how many storages are probed, killed or filled at the same time. Any
// number of them can wait.
var busySlots = make(chan struct{}, 3)

// TestStorages probes each storage, kills it, and cuts its power.
func TestStorages(t *testing.T) {
	all := storages.All()
	rows := make([]storages.Row, len(all))
	t.Run("each", func(t *testing.T) {
		for i, k := range all {
			t.Run(k.Name, func(t *testing.T) {
				t.Parallel()
				skipMissing(t, k.Missing())
				row := &rows[i]
				busySlots <- struct{}{}
				*row = probeStorage(t, k)
				t.Run("killed", func(t *testing.T) { row.Kills = killStorage(t, k) })
				<-busySlots
				powerCuts(t, k, row)
			})
		}
	})
	rows = slices.DeleteFunc(rows, func(r storages.Row) bool { return r.Name == "" })
	compareWithDocs(t, rows)
	if len(rows) > 0 {
		fmt.Print("\n", storages.Tables(rows), "\n")
	}
}

// startStorage runs a storage in a directory, with an empty bucket.
func startStorage(t *testing.T, k storages.Storage, dir string) *storages.Server {
	t.Helper()
	log := filepath.Join(t.TempDir(), "storage.log")
	s, err := k.New(dir, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Kill()
		if text, _ := os.ReadFile(log); t.Failed() {
			t.Logf("%s: %s", k.Name, text[max(0, len(text)-4000):])
		}
	})
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	if err := s.Client().MakeBucket("usages"); err != nil {
		t.Fatal(err)
	}
	return s
}

// shipperSettings returns a daemon's settings for a storage from docs/storages.md.
func shipperSettings(t *testing.T, dir string, s *storages.Server) string {
	t.Helper()
	change := map[string]string{"http://storage.example:9000": s.Endpoint(), "us-east-1": documentedRegion(t, s.Name)}
	credentials := filepath.Join(dir, "credentials")
	keys := fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", s.Key, s.Secret)
	if err := os.WriteFile(credentials, []byte(keys), 0o600); err != nil {
		t.Fatal(err)
	}
	change["/etc/collectord/credentials"] = "'" + credentials + "'"
	_, text, ok := strings.Cut(storagesBlock(t, "yaml", "destination: s3://usages/edge-1"), "shipper:\n")
	for from, to := range change {
		ok = ok && strings.Count(text, from) == 1
		text = strings.Replace(text, from, to, 1)
	}
	if !ok {
		t.Fatalf("%s has settings that this test does not know: %s", docsStorages, text)
	}
	return text
}

// documentedRegion returns the region of a storage from the second table of
// docs/storages.md.
func documentedRegion(t *testing.T, name string) string {
	t.Helper()
	document, err := os.ReadFile(docsStorages)
	if err != nil {
		t.Fatal(err)
	}
	name, _, _ = strings.Cut(name, " with ")
	m := regexp.MustCompile(`(?m)^\| ` + name + " \\| `([a-z0-9-]+)` \\|").FindSubmatch(document)
	if m == nil {
		t.Fatalf("no region of %s in %s", name, docsStorages)
	}
	return string(m[1])
}

func probeStorage(t *testing.T, k storages.Storage) storages.Row {
	t.Helper()
	s := startStorage(t, k, t.TempDir())
	defer s.Kill()
	row, err := s.TestFeatures("usages")
	if err != nil {
		t.Fatal(err)
	}
	return row
}

// killStorage kills a daemon and its storage at random times. At the end every acknowledged
// usage must be in the bucket, once.
func killStorage(t *testing.T, k storages.Storage) string {
	t.Helper()
	dir := t.TempDir()
	s := startStorage(t, k, t.TempDir())
	defer s.Kill()
	config, port, admin := configure(t, dir, "wal: {segment_size: 1MiB, min_free: 0, seal_after: 100ms, seal_small_after: 100ms}\nshutdown: {grace: 2m, drain: 20s}\nshipper:\n  retry_min: 50ms\n  retry_max: 500ms\n"+shipperSettings(t, dir, s))
	acks := &acknowledged{ids: map[int]string{}}
	const each = 500
	d := start(t, config, port, admin)
	for round := range *storageKills {
		var posting sync.WaitGroup
		before := acks.count()
		posting.Go(func() { d.post(acks, round*each, (round+1)*each, 8, true) })
		until(t, "some usages are acknowledged", func() bool { return acks.count() > before+each/(2+round%5) })
		if round%3 != 1 {
			d.kill()
		}
		if round%3 != 0 && !k.Volatile {
			s.Kill()
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
		}
		posting.Wait()
		if round%3 != 1 {
			d = start(t, config, port, admin)
		}
	}
	d.post(acks, *storageKills*each, *storageKills*each+100, 8, false)
	untilShipped(t, d)
	d.stop()
	verifyAcknowledged(t, acks, catRecords(t, config))
	if out := mustRun(t, "audit", "--deep", "--from-start", "--config", config); !strings.HasPrefix(out, "RIGHT") {
		t.Errorf("audit: %s", out)
	}
	t.Logf("%s: %d kills, %d acknowledged", k.Name, *storageKills, acks.count())
	if !k.Volatile {
		return "nothing"
	}
	s.Kill()
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	if a, err := s.Client().Do(http.MethodHead, "/usages", nil, nil, nil); err != nil || a.Status != http.StatusNotFound {
		t.Errorf("after a kill the bucket is still there: %d, %v", a.Status, err)
	}
	return "**everything**"
}

// untilShipped waits longer than until, since a storage that was just started may be slow.
func untilShipped(t *testing.T, d *daemon) {
	t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	for range 6 {
		if !eventually(func() bool { return d.metrics()["collectord_usages_pending"] == 0 }) {
			continue
		}
		return
	}
	t.Fatalf("not everything is shipped after 2 minutes")
}

// catRecords returns the records that collectord cat prints.
func catRecords(t *testing.T, config string) (records []storedRecord) {
	t.Helper()
	for line := range strings.Lines(mustRun(t, "cat", "--config", config)) {
		var r storedRecord
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		records = append(records, r)
	}
	return records
}

const docsStorages = "../docs/storages.md"

// compareWithDocs compares rows with those of the document. The losses of a power cut and
// the outcome of a race differ between runs, so a row keeps the documented value unless
// the measured one is worse.
func compareWithDocs(t *testing.T, rows []storages.Row) {
	t.Helper()
	text, err := os.ReadFile(docsStorages)
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		r := &rows[i]
		documented, err := storages.ReadRow(string(text), r.Name)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, cut := range []struct{ measured, documented *storages.Cut }{
			{&r.After2s, &documented.After2s}, {&r.After35s, &documented.After35s}, {&r.After2sWithHost, &documented.After2sWithHost},
		} {
			if severity(cut.measured.Gone) <= severity(cut.documented.Gone) {
				cut.measured.Gone = cut.documented.Gone
			}
			if severity(cut.measured.Missing) <= severity(cut.documented.Missing) {
				cut.measured.Missing = cut.documented.Missing
			}
		}
		if documented.IfNoneMatch == storages.Racy && r.IfNoneMatch == storages.Yes {
			r.IfNoneMatch = storages.Racy
		}
		if *r != documented {
			t.Errorf("docs/storages.md has\n%s\nbut the result is\n%s", documented, r)
		}
	}
}

// severity returns 0 if nothing is lost, 1 for a part, and 2 for everything.
func severity(cell string) int {
	first, _, _ := strings.Cut(strings.ReplaceAll(cell, ",", ""), " ")
	n, _ := strconv.Atoi(strings.Trim(first, "*"))
	switch n {
	case 0:
		return 0
	case usagesPerCut:
		return 2
	}
	return 1
}

// postBatch posts usages from..to-1 in one request.
func (d *daemon) postBatch(from, to int) {
	d.t.Helper()
	var usages []string
	for i := from; i < to; i++ {
		usages = append(usages, usageText(i, "http"))
	}
	d.postAll(usages)
}
