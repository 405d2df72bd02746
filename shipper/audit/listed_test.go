package audit

import (
	"context"
	"io"
	"iter"
	"runtime"
	"strings"

	"collectord/shipper/bucket"
)

// listingStore is a store that only has a listing.
type listingStore struct{ keys iter.Seq[string] }

func (l *listingStore) List(_ context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for k := range l.keys {
			if strings.HasPrefix(k, prefix) && !yield(k, nil) {
				return
			}
		}
	}
}

func (l *listingStore) Put(context.Context, *bucket.Object) error { return bucket.ErrExists }
func (l *listingStore) Stat(context.Context, string) (bucket.Stored, error) {
	return bucket.Stored{}, bucket.ErrNotFound
}

func (l *listingStore) Open(context.Context, string) (io.ReadCloser, bucket.Stored, error) {
	return nil, bucket.Stored{}, bucket.ErrNotFound
}

func (l *listingStore) Probe(context.Context) error       { return nil }
func (l *listingStore) Capabilities() bucket.Capabilities { return bucket.Capabilities{} }
func (l *listingStore) String() string                    { return "listed" }

func heapBytes() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
