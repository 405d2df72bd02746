package wal

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew, for a new format version")

func TestGoldenIdentity(t *testing.T) {
	id := identity{0x0123456789abcdef, "00112233445566778899aabbccddeeff"}
	path := filepath.Join(t.TempDir(), "LOG")
	if err := os.WriteFile(path, id.encode(), 0o600); err != nil {
		t.Fatal(err)
	}
	golden(t, "LOG-v1", path)
	b, err := os.ReadFile(filepath.Join("testdata", "LOG-v1"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decodeIdentity(b); err != nil || got != id {
		t.Errorf("decoded %+v, %v", got, err)
	}
}

// golden compares the file at path with the one of that name in testdata.
func golden(t *testing.T, name, path string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	name = filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(name, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs from what was written:\n got %x\nwant %x", name, got, want)
	}
}
