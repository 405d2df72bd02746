package bucket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"collectord/shipper/bucket/s3test"
)

func TestAPatternExpandsToExistingDestinations(t *testing.T) {
	root := t.TempDir()
	f, s := newFake(t)
	for _, key := range []string{
		"wards/edge-1/dt=2026-11-23/hour=08/a.ndjson.zst", "wards/edge-2/_collectord/nodes/n.json", "wards/edge-3/prod/x", "wards/edge-3/test/x",
		"wards/notes.txt", "wards/dt=2026-11-23/hour=08/a.ndjson.zst", "wards/_collectord/nodes/n.json", "wards/[a]/x", "clinic/edge-9/prod/x", "wards/ünï/x",
	} {
		f.Put(key, []byte("x"))
		path := filepath.Join(root, filepath.FromSlash(key))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o750), os.WriteFile(path, []byte("x"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for pattern, want := range map[string][]string{
		"wards/edge-1":       {"wards/edge-1"},
		"nobody":             {"nobody"}, // a URL without a pattern need not exist
		"wards/*/":           {"wards/%5Ba%5D", "wards/edge-1", "wards/edge-2", "wards/edge-3", "wards/%C3%BCn%C3%AF"},
		"wards/edge-*":       {"wards/edge-1", "wards/edge-2", "wards/edge-3"},
		"*/*/prod/":          {"clinic/edge-9/prod", "wards/edge-3/prod"},
		"*/edge-[1-9]/prod/": nil, // only * is special
		"wards/x*":           nil,
	} {
		for _, base := range []string{"s3://" + s3test.Bucket + "/", "file://" + root + "/"} {
			all, err := Expand(context.Background(), Destination{URL: base + pattern, S3: S3Options{Endpoint: f.URL, Region: "us-east-1", PathStyle: "on", CredentialsFile: s.provider.file}})
			if errors.Is(err, ErrNoMatch) != (want == nil) || err != nil && want != nil {
				t.Errorf("%s: %v", base+pattern, err)
			}
			var got []string
			for _, d := range all {
				got = append(got, strings.TrimPrefix(d.URL, base))
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", base+pattern, got, want)
			}
		}
	}
	for _, bad := range []string{"s3://*/prod", "http://host/*"} {
		if all, err := Expand(context.Background(), Destination{URL: bad}); err == nil || errors.Is(err, ErrNoMatch) {
			t.Errorf("%s: %v, %v", bad, all, err)
		}
	}
}

// TestDestinationsOfAPatternShareTheirConnections: each host of a fleet may have its own
// prefix, and idle connections use memory.
func TestDestinationsOfAPatternShareTheirConnections(t *testing.T) {
	f, s := newFake(t)
	for i := range 40 {
		f.Put(fmt.Sprintf("edge-%d/x", i), []byte("x"))
	}
	var dials atomic.Int32
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		dials.Add(1)
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	all, err := Expand(context.Background(), Destination{URL: "s3://" + s3test.Bucket + "/*/", S3: S3Options{
		Endpoint: f.URL, Region: "us-east-1", PathStyle: "on", CredentialsFile: s.provider.file, Dial: dial,
	}})
	if err != nil || len(all) != 40 {
		t.Fatalf("%d destinations, %v", len(all), err)
	}
	for _, d := range all {
		store, err := Open(d)
		if err != nil {
			t.Fatal(err)
		}
		for key, err := range store.List(context.Background(), "") {
			if err != nil || key != "x" {
				t.Fatalf("%s: %q, %v", d.URL, key, err)
			}
		}
	}
	if n := dials.Load(); n > 2 {
		t.Errorf("%d connections to %d destinations", n, len(all))
	}
}

// TestAPatternIsListedByPrefix uses real storages, which return common prefixes.
func TestAPatternIsListedByPrefix(t *testing.T) {
	for name, start := range map[string]func(testing.TB) string{"MinIO": s3test.MinIO, "versitygw": s3test.Versity} {
		t.Run(name, func(t *testing.T) {
			s := newBucket(t, start(t), false)
			for i := range 3 {
				for j := range 3 {
					if err := s.Put(context.Background(), testObject(fmt.Sprintf("ward-%d/%d", i, j), "x")); err != nil {
						t.Fatal(err)
					}
				}
			}
			base := "s3://" + s.bucket + "/" + s.prefix
			all, err := Expand(context.Background(), Destination{URL: base + "ward-*/", S3: S3Options{Endpoint: s.client.EndpointURL().String(), Region: "us-east-1", PathStyle: "on", CredentialsFile: s.provider.file}})
			if err != nil || len(all) != 3 || all[2].URL != base+"ward-2" {
				t.Errorf("%+v, %v", all, err)
			}
		})
	}
}
