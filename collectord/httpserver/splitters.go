package httpserver

import (
	"runtime"
	"sync"

	"collectord/collectord/usage"
)

// splitters are those of usages, used again. A large usage of many names takes several
// times its size for them, so that few large bodies are split at once. None waits for
// a client or the disk: what is split has arrived.
type splitters struct {
	small sync.Pool // of *usage.Splitter
	large chan *usage.Splitter
}

func newSplitters() *splitters {
	s := &splitters{large: make(chan *usage.Splitter, runtime.GOMAXPROCS(0))}
	s.small.New = func() any { return new(usage.Splitter) }
	for range cap(s.large) {
		s.large <- new(usage.Splitter)
	}
	return s
}

// take returns one for a body of size bytes.
func (s *splitters) take(size int) *usage.Splitter {
	if size > smallBody {
		return <-s.large
	}
	return s.small.Get().(*usage.Splitter) //nolint:forcetypeassert // the pool holds nothing else
}

// give takes it back, without what it held of the body.
func (s *splitters) give(used *usage.Splitter, size int) {
	used.Reset(nil, usage.Object, usage.Limits{})
	if size > smallBody {
		s.large <- used
		return
	}
	s.small.Put(used)
}
