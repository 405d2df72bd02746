package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAChangeOfDestinationStrandsNothing changes the destination from a folder to a bucket.
// The start logs what is left in the folder, and ship --archive copies it.
func TestAChangeOfDestinationStrandsNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config, d := shipFourObjects(t, dir, "shutdown: {drain: 0}\n")
	d.stop()
	objects := archivedObjects(t, dir)
	archive := filepath.Join(dir, "data", "archive")
	want := map[string][]byte{}
	for _, path := range objects {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want["prod/"+strings.TrimPrefix(path, archive+"/")] = content
	}
	f, settings := fakeS3(t, dir)
	replaceInFile(t, config, "shutdown: {drain: 0}\n", "shutdown: {drain: 0}\nshipper:\n  "+settings+"\n")
	f.Put(lastKey(want), []byte("something else")) // under the key of an archived object

	d = start(t, config, d.port, d.admin)
	until(t, "the start logs what is left", func() bool {
		return strings.Contains(d.log(), "objects are left in the folder of an earlier destination") && strings.Contains(d.log(), "collectord ship --archive "+archive)
	})
	// One object can't be copied and stays. Foreign files stay, too.
	damaged := objects[0]
	whole, err := os.ReadFile(damaged)
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(lastKey(want), filepath.Base(damaged)) {
		damaged = objects[1]
		whole, _ = os.ReadFile(damaged)
	}
	write(t, damaged, string(whole[:len(whole)/2]))
	write(t, filepath.Join(archive, "notes.txt"), "of a person")
	out, stderr, status := runCollectord(t, "ship", "--config", config, "--archive", archive, "--json")
	var result archiveResult
	if err := json.Unmarshal([]byte(out), &result); err != nil || status != 2 || result.Done || result.Objects != 3 || result.Records != 30 || result.Left != 1 ||
		!strings.Contains(stderr, filepath.Base(damaged)+": damaged after") {
		t.Errorf("ship exits with %d: %s%s", status, out, stderr)
	}
	if left := archivedObjects(t, dir); len(left) != 1 || left[0] != damaged {
		t.Errorf("left in the folder: %q", left)
	}
	write(t, damaged, string(whole))
	out, stderr, status = runCollectord(t, "ship", "--config", config, "--archive", archive)
	if status != 0 || !strings.Contains(out, "brought 10 records in 1 object and 0 loss notes from "+archive) {
		t.Errorf("ship exits with %d: %s%s", status, out, stderr)
	}
	there := f.Objects()
	for key, content := range want {
		if string(there[key].Body) == "something else" {
			continue
		}
		o := there[key]
		if !bytes.Equal(o.Body, content) || o.Header.Get("X-Amz-Meta-Collectord-Sha256") == "" || o.Header.Get("X-Amz-Meta-Collectord-Records") != "10" {
			t.Errorf("%s differs from the archived object: %v", key, o.Header)
		}
	}
	d.stop()
	if out, _, _ := runCollectord(t, "audit", "--config", config, "--deep"); strings.Contains(out, "MISSING") || strings.Contains(out, "DOUBLED") {
		t.Errorf("audit prints %s", out)
	}
	if out, _, _ := runCollectord(t, "cat", "--config", config); strings.Count(out, "\n") != 40 {
		t.Errorf("%d usages can be read, want 40", strings.Count(out, "\n"))
	}
	if _, err := os.Stat(filepath.Join(archive, "notes.txt")); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(archive, "dt=*")); len(left) > 0 {
		t.Errorf("left in the folder: %q", left)
	}
	if out := mustRun(t, "ship", "--config", config, "--archive", archive); !strings.Contains(out, "brought 0 records") {
		t.Errorf("ship once more: %s", out)
	}
}

// lastKey returns the last key in sorted order.
func lastKey(all map[string][]byte) (last string) {
	for key := range all {
		last = max(last, key)
	}
	return last
}
