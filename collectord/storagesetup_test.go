//go:build torture

package main

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"collectord/shipper/bucket/storages"
)

// These tests apply the setup instructions of docs/storages.md literally.

// storagesBlock returns the only code block of a language in docs/storages.md that contains
// a word.
func storagesBlock(t *testing.T, language, word string) string {
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

// storageNamed returns a storage of docs/storages.md.
func storageNamed(t *testing.T, name string) storages.Storage {
	t.Helper()
	all := storages.All()
	i := slices.IndexFunc(all, func(k storages.Storage) bool { return k.Name == name })
	skipMissing(t, all[i].Missing())
	return all[i]
}

// TestWhatIsToBeSetOnAStorageIsNeeded starts storages without the settings in the second
// table of docs/storages.md. It checks that the features that need these settings are missing.
func TestWhatIsToBeSetOnAStorageIsNeeded(t *testing.T) {
	document, err := os.ReadFile(docsStorages)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		storage, without string
		cell             func(*storages.Row) string
		with, then       string
	}{
		{"MinIO", "MINIO_KMS_SECRET_KEY", func(r *storages.Row) string { return r.Encryption }, storages.Yes, "refused (501 NotImplemented)"},
		{"SeaweedFS", "WEED_S3_SSE_KEK", func(r *storages.Row) string { return r.Encryption }, storages.Yes, "refused (500 InternalError)"},
		{"JuiceFS", "--object-meta", func(r *storages.Row) string { return r.Metadata }, storages.Yes, storages.No},
	} {
		t.Run(c.storage, func(t *testing.T) {
			if !strings.Contains(string(document), "`"+c.without) {
				t.Errorf("%s does not name %s", docsStorages, c.without)
			}
			s, err := storageNamed(t, c.storage).New(t.TempDir(), filepath.Join(t.TempDir(), "storage.log"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.Kill)
			var cells []string
			for _, s.OmitArg = range []string{"", c.without} {
				if err := s.StartEmpty(); err != nil {
					t.Fatal(err)
				}
				if err := s.Client().MakeBucket("usages"); err != nil {
					t.Fatal(err)
				}
				row, err := s.TestFeatures("usages")
				if err != nil {
					t.Fatal(err)
				}
				cells = append(cells, c.cell(&row))
			}
			if cells[0] != c.with || cells[1] != c.then {
				t.Errorf("with %s: %s, without: %s", c.without, cells[0], cells[1])
			}
		})
	}
}

// host is a daemon with its own storage keys.
type host struct {
	*daemon
	config string
	client *storages.Client
}

// startHost starts edge-1 with keys that have the rights of a policy.
func startHost(t *testing.T, s *storages.Server, policy string) host {
	t.Helper()
	name, secret := "edge-1", "the-secret-of-edge-1"
	if s.Name == "Garage" { // Garage accepts no other keys
		name, secret = "GK"+strings.Repeat("e1", 12), strings.Repeat("0123", 16)
	}
	policy = strings.Replace(policy, "SECRET", secret, 1)
	if err := s.AddUser(name, secret, policy); err != nil {
		t.Fatal(err)
	}
	restricted := *s
	restricted.Key, restricted.Secret = name, secret
	dir := t.TempDir()
	config, port, admin := configure(t, dir, "wal: {min_free: 0}\nshutdown: {drain: 0s}\nshipper:\n  retry_min: 50ms\n  retry_max: 200ms\n"+shipperSettings(t, dir, &restricted))
	return host{start(t, config, port, admin), config, restricted.Client()}
}

// hostPolicy returns the IAM policy in docs/storages.md.
func hostPolicy(t *testing.T) string {
	t.Helper()
	if want := storages.MinIOUser("edge-1", "SECRET", "policy.json"); storagesBlock(t, "sh", "mc admin") != want {
		t.Errorf("%s has other commands than\n%s", docsStorages, want)
	}
	return storagesBlock(t, "json", "s3:prefix")
}

// theftAttempt is a request that a thief tries.
type theftAttempt struct{ method, path, query, copied string }

// TestAStolenHostReadsNoOtherHostsUsages ships, audits and reads with the policies in
// docs/storages.md. Then it tries a thief's requests with the same keys.
func TestAStolenHostReadsNoOtherHostsUsages(t *testing.T) {
	policy, identity := hostPolicy(t), storagesBlock(t, "json", "Read:usages/edge-1/*")
	for _, c := range []struct {
		storage, policy string
		bucket          bool // other hosts have another bucket
		deletes         bool // the permission to put includes the permission to delete
	}{
		{storage: "MinIO", policy: policy},
		{storage: "versitygw", policy: policy},
		{storage: "Ceph RGW", policy: policy},
		{storage: "SeaweedFS", policy: identity, deletes: true},
		{storage: "Garage", bucket: true, deletes: true},
	} {
		t.Run(c.storage, func(t *testing.T) {
			s := startStorage(t, storageNamed(t, c.storage), t.TempDir())
			others := "/usages"
			if c.bucket {
				if others = "/others"; s.Client().MakeBucket("others") != nil {
					t.Fatal("no second bucket")
				}
			}
			for _, key := range []string{"/edge-2/dt=2026-11-23/hour=08/other.ndjson.zst", "/edge-10/other", "/other"} {
				if a, err := s.Client().Put(others+key, []byte("of another host")); err != nil || a.Status != http.StatusOK {
					t.Fatal(a, err)
				}
			}
			h := startHost(t, s, c.policy)
			acks := &acknowledged{ids: map[int]string{}}
			h.post(acks, 0, 300, 8, false)
			untilShipped(t, h.daemon)
			h.kill()
			verifyAcknowledged(t, acks, catRecords(t, h.config))
			mustRun(t, "audit", "--deep", "--from-start", "--config", h.config)

			keys, err := h.client.Keys("usages", "edge-1/dt=")
			if err != nil || len(keys) == 0 {
				t.Fatal(keys, err)
			}
			tries := []theftAttempt{
				{method: "GET", path: "/"},
				{method: "GET", path: "/usages", query: "policy"},
				{method: "PUT", path: "/usages", query: "policy"},
				{method: "HEAD", path: others},
				{method: "GET", path: others, query: "list-type=2"},
				{method: "GET", path: others, query: "list-type=2&prefix=edge-1"},
				{method: "GET", path: others, query: "list-type=2&prefix=edge-2/"},
				{method: "GET", path: others, query: "versions"},
				{method: "GET", path: others, query: "uploads"},
				{method: "GET", path: others + "/edge-2/dt=2026-11-23/hour=08/other.ndjson.zst"},
				{method: "HEAD", path: others + "/edge-2/dt=2026-11-23/hour=08/other.ndjson.zst"},
				{method: "PUT", path: others + "/edge-2/dt=2026-11-23/hour=08/other.ndjson.zst"},
				{method: "DELETE", path: others + "/edge-2/dt=2026-11-23/hour=08/other.ndjson.zst"},
				{method: "GET", path: others + "/edge-10/other"},
				{method: "GET", path: others + "/edge-1/../other"},
				{method: "PUT", path: others + "/new"},
				{method: "PUT", path: "/usages/edge-1/copied", copied: others + "/edge-2/dt=2026-11-23/hour=08/other.ndjson.zst"},
			}
			if !c.deletes {
				tries = append(tries, theftAttempt{method: "DELETE", path: "/usages/" + keys[0]})
			}
			for _, try := range tries {
				query, err := url.ParseQuery(try.query)
				if err != nil {
					t.Fatal(err)
				}
				header := http.Header{}
				if try.copied != "" {
					header.Set("X-Amz-Copy-Source", try.copied)
				}
				a, err := h.client.Do(try.method, try.path, query, header, nil)
				// A list of buckets is allowed if it names only the host's own bucket.
				names := strings.Count(string(a.Body), "<Name>")
				if c.bucket {
					names -= strings.Count(string(a.Body), "<Name>usages<")
				}
				allowed := a.Status/100 == 2 && (try.path != "/" || names > 0)
				if err != nil || allowed {
					t.Errorf("%+v: status %d, %s, %v", try, a.Status, a.Body, err)
				}
			}
		})
	}
}

// TestThePolicyOfAHostGrantsNothingMore removes each action from the policy in
// docs/storages.md, and checks what stops working.
func TestThePolicyOfAHostGrantsNothingMore(t *testing.T) {
	policy := hostPolicy(t)
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

// nginxLocation returns the nginx location in docs/storages.md, with a storage as its
// upstream.
func nginxLocation(t *testing.T, s *storages.Server) string {
	t.Helper()
	text := storagesBlock(t, "nginx", "proxy_pass")
	_, location, ok := strings.Cut(text, "location / {")
	location, _, closed := strings.Cut(location, "}")
	if !ok || !closed || strings.Count(location, "http://127.0.0.1:9001") != 1 {
		t.Fatalf("this test does not know the documented nginx configuration: %s", text)
	}
	return strings.Replace(location, "http://127.0.0.1:9001", s.Endpoint(), 1)
}

// TestNginxThatIsSetUpAsDocumentedTakesLargeObjects ships an object of 5 MB to MinIO through
// nginx with the documented lines. It repeats that without one line at a time.
func TestNginxThatIsSetUpAsDocumentedTakesLargeObjects(t *testing.T) {
	skipMissing(t, notInstalled("nginx"))
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
			through, log := startNginxWithLocation(t, strings.Join(kept, ""))
			dir := t.TempDir()
			settings := strings.Replace(shipperSettings(t, dir, s), s.Endpoint(), through, 1)
			config, port, admin := configure(t, dir, "wal: {min_free: 0}\nshutdown: {drain: 0s}\nshipper:\n"+settings)
			d := start(t, config, port, admin)
			const requests, each = 20, 8
			d.postLarge(requests, each)
			failures := fmt.Sprintf("collectord_shipper_failures_total{kind=%q}", c.failure)
			until(t, "the object is shipped or refused", func() bool {
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
