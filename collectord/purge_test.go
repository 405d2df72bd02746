package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestAPurgeDeletesOnlyWhatIsOursAndShipped runs the purge of the package's script.
func TestAPurgeDeletesOnlyWhatIsOursAndShipped(t *testing.T) {
	script, err := os.ReadFile("../packaging/scripts/deb.postrm")
	if err != nil {
		t.Fatal(err)
	}
	functions, _, found := strings.Cut(string(script), "\ncase \"$1\" in\n")
	if !found {
		t.Fatal("the script has another form")
	}
	const one, range12 = "00000000000000000001", "00000000000000000001-00000000000000000002"
	ours := []string{
		"LOCK", "wal/LOG", "wal/lost/reserve", "wal/" + one + "/" + one, "wal/next/" + one, "wal/" + range12 + ".gone/" + one,
		"spool/reserve", "spool/" + range12 + ".ndjson.zst", "archive/_collectord/tmp/put-123",
	}
	for _, row := range []struct {
		name string
		path string // an additional file that must be kept
		text string
		all  bool // everything must be kept
	}{
		{"nothing else", "", "", false},
		{"a sealed segment", "wal/" + range12 + "/" + one, "", true},
		{"a frame in the active segment", "wal/" + one + "/more", "\xffcdF", true},
		{"a frame in next", "wal/next/more", "\xffcdF", true},
		{"a frame in salvage", "wal/salvage/" + range12 + "/" + one, "\xffcdF", true},
		{"an eviction that is not noted", "wal/" + range12 + ".evicted/" + one, "", true},
		{"a loss note", "wal/lost/" + range12 + "-0123456789abcdef", "", true},
		{"something in the quarantine", "wal/quarantine/x.bin", "", true},
		{"a stranger's name that begins with a digit", "wal/2026notes", "", true},
		{"a stranger's name that ends in .gone", "wal/x.gone", "", true},
		{"a stranger's file in the spool", "spool/notes.ndjson.zst", "", false},
		{"a stranger's directory in the spool", "spool/deep/" + range12 + ".ndjson.zst", "", false},
		{"a hidden file in the log", "wal/.hidden", "", false},
		{"a file in the archive", "archive/dt=2026-11-23/object", "", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			data := filepath.Join(t.TempDir(), "data")
			write := func(name, text string) {
				path := filepath.Join(data, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for _, name := range ours {
				write(name, "")
			}
			if row.path != "" {
				write(row.path, row.text)
			}
			cmd := exec.Command("sh", "-c", "set -e\nsay() { echo \"$*\"; }\n"+functions+"\npurge\n")
			cmd.Env = append(os.Environ(), "data="+data)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			for _, name := range ours {
				if _, err := os.Lstat(filepath.Join(data, name)); (err == nil) != row.all {
					t.Errorf("%s: kept is %v: %s", name, err == nil, out)
				}
			}
			_, err = os.Stat(data)
			if row.path == "" {
				if err == nil {
					t.Errorf("the directory is still there: %s", out)
				}
			} else if _, err := os.Lstat(filepath.Join(data, row.path)); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}
