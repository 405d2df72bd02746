package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/klauspost/compress/zstd"

	"collectord/collectord/httpserver"
	"collectord/shipper"
	"collectord/shipper/bucket"
	"collectord/wal"
)

// FuzzShipped posts bodies in every form through a real server, log and shipper. Each
// accepted usage must be on a line of an object. Two independent parsers must read that line,
// and find the same usage as was sent, digits included.
func FuzzShipped(f *testing.F) {
	for form := range byte(6) {
		f.Add([]byte(`[{"a":1.50},{"b":`+"\r\n"+`[1e5,"\u00e9\ud83d\ude00"]},3,{"c":1,"c":1}]`), form)
		f.Add([]byte("{\"a\":18446744073709551615}\n\n{\"b\":\"\x7f\u2028\"}\r\n[]"), form)
		f.Add([]byte(` {"a":{"b":[{}, null ,-0.0e-0]},"":"\\\"\u0000"} `), form)
	}
	dir := f.TempDir()
	log, err := wal.Open(filepath.Join(dir, "data"), wal.Options{Sync: wal.SyncInterval, SegmentSize: 1 << 20})
	if err != nil {
		f.Fatal(err)
	}
	archive := filepath.Join(dir, "archive")
	store, err := bucket.Open(bucket.Destination{URL: "file://" + archive})
	if err != nil {
		f.Fatal(err)
	}
	ship, err := shipper.New(log, store, shipper.Options{SpoolDir: filepath.Join(dir, "spool")})
	if err != nil {
		f.Fatal(err)
	}
	web := httpserver.New(log, httpserver.Options{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served, shipped := make(chan error), make(chan struct{})
	go func() { served <- web.Serve(ln) }()
	go func() { defer close(shipped); ship.Run(ctx) }()
	f.Cleanup(func() {
		err := web.Shutdown(ctx)
		err = errors.Join(err, <-served)
		cancel()
		<-shipped
		if err := errors.Join(err, log.Close()); err != nil {
			f.Error(err)
		}
	})

	f.Fuzz(func(t *testing.T, text []byte, form byte) {
		lines, coding := form&1 == 1, []string{"", "gzip", "zstd"}[form/2%3]
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+ln.Addr().String()+"/api/usages", bytes.NewReader(encode(t, coding, text)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Prefer", "return=representation")
		if coding != "" {
			req.Header.Set("Content-Encoding", coding)
		}
		if lines {
			req.Header.Set("Content-Type", "application/x-ndjson")
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var answer struct {
			ID  string
			IDs []*string
		}
		err = json.NewDecoder(resp.Body).Decode(&answer)
		resp.Body.Close()
		if err != nil {
			t.Fatalf("%s: %v", resp.Status, err)
		}
		want := map[string]string{} // usages by id
		switch {
		case resp.StatusCode >= 300:
		case answer.ID != "":
			want[answer.ID] = string(text)
		default:
			sent := splitUsages(t, text, lines)
			if len(sent) != len(answer.IDs) {
				t.Fatalf("%d ids for %d usages", len(answer.IDs), len(sent))
			}
			for i, id := range answer.IDs {
				if id != nil {
					want[*id] = sent[i]
				}
			}
		}
		within, done := context.WithTimeout(ctx, testTimeout)
		defer done()
		if err := log.Seal(within); err != nil {
			t.Fatal(err)
		}
		if left := ship.Drain(within); left > 0 {
			t.Fatalf("%d segments are not shipped", left)
		}
		for _, line := range takeLines(t, store, archive) {
			var record struct {
				ID    string
				Usage json.RawMessage
			}
			if err := json.Unmarshal(line, &record); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			sent, ok := want[record.ID]
			if !ok {
				t.Fatalf("stored, but never sent: %s", line)
			}
			delete(want, record.ID)
			if string(record.Usage) != strings.NewReplacer("\r", "", "\n", "").Replace(strings.Trim(sent, " \t\r\n")) {
				t.Fatalf("%q became %q", sent, record.Usage)
			}
			if got, want := decodeNumbers(t, record.Usage), decodeNumbers(t, []byte(sent)); !reflect.DeepEqual(got, want) {
				t.Fatalf("%q became %q", sent, record.Usage)
			}
			if !jsontext.Value(line).IsValid() {
				t.Fatalf("not JSON: %q", line)
			}
		}
		if len(want) > 0 {
			t.Fatalf("%d of %q are missing", len(want), text)
		}
	})
}

// splitUsages splits a batch into usages with other code than the server's.
func splitUsages(t *testing.T, text []byte, lines bool) (all []string) {
	if lines {
		for line := range strings.SplitSeq(string(text), "\n") {
			if strings.Trim(line, " \t\r") != "" {
				all = append(all, line)
			}
		}
		return all
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil {
		t.Fatalf("accepted %q: %v", text, err)
	}
	for _, v := range raw {
		all = append(all, string(v))
	}
	return all
}

func decodeNumbers(t *testing.T, b []byte) (v any) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("accepted %q: %v", b, err)
	}
	return v
}

func encode(t *testing.T, coding string, text []byte) []byte {
	var b bytes.Buffer
	var w io.WriteCloser = gzip.NewWriter(&b)
	switch coding {
	case "":
		return text
	case "zstd":
		var err error
		if w, err = zstd.NewWriter(&b); err != nil {
			t.Fatal(err)
		}
	}
	_, err := w.Write(text)
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// takeLines reads all objects and deletes them.
func takeLines(t *testing.T, store bucket.Store, archive string) (lines [][]byte) {
	for key, err := range store.List(context.Background(), "dt=") {
		if err != nil {
			t.Fatal(err)
		}
		body, stored, err := store.Open(context.Background(), key)
		if err != nil {
			t.Fatal(err)
		}
		r, err := bucket.NewReader(body, stored.Size)
		if err != nil {
			t.Fatal(err)
		}
		for {
			line, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, bytes.Clone(line))
		}
		r.Close()
		if err := errors.Join(body.Close(), os.Remove(filepath.Join(archive, key))); err != nil {
			t.Fatal(err)
		}
	}
	return lines
}
