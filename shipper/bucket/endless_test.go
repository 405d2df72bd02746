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
	f.Behave(s3test.Behaviour{Fault: listingOf(func(string) page {
		n++
		return page{IsTruncated: true, NextContinuationToken: "x", CommonPrefixes: []commonPrefix{{"wards/a/"}, {"wards/b/"}}}
	})})
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	names, err := s.prefixesOf(ctx, "wards/")
	t.Log(n, "pages,", len(names), "names,", err)
}

func TestAHeartbeatThatIsNotEncryptedHoldsUpUsages(t *testing.T) {
	f, s := newFake(t, func(o *S3Options) { o.SSE = "s3" })
	t.Log(s.Put(t.Context(), unreal("a", "x")))
	f.Behave(s3test.Behaviour{Encryption: s3test.Disregard})
	h := NewObject("_collectord/nodes/n-0000000000000007.json", []byte("{}"))
	h.Latest = true
	t.Log("heartbeat:", s.Put(t.Context(), h))
	err := s.Put(t.Context(), unreal("b", "x"))
	_, sent := f.Objects()["data/b"]
	t.Log("usage sent after that:", sent, err)
}
