//go:build torture

package main

import (
	"os"
	"path/filepath"
	"testing"

	"collectord/shipper/bucket"
)

// compactFolder is a place in folders whose names are these, below a directory of the test.
func compactFolder(t *testing.T, from, to string) *compactPlace {
	t.Helper()
	compactPython(t)
	dir := t.TempDir()
	p := &compactPlace{t: t, from: filepath.Join(dir, from), to: filepath.Join(dir, to)}
	var err error
	if p.objects, err = bucket.Open(bucket.Destination{URL: "file://" + p.from}); err == nil {
		p.parquet, err = bucket.Open(bucket.Destination{URL: "file://" + p.to})
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestCompactionDeletesNothingOfOthersInTemp(t *testing.T) {
	p := compactFolder(t, "archive", "parquet")
	log := &compactLog{p: p, node: "edge-1", id: 1, next: 1}
	log.put(0, compactIDs(7, 1, 10))
	temp := t.TempDir()
	others := filepath.Join(temp, "others", "file")
	left := filepath.Join(temp, "collectord-compact-0123456789abcdef", "lines.ndjson") // by a killed process
	for _, path := range []string{others, left} {
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.compact(0, "--temp", temp)
	if _, err := os.Stat(others); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(temp); err != nil || len(entries) != 1 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

// TestCompactionTakesColumnsFromFilesOnly: a name like client=acme looks like a column to DuckDB.
func TestCompactionTakesColumnsFromFilesOnly(t *testing.T) {
	for _, name := range []string{"client=acme", "id=3", "received_at=x", "it's [1]*"} {
		t.Run(name, func(t *testing.T) {
			p := compactFolder(t, name+"/archive", name+"/parquet")
			log := &compactLog{p: p, node: "edge-1", id: 1, next: 1}
			for range 2 {
				log.put(0, compactIDs(7, int(log.next), 10))
				log.put(1, compactIDs(8, int(log.next/20), 10))
				p.compact(0)
			}
			rows := p.rows()
			for _, r := range rows {
				if r.Client != "ward-1" {
					t.Fatalf("%+v", r)
				}
			}
			if len(rows) != 20+11 {
				t.Errorf("%d rows", len(rows))
			}
		})
	}
}
