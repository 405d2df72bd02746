package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"collectord/wal"
)

func TestWalExportPrintsWhatIsLeftOfOneSegment(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config, _, _ := configure(t, dir, "")
	data := filepath.Join(dir, "data")
	log, err := wal.Open(data, wal.Options{SegmentSize: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	for i := range 9 {
		if err := log.Append(context.Background(), wal.Record{Usage: fmt.Appendf(nil, `{"n":%d}`, i+1)}); err != nil {
			t.Fatal(err)
		}
		if i%3 == 2 && i < 8 {
			if err := log.Seal(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	name := func(first, last int) string { return fmt.Sprintf("%020d-%020d", first, last) }
	file := func(segment string) string { return filepath.Join(data, "wal", segment, fmt.Sprintf("%020d", 1)) }
	numbers := func(out string) (all string) {
		for line := range strings.Lines(out) {
			_, after, ok := strings.Cut(line, `"usage":{"n":`)
			if !ok || !strings.HasPrefix(line, `{"id":"`) {
				t.Errorf("a line is %s", line)
			}
			all += strings.TrimSuffix(after, "}}\n")
		}
		return all
	}
	export := func(segment, want string, status int, wantStderr ...string) {
		t.Helper()
		out, stderr, got := runWal(t, config, "export", segment)
		if numbers(out) != want || got != status {
			t.Errorf("export %s exits with %d and prints %q: %s", segment, got, numbers(out), stderr)
		}
		for _, s := range wantStderr {
			if !strings.Contains(stderr, s) {
				t.Errorf("export %s does not print %q: %s", segment, s, stderr)
			}
		}
		if status == 0 && stderr != "" {
			t.Errorf("export %s prints %s on standard error", segment, stderr)
		}
	}
	export(name(1, 3), "123", 0)
	export(fmt.Sprintf("%020d", 7), "789", 0) // the active segment
	export("next", "", 0)
	export(file(name(4, 6)), "456", 0)

	b, err := os.ReadFile(file(name(4, 6)))
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, []byte(`"n":5`))
	b[at] ^= 1
	if err := os.WriteFile(file(name(4, 6)), b, 0o600); err != nil {
		t.Fatal(err)
	}
	export(name(4, 6), "46", 2, "not exported: seq 5 to 5\n", "not exported: bytes ", "exported 2 records")
	// export also reads a copy of a segment outside any log.
	other := filepath.Join(t.TempDir(), "from another host")
	if err := os.WriteFile(other, b, 0o600); err != nil {
		t.Fatal(err)
	}
	export(other, "46", 2, "not exported: seq 5 to 5\n")
	// Salvage moves the readable records of a damaged segment to other segments, and its bytes to
	// the quarantine.
	segments, _ := log.Sealed()
	if changed, err := log.Salvage(segments[1]); err != nil || !changed {
		t.Fatal(changed, err)
	}
	export(name(4, 6), "", 1, "there is no segment")
	export(name(6, 6), "6", 0)
	kept, err := filepath.Glob(filepath.Join(data, "wal", "quarantine", "*.bin"))
	if err != nil || len(kept) != 1 {
		t.Fatal(kept, err)
	}
	export(filepath.Base(kept[0]), "", 2, "not exported: bytes 0 to ")

	if _, stderr, status := runWal(t, config, "export"); status != 1 || !strings.Contains(stderr, "takes the name of a segment") {
		t.Errorf("export of a missing segment exits with %d: %s", status, stderr)
	}
}
