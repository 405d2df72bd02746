package main

import (
	"net/http"
	"strings"
	"testing"

	"collectord/shipper/bucket/s3test"
)

// TestOneObjectThatCannotBeReadEndsNoCommand serves the newest object with a header that is
// larger than any reader accepts.
func TestOneObjectThatCannotBeReadEndsNoCommand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, settings := fakeS3(t, dir)
	config, d := shipFourObjects(t, dir, "shipper:\n  "+withoutKeep(settings)+"\n  heartbeat: 0s\n")
	d.stop()
	broken := ""
	for key := range f.Objects() {
		switch {
		case strings.Contains(key, "-00000000000000000031-"):
			broken = strings.TrimPrefix(key, "prod/")
		case strings.Contains(key, "-00000000000000000011-"):
			f.Put(key, nil) // delete the object, so that the commands request the metadata of those after the gap
		}
	}
	f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, broken) {
			w.Header().Set("X-Amz-Meta-More", strings.Repeat("x", 200_000))
		}
		return false
	}})
	for _, args := range [][]string{{"audit"}, {"audit", "--deep"}, {"cat"}} {
		out, stderr, status := runCollectord(t, append(args, "--config", config)...)
		named, lines := out, 1
		if args[0] == "cat" {
			named, lines = stderr, 20
		}
		if status != 2 || broken == "" || !strings.Contains(named, broken) || !strings.Contains(named, "a header that is too large") || strings.Count(out, "\n") < lines {
			t.Errorf("%v exits with %d: %s%s", args, status, out, stderr)
		}
		if args[0] == "audit" && (!strings.Contains(out, "1 missing range (10 records), 1 unreadable object (10 records)") || !strings.Contains(out, "\nUNREADABLE  seq 31 to 40 (10 records) of edge-1, log ")) {
			t.Errorf("%v prints %s", args, out)
		}
	}
}
