package udpserver

import (
	"sync"
	"testing"
	"time"

	"collectord/collectord/testrun"
	"collectord/wal"
)

func TestMain(m *testing.M) {
	testrun.LimitParallel()
	m.Run()
}

// memoryLog is a log in memory.
type memoryLog struct {
	mu       sync.Mutex
	usages   []string
	rejected map[string]int
	batches  int
}

func newMemoryLog() *memoryLog { return &memoryLog{rejected: map[string]int{}} }

func (*memoryLog) YieldToIngest() {}

func (*memoryLog) Full() error { return nil }

func (l *memoryLog) Enqueue(recs ...wal.Record) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.batches++
	for i := range recs {
		l.usages = append(l.usages, string(recs[i].Usage))
	}
	return len(recs)
}

func (l *memoryLog) Reject(s wal.Source, reason string, n int) {
	if n <= 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rejected[s.String()+" "+reason] += n
}

func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatal("the condition is still not met after a minute")
		}
		<-time.After(time.Millisecond)
	}
}
