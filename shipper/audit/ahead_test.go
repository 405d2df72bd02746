package audit

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"collectord/shipper/bucket"
)

// blockingStore blocks each Open until as many objects are being opened as are read ahead.
type blockingStore struct {
	bucket.Store
	enoughOpen chan struct{} // closed when enough objects are being opened

	mu            sync.Mutex // guards the fields below
	opens         int
	open, maxOpen int // at the same time
}

func (c *blockingStore) Open(ctx context.Context, key string) (io.ReadCloser, bucket.Stored, error) {
	c.mu.Lock()
	c.opens++
	c.open++
	c.maxOpen = max(c.maxOpen, c.open)
	if c.opens == objectsAhead-1 {
		close(c.enoughOpen)
	}
	c.mu.Unlock()
	select {
	case <-c.enoughOpen:
	case <-ctx.Done():
		c.mu.Lock()
		defer c.mu.Unlock()
		c.open--
		return nil, bucket.Stored{}, ctx.Err()
	}
	body, stored, err := c.Store.Open(ctx, key)
	return struct {
		io.Reader
		io.Closer
	}{body, closer(func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.open--
		return body.Close()
	})}, stored, err
}

type closer func() error

func (c closer) Close() error { return c() }

func TestObjectsAreFetchedAheadAndPrintedInOrder(t *testing.T) {
	var hours []time.Time
	for h := range objectsAhead - 1 {
		hours = append(hours, time.Date(2026, 11, 23, h, 0, 0, 0, time.UTC))
	}
	store, all := newArchive(t, hours...) // two objects an hour
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := &blockingStore{Store: store, enoughOpen: make(chan struct{})}
	var lines []string
	err := Selection{}.Records(ctx, c, func(int) {}, func(some []byte) error {
		for line := range bytes.Lines(some) {
			lines = append(lines, string(line))
		}
		return nil
	})
	if err != nil || !slices.Equal(lines, all) {
		t.Errorf("%v; got %d lines of %d, equal: %v", err, len(lines), len(all), slices.Equal(lines, all))
	}
	if c.maxOpen < objectsAhead-1 || c.maxOpen > objectsAhead || c.open != 0 {
		t.Errorf("at most %d objects were open at once, and %d still are", c.maxOpen, c.open)
	}
	// If the caller stops, the read-ahead stops, too.
	enough := errors.New("enough")
	c = &blockingStore{Store: store, enoughOpen: make(chan struct{})}
	if err := (Selection{}).Records(ctx, c, func(int) {}, func([]byte) error { return enough }); !errors.Is(err, enough) || c.open != 0 {
		t.Errorf("%v, and %d objects are still open", err, c.open)
	}
}

// tinyStore is a store whose objects have one byte.
type tinyStore struct{ bucket.Store }

func (tinyStore) Open(context.Context, string) (io.ReadCloser, bucket.Stored, error) {
	return io.NopCloser(strings.NewReader("x")), bucket.Stored{Size: 1}, nil
}

// TestSmallObjectsTakeNoNewBuffers: with a new buffer for each, cat would allocate far more
// than the objects need.
func TestSmallObjectsTakeNoNewBuffers(t *testing.T) {
	const objects = 1000
	keys := func(context.Context) iter.Seq2[string, error] {
		return func(yield func(string, error) bool) {
			for range objects {
				if !yield("key", nil) {
					return
				}
			}
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	read := 0
	for o := range fetchAhead(t.Context(), tinyStore{}, nil, keys) {
		body, _, err := o.open()
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, body)
		if err != nil {
			t.Fatal(err)
		}
		read += int(n)
		body.Close()
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / objects; read != objects || each > pieceBytes/4 {
		t.Errorf("%d objects, and each allocated %d bytes", read, each)
	}
}
