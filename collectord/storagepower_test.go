//go:build torture

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"collectord/shipper/bucket/storages"
)

var storageKeep = flag.Duration("storagekeep", 5*time.Minute, "shipper.keep while the power of a storage is cut")

var storageCuts = flag.String("storagecuts", "2s,35s,host", "when the power of a storage is cut: 2s or 35s after everything was confirmed, or host: after 2s, with the host's power; a cut that is left out keeps its documented result")

// Each power cut has usagesPerCut usages in objectsPerCut objects. Every second object is too
// large to be read back without a reason.
const usagesPerCut, objectsPerCut = 2_000, 20

// rebootTime is the minimum time for which a storage is down after a power cut.
const rebootTime = 15 * time.Second

// powerCuts cuts the power of a storage in each way. Each way has a storage of its own.
func powerCuts(t *testing.T, k storages.Storage, row *storages.Row) {
	t.Helper()
	for _, c := range []struct {
		name   string
		wait   time.Duration
		host   bool
		result *storages.Cut
	}{
		{"2s", 2 * time.Second, false, &row.After2s}, {"35s", 35 * time.Second, false, &row.After35s}, {"host", 2 * time.Second, true, &row.After2sWithHost},
	} {
		if slices.Contains(strings.Split(*storageCuts, ","), c.name) {
			t.Run("power cut "+c.name, func(t *testing.T) {
				t.Parallel()
				*c.result = powerCut(t, k, c.wait, c.host, row.IfMatch != storages.Ineffective)
			})
		}
	}
}

// powerCut cuts a storage's power some time after everything was confirmed. It counts the
// usages that the storage has lost, and those still missing after the host has checked again.
// A storage that replaces damaged objects must have no usage twice.
func powerCut(t *testing.T, k storages.Storage, wait time.Duration, host, replaces bool) (cut storages.Cut) {
	t.Helper()
	requirePrograms(t, "mkfs.ext4", "mount", "umount", "losetup")
	busySlots <- struct{}{}
	disk := newExt4(t)
	data := filepath.Join(disk.path, "storage")
	if err := os.Mkdir(data, 0o750); err != nil {
		t.Fatal(err)
	}
	s := startStorage(t, k, data)
	defer s.Kill()
	mustExec(t, "sync", "-f", disk.path) // not the disks of parallel tests, whose power is cut meanwhile

	dir := t.TempDir()
	config, port, admin := configure(t, dir, fmt.Sprintf("wal: {min_free: 0}\nshutdown: {drain: 0s}\nshipper:\n  keep: %v\n%s", *storageKeep, shipperSettings(t, dir, s)))
	d := start(t, config, port, admin)
	postObjects(t, d)
	<-busySlots
	<-time.After(wait)
	disk.losePower()
	s.Kill()
	if host {
		d.kill()
	}
	disk.detach()
	<-time.After(rebootTime)
	disk.attach()
	cut.Gone, cut.Missing = restartStorage(t, s)
	present, damaged := readBucket(t, s)
	gone := usagesPerCut - len(present)
	t.Logf("power cut %v after everything was confirmed (with the host's power: %t): %d of %d usages are gone, %d objects are damaged", wait, host, gone, usagesPerCut, damaged)
	if damaged > 0 {
		cut.Gone = fmt.Sprintf(" (%d objects damaged)", damaged)
	}
	cut.Gone = boldCount(gone) + cut.Gone
	if host {
		d = start(t, config, port, admin)
	}
	waitKeptChecked(t, d)
	present, damaged = readBucket(t, s)
	twice := 0
	for _, times := range present {
		if times > 1 {
			twice++
		}
	}
	if twice > 0 && replaces {
		t.Errorf("%d usages are stored more than once", twice)
	}
	missing := usagesPerCut - len(present)
	t.Logf("after the host has checked again, %d usages are missing, %d objects are damaged, and %d usages are stored twice; %.0f objects were shipped again, %.0f vanished", missing, damaged, twice,
		d.metrics()["collectord_shipper_reshipped_total"], d.metrics()["collectord_shipper_vanished_total"])
	if n := d.metrics()["collectord_shipper_vanished_total"]; n > 0 {
		t.Errorf("%.0f objects vanished", n)
	}
	if missing > 0 {
		t.Errorf("%d of %d usages are missing after the host has checked again", missing, usagesPerCut)
	}
	d.kill()
	if out, _, status := runCollectord(t, "audit", "--deep", "--from-start", "--config", config); status == 2 && damaged+twice == 0 {
		t.Errorf("audit: %s", out)
	}
	if twice > 0 {
		cut.Missing += fmt.Sprintf(" (%s are there twice)", thousands(twice))
	}
	if damaged > 0 {
		cut.Missing += fmt.Sprintf(" (%d damaged objects are left)", damaged)
	}
	cut.Missing = boldCount(missing) + cut.Missing
	return cut
}

