package wal

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
)

// TestIDsAndTimesRiseWithSeq appends HTTP batches and UDP records. Several HTTP batches wait for
// a commit at a time. UDP records fill the space that these batches leave.
func TestIDsAndTimesRiseWithSeq(t *testing.T) {
	const clients, batches, each = 6, 8, 1500 // a batch fills two thirds of a frame, so two never share one
	// In memory, since a goroutine sends busily while a commit waits for its disk.
	l := openLog(t, memoryDir(t), Options{SegmentSize: 4 << 20})
	var senders, clientsDone sync.WaitGroup
	stop := make(chan struct{})
	sent := uint64(0)
	senders.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				sent += uint64(l.Enqueue(Record{Usage: usage(i), Source: UDP}))
			}
		}
	})
	for range clients {
		clientsDone.Go(func() {
			for b := range batches {
				recs := make([]Record, each)
				for i := range recs {
					recs[i].Usage = fmt.Appendf(nil, `{"n":%d,"x":"%s"}`, i, bytes.Repeat([]byte("x"), 400))
					if i%100 == 99 { // as from an Idempotency-Key, in no order
						recs[i].ID = ID{6: 0x80, 8: 0x80, 15: byte(b)}
					}
				}
				if err := l.Append(context.Background(), recs...); err != nil {
					t.Error(err)
				}
			}
		})
	}
	clientsDone.Wait()
	close(stop)
	senders.Wait()
	mustSeal(t, l)

	var last Record
	seqs, shared := uint64(0), 0
	segments, _ := l.Sealed()
	for _, s := range segments {
		for r, err := range s.Records() {
			if err != nil {
				t.Fatal(err)
			}
			if seqs++; r.Seq != seqs {
				t.Fatalf("seq %d, want %d", r.Seq, seqs)
			}
			if r.ReceivedAt < last.ReceivedAt {
				t.Fatalf("seq %d was received %d µs before the previous record", r.Seq, last.ReceivedAt-r.ReceivedAt)
			}
			if r.Source == UDP && last.Source == HTTP {
				shared++
			}
			last.ReceivedAt, last.Source = r.ReceivedAt, r.Source
			if r.ID[6]>>4 != 7 {
				continue
			}
			if bytes.Compare(r.ID[:], last.ID[:]) <= 0 {
				t.Fatalf("seq %d has the id %s, which is not above %s", r.Seq, r.ID, last.ID)
			}
			last.ID = r.ID
		}
	}
	if want := clients*batches*each + sent; seqs != want {
		t.Errorf("%d records, want %d", seqs, want)
	}
	if shared < clients {
		t.Errorf("UDP records follow HTTP ones %d times: this proves nothing", shared)
	}
	checkLedger(t, l)
}
