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

// What is wrong with a listing of a storage, for which the library does not look: it
// goes on for ever, or returns what is no object as one.
var (
	errRepeats  = errors.New("the listing does not go on: it repeats what it listed before")
	errPrefixes = errors.New("the listing has entries without a date, as common prefixes are, which were not asked for")
	errUnlisted = errors.New("the listing names keys that were not asked for")
)

// listingHint is what to do about them.
const listingHint = "this storage, or a proxy in front of it, does not list as S3 does, so that nothing read from it can be complete: update it, list another way (shipper.s3.endpoint), or copy the bucket to a folder and read that"

// repeats finds that a sequence goes round in circles, in the memory of one value
// (Brent's algorithm): it compares each with one that it keeps for twice as long each
// time. Nothing is said of the order, since not every storage sorts.
type repeats struct {
	kept        string
	seen, until int
}

func (r *repeats) next(value string) error {
	if r.seen > 0 && value == r.kept {
		return errRepeats
	}
	if r.seen++; r.seen > r.until {
		r.kept, r.seen, r.until = value, 1, max(1, 2*r.until)
	}
	return nil
}

// listing is one that is under way. It travels in the context, to the requests of its
// pages, since the library shows objects only.
type listing struct {
	prefix string
	keys   repeats
	pages  repeats
}

type listingKey struct{}

// pager ends a listing whose pages do not go on, also if they are empty.
type pager struct{ http.RoundTripper }

func (p pager) RoundTrip(req *http.Request) (*http.Response, error) {
	if l, ok := req.Context().Value(listingKey{}).(*listing); ok {
		if token := req.URL.Query().Get("continuation-token"); token != "" {
			if err := l.pages.next(token); err != nil {
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
	case o.LastModified.IsZero(): // every object has one
		return "", fmt.Errorf("%w: %.200q", errPrefixes, o.Key)
	case !ours, !strings.HasPrefix(key, l.prefix):
		return "", fmt.Errorf("%w: %.200q", errUnlisted, o.Key)
	}
	return key, l.keys.next(key)
}

func (s *s3Store) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		t := callOptionsOf(ctx)
		l := &listing{prefix: prefix}
		ctx, cancel := context.WithCancel(context.WithValue(WithCallOptions(ctx, t), listingKey{}, l))
		defer cancel()
		opts := minio.ListObjectsOptions{Prefix: s.prefix + prefix, Recursive: true, FetchOwner: new(bool)} // whose it is, nobody asks
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
