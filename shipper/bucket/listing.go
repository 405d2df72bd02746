package bucket

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strings"

	"github.com/minio/minio-go/v7"
)

// Errors in a listing of a storage that the library does not detect: the listing never
// ends, or contains entries that are not objects.
var (
	errRepeats  = errors.New("the listing makes no progress: it repeats earlier entries")
	errPrefixes = errors.New("the listing has entries without a date: these are common prefixes, which were not requested")
	errUnlisted = errors.New("the listing names keys that were not requested")
)

// listingHint is the hint for these errors.
const listingHint = "this storage, or a proxy in front of it, does not list as S3 does, so no result from it can be complete: update it, list another way (shipper.s3.endpoint), or copy the bucket to a folder and read that"

// repeatDetector detects that a sequence repeats itself, with memory for one value (Brent's
// algorithm): it compares each value with a remembered one. It remembers each new one for twice
// as many values as the one before. The order does not matter, since not every storage sorts.
type repeatDetector struct {
	reference     string
	count, period int
}

func (r *repeatDetector) check(value string) error {
	if r.count > 0 && value == r.reference {
		return errRepeats
	}
	if r.count++; r.count > r.period {
		r.reference, r.count, r.period = value, 1, max(1, 2*r.period)
	}
	return nil
}

// listing is the state of a running listing. The context passes it to the requests for
// pages, since the library returns only objects.
type listing struct {
	prefix string
	keys   repeatDetector
	pages  repeatDetector
}

type listingKey struct{}

// repeatGuard aborts a listing whose pages repeat, even if they are empty.
type repeatGuard struct{ http.RoundTripper }

func (p repeatGuard) RoundTrip(req *http.Request) (*http.Response, error) {
	if l, ok := req.Context().Value(listingKey{}).(*listing); ok {
		if token := req.URL.Query().Get("continuation-token"); token != "" {
			if err := l.pages.check(token); err != nil {
				return nil, err
			}
		}
	}
	return p.RoundTripper.RoundTrip(req)
}

// key returns the key of a listed object, without the store's prefix.
func (l *listing) key(storePrefix string, o minio.ObjectInfo) (key string, err error) {
	if o.Err != nil {
		return "", o.Err
	}
	key, ours := strings.CutPrefix(o.Key, storePrefix)
	switch {
	case o.LastModified.IsZero(): // every object has a date
		return "", fmt.Errorf("%w: %.200q", errPrefixes, o.Key)
	case !ours, !strings.HasPrefix(key, l.prefix):
		return "", fmt.Errorf("%w: %.200q", errUnlisted, o.Key)
	}
	return key, l.keys.check(key)
}

func (s *s3Store) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		t := callOptionsOf(ctx)
		l := &listing{prefix: prefix}
		ctx, cancel := context.WithCancel(context.WithValue(WithCallOptions(ctx, t), listingKey{}, l))
		defer cancel()
		opts := minio.ListObjectsOptions{Prefix: s.prefix + prefix, Recursive: true, FetchOwner: new(bool)} // the owner is not needed
		for o := range s.client.ListObjectsIter(ctx, s.bucket, opts) {
			key, err := l.key(s.prefix, o)
			if err != nil {
				yield("", s.fail("list", prefix, t, err))
				return
			}
			if !yield(key, nil) {
				return
			}
		}
	}
}
