package bucket

import (
	"context"
	"testing"
	"time"

	"collectord/shipper/bucket/s3test"
)

func TestAPatternOverAnEndlessListingEnds(t *testing.T) {
	f, s := newFake(t)
	n := 0
	f.Behave(s3test.Behaviour{Fault: servePages(func(string) page {
		n++
		return page{IsTruncated: true, NextContinuationToken: "x", CommonPrefixes: []commonPrefix{{"wards/a/"}, {"wards/b/"}}}
	})})
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	names, err := s.prefixesOf(ctx, "wards/")
	if err == nil || ctx.Err() != nil {
		t.Errorf("got %d names in %d pages, %v", len(names), n, err)
	}
}

func TestAnUnencryptedHeartbeatBlocksUsages(t *testing.T) {
	f, s := newFake(t, func(o *S3Options) { o.SSE = "s3" })
	if err := s.Put(t.Context(), testObject("a", "x")); err != nil {
		t.Fatal(err)
	}
	f.Behave(s3test.Behaviour{Encryption: s3test.Disregard})
	h := NewObject("_collectord/nodes/n-0000000000000007.json", []byte("{}"))
	h.Latest = true
	if err := s.Put(t.Context(), h); err == nil {
		t.Error("the put of an unencrypted heartbeat succeeded")
	}
	err := s.Put(t.Context(), testObject("b", "x"))
	if _, sent := f.Objects()["data/b"]; sent || err == nil {
		t.Errorf("usage was sent: %v, %v", sent, err)
	}
}
