package wal

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// BenchmarkAppend is for profiles. To compare the log with the bare disk, use make
// bench.
func BenchmarkAppend(b *testing.B) {
	for _, appenders := range []int{1, 16, 64, 256, 1000} {
		b.Run(fmt.Sprint(appenders), func(b *testing.B) {
			l, err := Open(b.TempDir(), Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			var left atomic.Int64
			left.Store(int64(b.N))
			text := usage(100)
			b.ReportAllocs()
			b.ResetTimer()
			var done sync.WaitGroup
			for range appenders {
				done.Go(func() {
					rec := make([]Record, 1)
					for left.Add(-1) >= 0 {
						rec[0] = Record{Usage: text}
						if err := l.Append(context.Background(), rec...); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			done.Wait()
			b.ReportMetric(float64(b.N)/float64(l.Stats().CommitSeconds.Count()), "records/commit")
		})
	}
}
