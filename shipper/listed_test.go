package shipper

import (
	"context"
	"io"
	"iter"
	"runtime"
	"strings"
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

func (l *listed) Put(context.Context, *Object) error                  { return ErrExists }
func (l *listed) Stat(context.Context, string) (Stored, error)        { return Stored{}, ErrNotFound }
func (l *listed) Open(context.Context, string) (io.ReadCloser, error) { return nil, ErrNotFound }
func (l *listed) String() string                                      { return "listed" }

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
