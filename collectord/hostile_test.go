package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/spf13/cobra"

	"collectord/collectord/admin"
	"collectord/collectord/testrun"
	"collectord/shipper/bucket"
	"collectord/wal"
)

// hostileUsage is valid JSON that would control a terminal.
const hostileUsage = "{\"a\":\"\x7f\u009b31m\u202e\u2066\"}"

// makeHostileArchive makes a folder in which every name and value is hostile. It has objects,
// loss notes, and files whose names look like those of objects or notes.
func makeHostileArchive(t *testing.T, root string) {
	t.Helper()
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	put := func(key string, content []byte) {
		t.Helper()
		path := filepath.Join(root, key)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o750), os.WriteFile(path, content, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	line, err := new(bucket.LineEncoder).Append(nil, &bucket.Record{ID: bucket.ID{6: 0x70, 15: 1}, Via: "http", Client: "c\u009b\u202e", Usage: []byte(hostileUsage)})
	if err != nil {
		t.Fatal(err)
	}
	k := bucket.Key{Node: hostileText, LogID: 1, Run: 2, FirstSeq: 1, LastSeq: 1, Hour: 490_000}
	put(k.String(), enc.EncodeAll(line, nil))
	k.FirstSeq, k.LastSeq = 5, 6
	put(k.String(), []byte(hostileText)) // damaged, after a gap
	k.Run = 3
	put(k.String(), enc.EncodeAll([]byte("\x1b[31m\u202e\x9b{}\n"), nil)) // forked
	put(bucket.Partition(490_000)+hostileText+bucket.Suffix, []byte("x"))
	for i, reason := range []string{hostileText, "evicted"} {
		k.FirstSeq, k.LastSeq, k.Run = uint64(3+i), uint64(3+i), 2
		note, err := bucket.NewLossNote(k, reason, time.Unix(1_795_000_000, 0), false)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(io.NewSectionReader(note.Body, 0, note.Size))
		put(k.LossKey(), text)
	}
	long := time.Unix(0, 0)
	for log, node := range []string{hostileText, strings.ToValidUTF8(hostileText, ""), strings.Repeat(hostileText, 2)} { // the first is not valid JSON
		k = bucket.Key{Node: node, LogID: uint64(log) + 1, Run: 2}
		o, err := bucket.NewHeartbeat(k, bucket.Heartbeat{ConfirmedBelow: 1, Version: hostileText, Trouble: []bucket.Trouble{{Name: hostileText, Message: hostileText}}, ClientsKnown: 2, Clients: []bucket.Client{{Name: hostileText, LastSeen: &long}, {Name: "<b>" + hostileText}}, RunSeconds: 1e18, At: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(io.NewSectionReader(o.Body, 0, o.Size))
		put(k.HeartbeatKey(), text)
	}
	put(bucket.HeartbeatPrefix+hostileText, []byte("x"))
}

// makeHostileLog makes a log with hostile usages, damage, and hostile file names.
func makeHostileLog(t *testing.T, dir string) (segment string) {
	t.Helper()
	testrun.WaitPastHourEnd()
	log, err := wal.Open(dir, wal.Options{Node: "edge-1"})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := errors.Join(log.Append(t.Context(), wal.Record{Client: "c\u009b", Usage: []byte(hostileUsage)}), log.Seal(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	segments, _ := log.Sealed()
	segment = segments[0].String()
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	damaged := filepath.Join(dir, "wal", segments[1].String(), fmt.Sprintf("%020d", 1))
	text, err := os.ReadFile(damaged)
	if err != nil {
		t.Fatal(err)
	}
	text[bytes.Index(text, []byte(hostileUsage))] ^= 1
	if err := os.WriteFile(damaged, text, 0o600); err != nil {
		t.Fatal(err)
	}
	name := strings.ReplaceAll(hostileText, "/", "")
	for _, in := range []string{"wal", "wal/quarantine", "wal/lost", "spool"} {
		if err := os.MkdirAll(filepath.Join(dir, in, name), 0o750); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, in, name+".json"), hostileText)
	}
	return segment
}

// hostileStatus returns a daemon's status in which every text is hostile.
func hostileStatus(t *testing.T) string {
	t.Helper()
	of := map[string]uint64{hostileText: 1}
	at := time.Now()
	s := admin.Status{
		Version: hostileText, Node: hostileText, LogID: hostileText, Verdict: hostileText, Summary: hostileText, Unready: []string{hostileText},
		Reasons:      []admin.Reason{{Text: hostileText}, {Verdict: hostileText, Name: hostileText, Text: hostileText, Advice: hostileText}},
		Sources:      []admin.SourceStatus{{Source: hostileText, Rejected: of, Dropped: of}},
		Destination:  admin.Destination{Where: hostileText, FailingSince: &at, Error: &admin.ErrorStatus{Kind: hostileText, Text: hostileText, Advice: hostileText}},
		Uploads:      admin.UploadStatus{Failures: of},
		Troubles:     []admin.Trouble{{Name: hostileText, Message: hostileText, Error: hostileText, Advice: hostileText}},
		PutAside:     []admin.PutAside{{Path: hostileText, Reason: hostileText}},
		Ledger:       admin.LedgerStatus{HTTP: admin.SourceLedger{Rejected: of, Dropped: of}},
		ClientsKnown: 20, Clients: slices.Repeat([]admin.ClientSeen{{Name: hostileText}}, 20),
	}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestHostileTextControlsNoTerminal runs every command on a hostile bucket, log,
// configuration and server.
func TestHostileTextControlsNoTerminal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	archive := filepath.Join(dir, "archive")
	makeHostileArchive(t, archive)
	config, _, _ := configure(t, dir, "wal: {min_free: 0}\nshipper: {retry_min: 10ms, destination: 'file://"+archive+"'}\n")
	segment := makeHostileLog(t, filepath.Join(dir, "data"))
	strange := filepath.Join(dir, "strange.yaml")
	write(t, strange, "\"no\\e[31m\\u009b\\u202e key\": 1\nnode: \"x\\e[31m\\nRIGHT: forged\"\nlog: {level: \"\\x7f\\e\\u009b\"}\n")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, "{\"code\":\"\\u001b[31m\u009b\u202e\\nRIGHT: forged\"}")
	}))
	defer server.Close()

	serveStatus(http.StatusOK, hostileStatus(t))(t, dir)

	plain, name := []string{"--config", config}, strings.TrimRight(hostileText, "\x00")
	invocations := map[string][][]string{
		"collectord audit":           {plain, {"--config", config, "--deep"}, {"--config", config, "--deep", "--json"}, {"--config", strange}, {name}},
		"collectord cat":             {plain, {"--config", config, "--usages", "--dedupe"}, {"--from", name}, {"--id", name}},
		"collectord completion":      {{name}},
		"collectord config":          {{name}, {"--" + name}},
		"collectord config check":    {plain, {"--config", strange}, {"--config", filepath.Join(dir, name)}},
		"collectord config print":    {plain, {"--config", strange}},
		"collectord config example":  {{}},
		"collectord config man":      {{}},
		"collectord doctor":          {plain, {"--config", config, "--json"}, {"--config", strange}, {name}},
		"collectord fleet":           {plain, {"--config", config, "--holes", "--expect", name, "file://" + archive, "file://" + dir + "/data"}, {"--config", config, "--holes", "--all", "--json", "--html", filepath.Join(dir, "fleet.html")}, {"--node", name}, {name}, {"--config", strange}},
		"collectord man":             {{}},
		"collectord run":             {{"--config", strange}, {name}},
		"collectord send":            {{server.URL, "--count", "3"}, {name}, {server.URL, "--count", "1", "--json"}},
		"collectord ship":            {{"--config", config, "--give-up-after", "300ms"}, {"--config", strange}},
		"collectord status":          {{"--config", config, "--admin-listen", "unix:" + dir + "/admin.sock"}, {"--config", config, "--admin-listen", "unix:" + dir + "/admin.sock", "--json"}, {"--config", config, "--check"}, {"--config", strange}, {name}},
		"collectord token":           {{name}},
		"collectord token new":       {{"a"}, {name}},
		"collectord version":         {{}},
		"collectord wal":             {{name}, {"--" + name}},
		"collectord wal acknowledge": {plain, {"--config", config, name}},
		"collectord wal cat":         {plain},
		"collectord wal export":      {{"--config", config, segment}, {"--config", config, name}, {"--config", config, filepath.Join(dir, "data", "wal", "quarantine", name)}},
		"collectord wal ls":          {plain, {"--config", config, "--json"}},
		"collectord wal repair":      {plain, {"--config", config, "--json"}},
		"collectord wal verify":      {plain, {"--config", config, "--json"}},
	}
	printsRecords := []string{"collectord cat", "collectord wal cat", "collectord wal export"}
	var commands func(c *cobra.Command) []string
	commands = func(c *cobra.Command) (paths []string) {
		if c.Runnable() && c.Name() != "help" && c.Parent() != nil && c.Parent().Name() != "completion" {
			paths = append(paths, c.CommandPath())
		}
		for _, sub := range c.Commands() {
			paths = append(paths, commands(sub)...)
		}
		return paths
	}
	if all := commands(rootCommand(nil)); !slices.Equal(slices.Sorted(slices.Values(all)), slices.Sorted(maps.Keys(invocations))) {
		t.Fatalf("the commands are %q: this test has to run each of them", all)
	}

	checkSafe := func(what, out string) {
		t.Helper()
		if err := terminalHazard(out); err != nil {
			t.Errorf("%s: %v in %q", what, err, out)
		}
	}
	// Commands that change the log come last.
	order := slices.SortedFunc(maps.Keys(invocations), func(a, b string) int {
		last := func(path string) int {
			return slices.Index([]string{"collectord wal repair", "collectord ship"}, path)
		}
		return last(a) - last(b)
	})
	for _, path := range order {
		for _, args := range invocations[path] {
			args = append(strings.Fields(strings.TrimPrefix(path, "collectord ")), args...)
			what := fmt.Sprintf("%q", args)
			out, stderr, _ := runCollectord(t, args...)
			checkSafe(what+" (standard error)", stderr)
			if !slices.Contains(printsRecords, path) {
				checkSafe(what, out)
				continue
			}
			if strings.Contains(out, `"a":`) && !strings.Contains(out, hostileUsage) {
				t.Errorf("%s changes a usage that it writes to a pipe: %q", what, out)
			}
			if on := runOnTerminal(t, args...); strings.Count(on, `"a":`) != strings.Count(out, `"a":`) {
				t.Errorf("%s prints to a terminal %q", what, on)
			} else {
				checkSafe(what+" (terminal)", on)
			}
		}
	}
	// The commands must have read the hostile texts.
	out, _, status := runCollectord(t, "audit", "--config", config, "--deep")
	if status != 2 || !strings.HasPrefix(out, "NOT RIGHT: ") || !strings.Contains(out, `\u202e`) || !strings.Contains(out, "FORKED") || !strings.Contains(out, "LOST") || !strings.Contains(out, "FOREIGN") {
		t.Errorf("audit exits with %d: %s", status, out)
	}
	out, _, status = runCollectord(t, "fleet", "--config", config)
	if status != 2 || !strings.HasPrefix(out, "NOT RIGHT: 1 host in trouble, 1 host with silent devices, 2 damaged files\n") || strings.Count(out, `\u202e`) < 6 {
		t.Errorf("fleet exits with %d: %s", status, out)
	}
	page, err := os.ReadFile(filepath.Join(dir, "fleet.html"))
	if err != nil || strings.Count(string(page), `\u202e`) < 6 {
		t.Errorf("%v: %s", err, page)
	}
	checkSafe("the page", string(page))
}

// runOnTerminal runs a command whose standard output is a terminal.
func runOnTerminal(t *testing.T, args ...string) string {
	t.Helper()
	outside, inside := openTerminal(t)
	cmd := command(t, args...)
	cmd.Stdout = inside
	printed := make(chan string, 1)
	go func() {
		all, _ := io.ReadAll(outside) // until all descriptors of the other end are closed
		printed <- string(all)
	}()
	_ = cmd.Run() // its status was checked before
	inside.Close()
	return strings.ReplaceAll(<-printed, "\r\n", "\n")
}
