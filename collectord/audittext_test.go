package main

import (
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"collectord/shipper/bucket"
)

// TestAuditReportsWhatIsUnknown prints impossible times, and node names that are empty or
// look like other output.
func TestAuditReportsWhatIsUnknown(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, where := fakeS3(t, dir)
	config, _, _ := configure(t, dir, "shipper:\n  "+where+"\n")
	store := openURL(t, "s3://bucket/x", bucket.S3Options{Endpoint: f.URL, Region: "us-east-1", PathStyle: "on", CredentialsFile: dir + "/credentials"})
	put := func(key string, m bucket.Metadata, content string) {
		t.Helper()
		o := bucket.NewObject(key, []byte(content))
		o.Metadata = m
		if err := store.Put(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	const hour9999 = 70389527 // the last hour whose year has four digits
	k := bucket.Key{Node: "far", LogID: 1, Run: 1, FirstSeq: 1, LastSeq: 10, Hour: hour9999}
	if !strings.HasPrefix(k.String(), "dt=9999-12-31/hour=23/") {
		t.Fatal(k)
	}
	put(k.String(), bucket.Metadata{}, "x")
	k.FirstSeq, k.LastSeq = 21, 30
	put(k.String(), bucket.Metadata{}, "x")
	for i, reason := range []string{"evicted", "damaged"} {
		n := bucket.Key{Node: "far", LogID: 1, Run: 1, FirstSeq: uint64(31 + 10*i), LastSeq: uint64(40 + 10*i)}
		note, err := bucket.NewLossNote(n, reason, time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC), false)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(io.NewSectionReader(note.Body, 0, note.Size))
		put(n.LossKey(), bucket.Metadata{}, strings.Replace(string(text), "2026-11-23T08:00:00Z", "9999-12-31T23:59:59-23:00", 1))
	}
	sum := strings.Repeat("0", 64)
	for i, name := range []string{"copied.ndjson.zst", "another.ndjson.zst"} {
		put("dt=somewhere/"+name, bucket.Metadata{Format: 1, LogID: "0000000000000002", Run: "0000000000000001", FirstSeq: uint64(1 + 2*i), LastSeq: uint64(1 + 2*i), Records: 1, SHA256: sum}, "x")
	}
	forged := bucket.Key{Node: "edge-1 (10 records), log 0000000000000004", LogID: 3, Run: 1, FirstSeq: 1, LastSeq: 10, Hour: 490_000}
	put(forged.String(), bucket.Metadata{}, "x")
	forged.FirstSeq, forged.LastSeq = 21, 30
	put(forged.String(), bucket.Metadata{}, "x")
	putHeartbeat(t, store, "fine  00000009", 4, time.Second, bucket.Heartbeat{})
	putHeartbeat(t, store, "-", 5, time.Second, bucket.Heartbeat{})

	out, _, status := runCollectord(t, "audit", "--config", config, "s3://bucket/x")
	out = regexp.MustCompile(` +`).ReplaceAllString(out, " ")
	for _, part := range []string{
		"\nNOT YET seq 11 to 20 (10 records) of far, log 0000000000000001, run 0000000000000001\n received at an unknown time; the bucket has later records; ",
		"\n evicted to make room (wal.when_full: drop_oldest), noted at an unknown time\n",
		"\n quarantined: the bytes no longer checked out, noted at an unknown time\n",
		"\nNOT YET seq 2 to 2 (1 record) of \"\", log 0000000000000002, run ",
		"\nOVERDUE seq 11 to 20 (10 records) of \"edge-1 (10 records), log 0000000000000004\", log 0000000000000003, run ",
		"\n\"\" 0000000000000002 1 2 2 1 3 - - -\n",
	} {
		if !strings.Contains(out, part) {
			t.Errorf("%d: no %q in %s", status, part, out)
		}
	}
	out, _, _ = runCollectord(t, "audit", "--config", config, "--json", "s3://bucket/x")
	if strings.Contains(out, "0001-01-01") || strings.Contains(out, "10000-") {
		t.Errorf("%s", out)
	}
	lines, _, _ := runFleet(t, config, "s3://bucket/x")
	if text := strings.Join(lines, "\n"); !strings.Contains(text, "\nfine \"fine 00000009\" 00000004 ") || !strings.Contains(text, "\nfine - 00000005 ") {
		t.Errorf("%s", text)
	}
}

func TestInvalidNodeNamesAreQuoted(t *testing.T) {
	for name, want := range map[string]string{
		"edge-1.ward_3": "edge-1.ward_3", "": `""`, "a b": `"a b"`, "größe": `"größe"`, "a\nb\u202e": `"a\nb\u202e"`, `"a"`: `"\"a\""`,
	} {
		if got := nodeName(name).String(); got != want || quoted(got) != got {
			t.Errorf("%q is written %s", name, got)
		}
	}
}
