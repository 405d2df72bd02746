package bucket

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"collectord/shipper/bucket/s3test"
)

// page is the answer to one request of a listing.
type page struct {
	XMLName               xml.Name `xml:"ListBucketResult"`
	IsTruncated           bool
	NextContinuationToken string `xml:",omitempty"`
	Contents              []entry
	CommonPrefixes        []commonPrefix
}

type (
	entry        struct{ Key, LastModified string }
	commonPrefix struct{ Prefix string }
)

// servePages answers the requests of a listing with pages, by continuation token.
func servePages(pages func(token string) page) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		q := r.URL.Query()
		if q.Has("list-type") {
			w.Header().Set("Content-Type", "application/xml")
			_ = xml.NewEncoder(w).Encode(pages(q.Get("continuation-token")))
		}
		return q.Has("list-type")
	}
}

func entries(keys ...string) (all []entry) {
	for _, k := range keys {
		all = append(all, entry{k, "2026-11-23T08:00:00Z"})
	}
	return all
}

// TestABrokenListingIsAnErrorWithAHint: without the error, an audit would miss objects, or never
// end.
func TestABrokenListingIsAnErrorWithAHint(t *testing.T) {
	t.Parallel()
	thousand := make([]string, 1000)
	for i := range thousand {
		thousand[i] = fmt.Sprintf("data/dt=2026-11-23/hour=08/%04d.ndjson.zst", i)
	}
	n := 0
	for name, c := range map[string]struct {
		pages func(token string) page
		want  error
	}{
		"the first page again and again": {func(string) page {
			return page{IsTruncated: true, NextContinuationToken: "x", Contents: entries(thousand...)}
		}, errRepeats},
		"the first page, with new tokens": {func(string) page {
			n++
			return page{IsTruncated: true, NextContinuationToken: fmt.Sprint(n), Contents: entries(thousand...)}
		}, errRepeats},
		"empty pages without end": {func(string) page { return page{IsTruncated: true, NextContinuationToken: "x"} }, errRepeats},
		"pages in a cycle": {func(token string) page {
			return page{IsTruncated: true, NextContinuationToken: map[string]string{"": "a", "a": "b", "b": "c"}[token] + "a"}
		}, errRepeats},
		"common prefixes": {func(string) page {
			return page{Contents: entries(thousand[:2]...), CommonPrefixes: []commonPrefix{{"data/dt=2026-11-24/"}}}
		}, errPrefixes},
		"a key outside of the prefix":                     {func(string) page { return page{Contents: entries(thousand[0], "other/dt=2026-11-23/hour=08/x")} }, errUnlisted},
		"a key shorter than the prefix":                   {func(string) page { return page{Contents: entries("d")} }, errUnlisted},
		"a key in the store, but shorter than the prefix": {func(string) page { return page{Contents: entries("data/d")} }, errUnlisted},
		"no key":                       {func(string) page { return page{Contents: entries("")} }, errUnlisted},
		"more entries than a page has": {func(string) page { return page{Contents: make([]entry, maxEntries+1)} }, errHugePage},
		"a page that is too long":      {func(string) page { return page{Contents: entries("data/" + strings.Repeat("x", maxPageBytes))} }, errHugePage},
		"no token for the next page":   {func(string) page { return page{IsTruncated: true} }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f, s := newFake(t)
			f.Behave(s3test.Behaviour{Fault: servePages(c.pages)})
			listed := 0
			var last error
			for _, err := range s.List(context.Background(), DataPrefix) {
				if last = err; err == nil {
					listed++
				}
			}
			var failure *Error
			if c.want != nil && !errors.Is(last, c.want) || !errors.As(last, &failure) || failure.Kind != "listing" || !failure.Permanent || !strings.Contains(failure.Hint, "does not list as S3 does") {
				t.Errorf("after %d keys: %v", listed, last)
			}
			if listed > 4000 {
				t.Errorf("%d keys were listed before the error", listed)
			}
		})
	}
}

// TestAPageIsJudgedByItsEntries: keys that a host chooses stop no listing.
func TestAPageIsJudgedByItsEntries(t *testing.T) {
	f, s := newFake(t)
	var keys []string
	for i := range 1000 {
		keys = append(keys, fmt.Sprintf("data/dt=2026-11-23/hour=08/%04d%s", i, strings.Repeat("Contents", 100)))
	}
	f.Behave(s3test.Behaviour{Fault: servePages(func(string) page { return page{Contents: entries(keys...)} })})
	listed := 0
	for _, err := range s.List(context.Background(), DataPrefix) {
		if err != nil {
			t.Fatal(err)
		}
		listed++
	}
	if listed != len(keys) {
		t.Errorf("%d of %d keys were listed", listed, len(keys))
	}
}

// TestAListingNeedNotBeSorted: some storages sort by folder or by time.
func TestAListingNeedNotBeSorted(t *testing.T) {
	f, s := newFake(t)
	var keys []string
	for i := range 5000 {
		keys = append(keys, fmt.Sprintf("data/dt=2026-11-23/hour=08/%04d.ndjson.zst", i*7919%5000))
	}
	f.Behave(s3test.Behaviour{Fault: servePages(func(token string) page {
		var at int
		_, _ = fmt.Sscan(token, &at)
		p := page{Contents: entries(keys[at : at+1000]...)}
		if at += 1000; at < len(keys) {
			p.IsTruncated, p.NextContinuationToken = true, fmt.Sprint(at)
		}
		return p
	})})
	var got []string
	for key, err := range s.List(context.Background(), DataPrefix) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, "data/"+key)
	}
	if !slices.Equal(got, keys) {
		t.Errorf("got %d of %d keys in this order", len(got), len(keys))
	}
}
