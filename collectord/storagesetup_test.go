//go:build torture

package main

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"collectord/shipper/bucket/storages"
)

// What docs/storages.md tells people to set up is set up here as it is written.

// fromStorages is the only code block of a language in docs/storages.md that holds a
// word.
func fromStorages(t *testing.T, language, word string) string {
	t.Helper()
	document, err := os.ReadFile(docsStorages)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, m := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(string(document), -1) {
		if strings.Contains(m[1], word) {
			found = append(found, m[1])
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d blocks of %s with %s in %s", len(found), language, word, docsStorages)
	}
	return found[0]
}

// storageNamed is one of those in docs/storages.md.
func storageNamed(t *testing.T, name string) storages.Storage {
	t.Helper()
	all := storages.All()
	i := slices.IndexFunc(all, func(k storages.Storage) bool { return k.Name == name })
	goWithout(t, all[i].Missing())
	return all[i]
}

// host is a daemon that ships with keys of its own.
type host struct {
	*daemon
	config string
	client *storages.Client
}

// startHost starts edge-1 with keys that may do what a policy says.
func startHost(t *testing.T, s *storages.Server, policy string) host {
	t.Helper()
	const name, secret = "edge-1", "the-secret-of-edge-1"
	if err := s.AddUser(name, secret, policy); err != nil {
		t.Fatal(err)
	}
	restricted := *s
	restricted.Key, restricted.Secret = name, secret
	dir := t.TempDir()
	config, port, admin := configure(t, dir, "wal: {min_free: 0}\nshutdown: {drain: 0s}\nshipper:\n  retry_min: 50ms\n  retry_max: 200ms\n"+shipTo(t, dir, &restricted))
	return host{start(t, config, port, admin), config, restricted.Client()}
}

// TestAStolenHostReadsNoOtherHostsUsages ships, audits and reads with the policy in
// docs/storages.md, and tries what a thief would with the same keys.
func TestAStolenHostReadsNoOtherHostsUsages(t *testing.T) {
	policy := fromStorages(t, "json", "usages/edge-1/*")
	for _, name := range []string{"MinIO", "versitygw"} {
		t.Run(name, func(t *testing.T) {
			s := startStorage(t, storageNamed(t, name), t.TempDir())
			for _, key := range []string{"edge-2/dt=2026-11-23/hour=08/other.ndjson.zst", "edge-10/other", "other"} {
				if a, err := s.Client().Put("/usages/"+key, []byte("of another host")); err != nil || a.Status != http.StatusOK {
					t.Fatal(a, err)
				}
			}
			h := startHost(t, s, policy)
			acks := &acknowledged{ids: map[int]string{}}
			h.post(acks, 0, 300, 8, false)
			untilShipped(t, h.daemon)
			h.kill()
			verify(t, acks, catRecords(t, h.config))
			must0(t, "audit", "--deep", "--from-start", "--config", h.config)

			keys, err := h.client.Keys("usages", "edge-1/dt=")
			if err != nil || len(keys) == 0 {
				t.Fatal(keys, err)
			}
			for _, try := range []struct{ method, path, query, copied string }{
				{method: "GET", path: "/"},
				{method: "HEAD", path: "/usages"},
				{method: "GET", path: "/usages", query: "list-type=2"},
				{method: "GET", path: "/usages", query: "list-type=2&prefix=edge-1"},
				{method: "GET", path: "/usages", query: "list-type=2&prefix=edge-2/"},
				{method: "GET", path: "/usages", query: "versions"},
				{method: "GET", path: "/usages", query: "uploads"},
				{method: "GET", path: "/usages", query: "policy"},
				{method: "PUT", path: "/usages", query: "policy"},
				{method: "GET", path: "/usages/edge-2/dt=2026-11-23/hour=08/other.ndjson.zst"},
				{method: "HEAD", path: "/usages/edge-2/dt=2026-11-23/hour=08/other.ndjson.zst"},
				{method: "PUT", path: "/usages/edge-2/dt=2026-11-23/hour=08/other.ndjson.zst"},
				{method: "GET", path: "/usages/edge-10/other"},
				{method: "GET", path: "/usages/edge-1/../other"},
				{method: "PUT", path: "/usages/new"},
				{method: "PUT", path: "/usages/edge-1/copied", copied: "/usages/edge-2/dt=2026-11-23/hour=08/other.ndjson.zst"},
				{method: "DELETE", path: "/usages/" + keys[0]},
			} {
				query, err := url.ParseQuery(try.query)
				if err != nil {
					t.Fatal(err)
				}
				header := http.Header{}
				if try.copied != "" {
					header.Set("X-Amz-Copy-Source", try.copied)
				}
				a, err := h.client.Do(try.method, try.path, query, header, nil)
				// A list of buckets may be answered, and names none.
				allowed := a.Status/100 == 2 && (try.path != "/" || strings.Contains(string(a.Body), "<Name>"))
				if err != nil || allowed {
					t.Errorf("%+v: status %d, %s, %v", try, a.Status, a.Body, err)
				}
			}
		})
	}
}

// TestThePolicyOfAHostGrantsNothingMore takes each action out of the policy in
// docs/storages.md, and sees what no longer works.
func TestThePolicyOfAHostGrantsNothingMore(t *testing.T) {
	policy := fromStorages(t, "json", "usages/edge-1/*")
	without := func(t *testing.T, action string) host {
		s := startStorage(t, storageNamed(t, "MinIO"), t.TempDir())
		if strings.Count(policy, `"`+action+`"`) != 1 {
			t.Fatalf("the policy does not grant %s once", action)
		}
		h := startHost(t, s, strings.Replace(policy, `"`+action+`"`, `"s3:ListBucketVersions"`, 1))
		h.postBatch(0, 10)
		return h
	}
	t.Run("s3:PutObject", func(t *testing.T) {
		h := without(t, "s3:PutObject")
		if err := h.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		until(t, "an upload is refused", func() bool {
			return h.metrics()[`collectord_shipper_failures_total{kind="AccessDenied"}`] > 0
		})
	})
	for action, command := range map[string]string{"s3:GetObject": "cat", "s3:ListBucket": "audit"} {
		t.Run(action, func(t *testing.T) {
			h := without(t, action)
			untilShipped(t, h.daemon)
			h.stop()
			if out, stderr, status := runCollectord(t, command, "--config", h.config); status == 0 {
				t.Errorf("%s works without %s: %s%s", command, action, out, stderr)
			}
		})
	}
}

// nginxLocation is the location of the nginx in docs/storages.md, in front of a
// storage.
func nginxLocation(t *testing.T, s *storages.Server) string {
	t.Helper()
	text := fromStorages(t, "nginx", "proxy_pass")
	_, location, ok := strings.Cut(text, "location / {")
	location, _, closed := strings.Cut(location, "}")
	if !ok || !closed || strings.Count(location, "http://127.0.0.1:9001") != 1 {
		t.Fatalf("another nginx than this test knows: %s", text)
	}
	return strings.Replace(location, "http://127.0.0.1:9001", s.Endpoint(), 1)
}

// TestNginxThatIsSetUpAsDocumentedTakesLargeObjects ships an object of 5 MB to MinIO
// through it, and then without one of its lines.
func TestNginxThatIsSetUpAsDocumentedTakesLargeObjects(t *testing.T) {
	goWithout(t, notInstalled("nginx"))
	s := startStorage(t, storageNamed(t, "MinIO"), t.TempDir())
	for _, c := range []struct {
		without, failure string
		buffers          bool
	}{
		{},
		{without: "client_max_body_size", failure: "too_large"},
		{without: "proxy_set_header Host", failure: "SignatureDoesNotMatch"},
		{without: "proxy_request_buffering", buffers: true},
	} {
		t.Run("without "+c.without, func(t *testing.T) {
			var kept []string
			for line := range strings.Lines(nginxLocation(t, s)) {
				if c.without == "" || !strings.Contains(line, c.without) {
					kept = append(kept, line)
				}
			}
			through, log := nginxBefore(t, strings.Join(kept, ""))
			dir := t.TempDir()
			settings := strings.Replace(shipTo(t, dir, s), s.Endpoint(), through, 1)
			config, port, admin := configure(t, dir, "wal: {min_free: 0}\nshutdown: {drain: 0s}\nshipper:\n"+settings)
			d := start(t, config, port, admin)
			const requests, each = 20, 8
			d.postLarge(requests, each)
			failures := fmt.Sprintf("collectord_shipper_failures_total{kind=%q}", c.failure)
			until(t, "it is shipped, or refused", func() bool {
				m := d.metrics()
				return c.failure != "" && m[failures] > 0 || m["collectord_usages_shipped_total"] == requests*each
			})
			for series, n := range d.metrics() {
				if c.failure == "" && n > 0 && strings.HasPrefix(series, "collectord_shipper_failures_total") {
					t.Errorf("%s %v", series, n)
				}
			}
			if c.failure != "" && d.metrics()[failures] == 0 {
				t.Errorf("no failure of kind %s: %s", c.failure, d.log())
			}
			text, err := os.ReadFile(log)
			if err != nil || strings.Contains(string(text), "buffered to a temporary file") != c.buffers {
				t.Errorf("nginx logs %q, %v", text, err)
			}
		})
	}
}
