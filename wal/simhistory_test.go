package wal

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"collectord/wal/vfs/simdisk"
)

// stored is a record in the simulated bucket.
type stored struct {
	seq    uint64
	number int
	hour   int64 // hour of its folder
	run    uint64
	id     ID
}

// ack is a usage that was acknowledged.
type ack struct {
	number  int
	first   int // number of the first usage of the same call
	offered int // number of the newest usage that was passed to the log before the acknowledgement
	at      time.Time
}

// past is the history of a log up to a moment. It determines what the log must contain
// after a crash.
type past struct {
	offered int        // usages 1 to offered were passed to the log
	acked   []ack      // acknowledged usages
	bucket  []stored   // those that were uploaded
	notes   []LossNote // those that were uploaded

	strayTexts []string // texts of stray files
}

// history is a past that continues.
type history struct {
	mu   sync.Mutex // guards past, which only grows
	past past
}

// crash is a disk after a crash, and the history up to then.
type crash struct {
	disk              *simdisk.Disk
	state             [16]byte // hash of the disk
	call              simdisk.Call
	past              past
	at                time.Time
	kill              bool // the process was killed, without a power loss
	interruptedStarts int  // number of starts that were interrupted before
}

func (h *history) now() past {
	h.mu.Lock()
	defer h.mu.Unlock()
	return past{h.past.offered, slices.Clip(h.past.acked), slices.Clip(h.past.bucket), slices.Clip(h.past.notes), slices.Clip(h.past.strayTexts)}
}

func (h *history) offer(n int) (recs []Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for range n {
		h.past.offered++
		recs = append(recs, Record{Usage: usageOf(h.past.offered)})
	}
	return recs
}

func (h *history) acknowledge(recs []Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range recs {
		h.past.acked = append(h.past.acked, ack{numberOf(recs[i].Usage), numberOf(recs[0].Usage), h.past.offered, time.Now()})
	}
}

func (h *history) upload(all []stored) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.past.bucket = append(h.past.bucket, all...)
}

func (h *history) uploadNote(n LossNote) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.past.notes = append(h.past.notes, n)
}

func (h *history) addStray(text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.past.strayTexts = append(h.past.strayTexts, text)
}

// usageOf returns usage number n.
func usageOf(n int) []byte {
	return fmt.Appendf(nil, `{"n":%d,"x":"%s"}`, n, strings.Repeat("x", n%300))
}

// numberOf returns the number n of a usage, or 0.
func numberOf(usage []byte) (n int) {
	digits, _ := bytes.CutPrefix(usage, []byte(`{"n":`))
	for _, c := range digits {
		if c < '0' || c > '9' {
			break
		}
		n = 10*n + int(c-'0')
	}
	return n
}
