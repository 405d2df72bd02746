package audit

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"collectord/shipper/bucket"
)

// crowd opens no object until as many are being opened as are meant to be fetched ahead.
type crowd struct {
	bucket.Store
	full chan struct{} // closed once there are so many

	mu         sync.Mutex // guards what follows
	opens      int
	open, most int // at once
}

func (c *crowd) Open(ctx context.Context, key string) (io.ReadCloser, bucket.Stored, error) {
	c.mu.Lock()
	c.opens++
	c.open++
	c.most = max(c.most, c.open)
	if c.opens == objectsAhead-1 {
		close(c.full)
	}
	c.mu.Unlock()
	select {
	case <-c.full:
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
	store, all := archiveOf(t, hours...) // two objects an hour
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c := &crowd{Store: store, full: make(chan struct{})}
	var lines []string
	err := Selection{}.Records(ctx, c, func(int) {}, func(some []byte) error {
		for line := range bytes.Lines(some) {
			lines = append(lines, string(line))
		}
		return nil
	})
	if err != nil || !slices.Equal(lines, all) {
		t.Errorf("%v; %d lines of %d, in order: %v", err, len(lines), len(all), slices.Equal(lines, all))
	}
	if c.most < objectsAhead-1 || c.most > objectsAhead || c.open != 0 {
		t.Errorf("%d objects were open at once, and %d still are", c.most, c.open)
	}
	// Who stops stops it all.
	enough := errors.New("enough")
	c = &crowd{Store: store, full: make(chan struct{})}
	if err := (Selection{}).Records(ctx, c, func(int) {}, func([]byte) error { return enough }); !errors.Is(err, enough) || c.open != 0 {
		t.Errorf("%v, %d are open", err, c.open)
	}
}
