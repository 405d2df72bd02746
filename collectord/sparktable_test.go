//go:build torture

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"collectord/shipper/bucket"
)

// icebergRow is a record, as the table has it.
type icebergRow struct {
	ID         string  `json:"id"`
	ReceivedAt string  `json:"received_at"`
	Via        string  `json:"via"`
	Client     *string `json:"client"`
	Usage      string  `json:"usage"`
	Node       string  `json:"node"`
	Log        string  `json:"log"`
}

func (r icebergRow) String() string {
	client := "null"
	if r.Client != nil {
		client = fmt.Sprintf("%q", *r.Client)
	}
	return fmt.Sprint(r.ReceivedAt, " ", r.Via, " ", client, " ", r.Usage)
}

// tableCount compares a table with the objects.
type tableCount struct{ records, ids, doubled, missing, foreign, different int }

func (c tableCount) String() string {
	return fmt.Sprintf("%d records in, %d ids out, %d doubled, %d missing, %d different", c.records, c.ids, c.doubled, c.missing, c.different+c.foreign)
}

// compare reads all objects, and the table with another engine.
func (l *lakehouse) compare() (c tableCount) {
	l.t.Helper()
	want, objects := map[string]string{}, map[string][]string{}
	for key, err := range l.store.List(context.Background(), "dt=") {
		if err != nil {
			l.t.Fatal(err)
		}
		if strings.Contains(key, "/_") {
			continue // no job reads it
		}
		for _, line := range l.lines(key) {
			c.records++
			var r icebergRow
			columns, usage, _ := strings.Cut(line, `,"usage":`)
			if err := json.Unmarshal([]byte(columns+"}"), &r); err != nil {
				l.t.Fatal(err)
			}
			r.Usage = strings.TrimSuffix(usage, "}\n")
			if want[r.ID] == "" || r.String() < want[r.ID] { // of two with one id, the first one stays
				want[r.ID] = r.String()
			}
			objects[key] = append(objects[key], r.ID)
		}
	}
	got := map[string]string{}
	if _, err := os.Stat(l.catalog()); err == nil {
		for line := range bytes.Lines(l.read()) {
			var r icebergRow
			if err := json.Unmarshal(line, &r); err != nil {
				l.t.Fatal(err)
			}
			if got[r.ID] != "" {
				c.doubled++
			}
			got[r.ID] = r.String()
		}
	}
	c.ids = len(got)
	for id, text := range got {
		switch {
		case want[id] == "":
			c.foreign++
		case want[id] != text:
			c.different++
			l.t.Logf("%s is %s, want %s", id, text, want[id])
		}
	}
	for key, ids := range objects {
		there := 0
		for _, id := range ids {
			if got[id] != "" {
				there++
			}
		}
		if there != 0 && there != len(ids) && !strings.Contains(key, "/edge-1-") { // those have ids in common
			l.t.Errorf("%d of %d records of %s are there", there, len(ids), key)
		}
	}
	c.missing = len(want) - len(got) + c.foreign
	return c
}

// read prints the table, with a reader that is not Spark.
func (l *lakehouse) read(what ...string) []byte {
	l.t.Helper()
	read := exec.Command(filepath.Join(l.tools, "bin", "python"), append([]string{"../packaging/tools/spark/read.py", l.catalog(), l.endpoint}, what...)...)
	read.Env = l.env()
	var errOut bytes.Buffer
	read.Stderr = &errOut
	out, err := read.Output()
	if err != nil && !strings.Contains(errOut.String(), "no such table") {
		l.t.Fatalf("%v: %s", err, errOut.String())
	}
	return out
}

func (l *lakehouse) complete(when string) {
	l.t.Helper()
	c := l.compare()
	l.t.Logf("%s: %v", when, c)
	if c.doubled+c.missing+c.foreign+c.different != 0 {
		l.t.Errorf("%s: %v", when, c)
	}
}

func (l *lakehouse) lines(key string) (lines []string) {
	l.t.Helper()
	body, stored, err := l.store.Open(context.Background(), key)
	if err != nil {
		l.t.Fatal(err)
	}
	defer body.Close()
	reader, err := bucket.NewReader(body, stored.Size)
	if err != nil {
		l.t.Fatal(err)
	}
	defer reader.Close()
	for {
		line, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return lines
		}
		if err != nil {
			l.t.Fatal(key, err)
		}
		lines = append(lines, string(line))
	}
}

// leftOnDisk counts the files with lines of objects that killed jobs have left, and the temporary
// files in which a usage can be read.
func (l *lakehouse) leftOnDisk() (kept, readable int) {
	l.t.Helper()
	files, err := filepath.Glob(filepath.Join(l.dir, "blockmgr-*", "*", "*"))
	if err != nil {
		l.t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			l.t.Fatal(err)
		}
		if strings.HasPrefix(filepath.Base(file), "rdd_") {
			kept++
		}
		if bytes.Contains(content, []byte("inhaler")) { // which LZ4 leaves as it is
			readable++
		}
	}
	return kept, readable
}
