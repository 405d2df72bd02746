//go:build torture

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
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

var storageCuts = flag.String("storagecuts", "2s,35s", "how long after everything was confirmed the power of a storage is cut; without one it counts as documented")

// A cut takes what this many usages, in objects of so many, left undone.
const usagesPerCut, objectsPerCut = 2_000, 20

// powerCut cuts a storage's power a while after everything was confirmed, and
// returns what is gone then; empty: that was not asked for.
func powerCut(t *testing.T, k storages.Storage, wait time.Duration) string {
	t.Helper()
	switch {
	case !slices.Contains(strings.Split(*storageCuts, ","), wait.String()):
		return ""
	case k.Volatile:
		return "**" + thousands(usagesPerCut) + "**"
	}
	needs(t, "mkfs.ext4", "mount", "umount")
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 4<<30); err != nil {
		t.Fatal(err)
	}
	must(t, "mkfs.ext4", "-q", image)
	disk := newDisk(t, "-o", "loop", image)
	data := filepath.Join(disk.path, "storage")
	if err := os.Mkdir(data, 0o750); err != nil {
		t.Fatal(err)
	}
	s := startStorage(t, k, data)
	defer s.Kill()
	must(t, "sync", "-f", disk.path) // not those of others, whose power is cut meanwhile

	dir := t.TempDir()
	keep := keeps(t, dir)
	config, port, admin := configure(t, dir, "wal: {min_free: 0}\nshutdown: {drain: 0s}\nshipper:\n"+keep+shipTo(t, dir, s))
	d := start(t, config, port, admin)
	const each = usagesPerCut / objectsPerCut
	for i := range objectsPerCut {
		d.postBatch(i*each, (i+1)*each)
		untilShipped(t, d)
	}
	<-time.After(wait)
	disk.losePower()
	s.Kill()
	disk.down()
	disk.up()
	err := s.Start()
	if err != nil {
		t.Logf("%s: it does not start after the power cut: %v", k.Name, err)
		return fmt.Sprintf("**%s, and it does not start**", thousands(usagesPerCut))
	}
	present, damaged := intact(t, s)
	gone := usagesPerCut - len(present)
	t.Logf("%s: power cut %v after everything was confirmed: %d of %d usages are gone, %d objects damaged", k.Name, wait, gone, usagesPerCut, damaged)
	if keep != "" {
		returns(t, s)
	}
	cell := thousands(gone)
	if damaged > 0 {
		cell += fmt.Sprintf(" (%d objects damaged)", damaged)
	}
	if gone > 0 {
		cell = "**" + cell + "**"
	}
	return cell
}

// keeps is the setting that makes the daemon look again at what it shipped, where it
// can.
func keeps(t *testing.T, dir string) string {
	t.Helper()
	setting := fmt.Sprintf("  keep: %v\n", *storageKeep)
	config, _, _ := configure(t, dir, "shipper:\n"+setting)
	if _, _, status := runCollectord(t, "config", "check", "--config", config); status != 0 {
		return ""
	}
	return setting
}

// returns waits until the daemon has looked again, and shipped what was gone.
func returns(t *testing.T, s *storages.Server) {
	t.Helper()
	var present map[int]bool
	for deadline := time.Now().Add(*storageKeep + 2*time.Minute); time.Now().Before(deadline); <-time.After(5 * time.Second) {
		if present, _ = intact(t, s); len(present) == usagesPerCut {
			return
		}
	}
	t.Errorf("%s: %d of %d usages are missing after the host has looked again", s.Name, usagesPerCut-len(present), usagesPerCut)
}

// intact reads the whole bucket. A storage that lost its power may have lost the
// bucket, or list what it can't return.
func intact(t *testing.T, s *storages.Server) (present map[int]bool, damaged int) {
	t.Helper()
	present = map[int]bool{}
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
			present[n] = true
		}
	}
	return present, damaged
}

// usagesIn are the numbers of the usages in an object that is whole.
func usagesIn(a storages.Answer) (numbers []int, err error) {
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

// eventually is until for what need not come true.
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