// newExt4 mounts an ext4 file system whose image is a sparse file.
func newExt4(t *testing.T) *disk {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 4<<30); err != nil {
		t.Fatal(err)
	}
	mustExec(t, "mkfs.ext4", "-q", image)
	return newDisk(t, "-o", "loop", image)
}

// postObjects posts batches of usages. Each is confirmed before the next one is posted.
func postObjects(t *testing.T, d *daemon) {
	t.Helper()
	random := rand.NewChaCha8([32]byte{})
	const each = usagesPerCut / objectsPerCut
	for i := range objectsPerCut {
		noise := make([]byte, i%2*(4<<10))
		var usages []string
		for n := i * each; n < (i+1)*each; n++ {
			_, _ = random.Read(noise)
			usages = append(usages, fmt.Sprintf(`{"n":%d,"via":"http","x":"%x"}`, n, noise))
		}
		d.postAll(usages)
		untilShipped(t, d)
	}
}

// restartStorage starts a storage after a power cut, and returns remarks for the table. If
// the storage does not start, an empty one replaces it. A lost bucket is made again.
func restartStorage(t *testing.T, s *storages.Server) (about, aboutTheEnd string) {
	t.Helper()
	if err := s.Start(); err != nil {
		t.Logf("the storage does not start after the power cut: %v", err)
		if err := s.StartEmpty(); err != nil {
			t.Fatal(err)
		}
		about, aboutTheEnd = ", and it does not start", ", once it was set up anew"
	}
	if err := s.Client().MakeBucket("usages"); err != nil {
		t.Fatal(err)
	}
	return about, aboutTheEnd
}

// waitKeptChecked waits until the host has checked all segments that it keeps. Segments that
// it shipped again are checked again.
func waitKeptChecked(t *testing.T, d *daemon) {
	t.Helper()
	for deadline := time.Now().Add(2**storageKeep + 20*time.Minute); time.Now().Before(deadline); <-time.After(time.Second) {
		if m := d.metrics(); m["collectord_usages_pending"] == 0 && m["collectord_wal_kept_segments"] == 0 {
			return
		}
	}
	t.Errorf("the host keeps %.0f segments, and has %.0f usages to ship: %s", d.metrics()["collectord_wal_kept_segments"], d.metrics()["collectord_usages_pending"], d.log())
}

// boldCount formats a number of usages for the table.
func boldCount(n int) string {
	if n > 0 {
		return "**" + thousands(n) + "**"
	}
	return "0"
}

// readBucket reads the whole bucket and returns how often each usage is stored. After a
// power cut a storage may have lost the bucket, or list objects that it can't return.
func readBucket(t *testing.T, s *storages.Server) (present map[int]int, damaged int) {
	t.Helper()
	present = map[int]int{}
	var keys []string
	if !eventually(func() (ok bool) {
		c := s.Client()
		a, err := c.Do(http.MethodHead, "/usages", nil, nil, nil)
		if err == nil && a.Status == http.StatusNotFound {
			return true
		}
		keys, err = c.Keys("usages", "edge-1/dt=")
		return err == nil
	}) {
		t.Logf("%s: the bucket can't be listed", s.Name)
		return present, 0
	}
	for _, key := range keys {
		a, err := s.Client().Do(http.MethodGet, "/usages/"+key, nil, nil, nil)
		if err != nil {
			t.Logf("%s: read %s: %v", s.Name, key, err)
		}
		numbers, err := usagesIn(a)
		if err != nil {
			damaged++
			t.Logf("%s: %s: %v", s.Name, key, err)
		}
		for _, n := range numbers {
			present[n]++
		}
	}
	return present, damaged
}

// usagesIn returns the numbers of the usages in an undamaged object.
func usagesIn(a storages.Response) (numbers []int, err error) {
	if a.Status != http.StatusOK {
		return nil, fmt.Errorf("status %d, %.200q", a.Status, a.Body)
	}
	z, err := zstd.NewReader(bytes.NewReader(a.Body))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	var text bytes.Buffer
	if _, err := z.WriteTo(&text); err != nil {
		return nil, err
	}
	if text.Len() == 0 {
		return nil, errors.New("no lines")
	}
	for line := range strings.Lines(text.String()) {
		var r storedRecord
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			return nil, err
		}
		numbers = append(numbers, r.Usage.N)
	}
	return numbers, nil
}

// eventually waits like until, but reports whether the condition became true.
func eventually(is func() bool) bool {
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-time.After(10 * time.Millisecond) {
		if is() {
			return true
		}
	}
	return false
}

func thousands(n int) string {
	if n < 1_000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d,%03d", n/1_000, n%1_000)
}
