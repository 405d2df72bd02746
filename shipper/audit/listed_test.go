package audit

import (
	"context"
	"io"
	"iter"
	"runtime"
	"strings"

	"collectord/shipper/bucket"
)

// listed is a store of which there is nothing but names.
type listed struct{ keys iter.Seq[string] }

func (l *listed) List(_ context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for k := range l.keys {
			if strings.HasPrefix(k, prefix) && !yield(k, nil) {
				return
			}
		}
	}
}

func (l *listed) Put(context.Context, *bucket.Object) error { return bucket.ErrExists }
func (l *listed) Stat(context.Context, string) (bucket.Stored, error) {
	return bucket.Stored{}, bucket.ErrNotFound
}

func (l *listed) Open(context.Context, string) (io.ReadCloser, bucket.Stored, error) {
	return nil, bucket.Stored{}, bucket.ErrNotFound
}

func (l *listed) String() string { return "listed" }

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
