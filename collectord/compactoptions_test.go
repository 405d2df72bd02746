//go:build torture

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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

// TestCompactionSinceClosesNothing, since it does not know the older objects of other hosts, but
// looks for repeated records as far back as without it.
func TestCompactionSinceClosesNothing(t *testing.T) {
	p := compactFolder(t, "archive", "parquet")
	quiet := &compactLog{p: p, node: "edge-quiet", id: 2, next: 1}
	quiet.put(0, compactIDs(7, 1, 10))
	log := &compactLog{p: p, node: "edge-1", id: 1, next: 1}
	log.put(11, compactIDs(8, 1, 10))
	p.compact(0)
	log.put(13, compactIDs(8, 1, 12)) // of the next day
	log.put(14, compactIDs(7, 100, 10))
	log.put(15, compactIDs(7, 200, 10))
	at := compactClock(time.Until(compactNoon.Add(16 * time.Hour)))
	if out := p.patched(at, "--since", "1h"); strings.Contains(out, "; closed") || !strings.Contains(out, "with --since, older objects are not known") {
		t.Errorf("it closes an hour for which it knows nothing of %s: %s", quiet.node, out)
	}
	if n := len(p.rows()); n != 10+12+20 {
		t.Errorf("%d rows", n)
	}
	if out := p.patched(at, "--since", "3d", "--gone", "0000000000000002"); strings.Contains(out, "closed: ") {
		t.Errorf("it says %s", out)
	}
	p.compact(0, "--gone", "0000000000000002")
	if out := p.compact(0); !strings.Contains(out, "4 of 5 partitions are closed") {
		t.Errorf("without --since: %s", out)
	}
}

func TestCompactionExpiresALogOfSeveralSources(t *testing.T) {
	p := compactFolder(t, "archive", "parquet")
	moved := compactFolder(t, "archive", "parquet")
	log := &compactLog{p: p, node: "edge-1", id: 1, next: 1}
	for i := range 5 {
		if i == 2 {
			log.p = moved
		}
		log.put(0, compactIDs(7, 1+10*i, 10))
	}
	if out := p.later("--from", moved.from, "--expire"); !strings.Contains(out, " 4 expired") {
		t.Errorf("a gap is left behind the newest of one source: %s", out)
	}
	if n := len(p.rows()); n != 50 {
		t.Errorf("%d rows", n)
	}
}

// TestCompactionDoesNotCloseWhatItDidNotRead: an object was deleted after it was listed.
func TestCompactionDoesNotCloseWhatItDidNotRead(t *testing.T) {
	p := compactFolder(t, "archive", "parquet")
	log := &compactLog{p: p, node: "edge-1", id: 1, next: 1}
	log.put(0, compactIDs(7, 1, 10))
	k := log.put(0, compactIDs(7, 11, 10))
	log.put(0, compactIDs(7, 21, 10))
	log.put(1, compactIDs(7, 31, 10))
	out := p.patched(fmt.Sprintf("stat = places.Folder.stat; places.Folder.stat = lambda self, key: None if key == %q else stat(self, key)", k))
	p.says(out, 0, "an object was left out, or is gone")
}

func TestCompactionByDay(t *testing.T) {
	compactPlaces(t, func(t *testing.T, p *compactPlace) {
		l := newCompactLedger(p)
		for i := range 6 {
			l.add(5*i, 20) // of three days
		}
		p.compact(0, "--day", "--partition", "dt=2026-11-24/hour=08")
		if rows := p.rows(); len(rows) == 0 || rows[0].Partition != "dt=2026-11-24" || rows[len(rows)-1].Partition != "dt=2026-11-24" {
			t.Errorf("with --partition: %d rows", len(rows))
		}
		l.add(0, 20)
		records := 0
		for line := range strings.Lines(p.compact(0, "--day", "--json")) {
			var v struct {
				Partition string
				Sum       struct{ Objects, Records int }
			}
			if err := json.Unmarshal([]byte(line), &v); err != nil || (v.Partition == "") == (v.Sum.Objects == 0) {
				t.Errorf("%v: %s", err, line)
			}
			records += v.Sum.Records
		}
		if records == 0 {
			t.Error("no sum in --json")
		}
		l.check("by day")
		if out := p.compact(1); !strings.Contains(out, "is of a compaction by day: add --day, or use another --to") {
			t.Errorf("by hour then: %s", out)
		}
	})
}
