package httpserver

import (
	"runtime"
	"sync"

	"collectord/collectord/usage"
)

// splitters keeps splitters of usages for reuse. Splitting a large usage with many names
// needs several times its size, so only a few large bodies are split at a time. No
// splitter waits for a client or the disk, since the body has arrived.
type splitters struct {
	small sync.Pool // holds *usage.Splitter
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

// get returns a splitter for a body of size bytes.
func (s *splitters) get(size int) *usage.Splitter {
	if size > smallBodyBytes {
		return <-s.large
	}
	return s.small.Get().(*usage.Splitter) //nolint:forcetypeassert // the pool contains only this type
}

// put returns a splitter for reuse and clears its references to the body.
func (s *splitters) put(used *usage.Splitter, size int) {
	used.Reset(nil, usage.Object, usage.Limits{})
	if size > smallBodyBytes {
		s.large <- used
		return
	}
	s.small.Put(used)
}
