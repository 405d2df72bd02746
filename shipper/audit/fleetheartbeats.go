package audit

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"collectord/shipper/bucket"
)

// destinationHeartbeats holds the heartbeats of one destination.
type destinationHeartbeats struct {
	calls      objectCalls
	heartbeats []storedHeartbeat

	mu  sync.Mutex // guards err
	err error      // why the destination can't be read
}

func (d *destinationHeartbeats) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

func (d *destinationHeartbeats) failed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err != nil
}

// readAllHeartbeats reads the heartbeats of all destinations. It reads several at once
// across destinations, since each host may have its own destination.
func readAllHeartbeats(ctx context.Context, stores []bucket.Store, o *FleetOptions) ([]*destinationHeartbeats, error) {
	all := make([]*destinationHeartbeats, len(stores))
	var inRow failedInRow
	err := bucket.Parallel(ctx, len(stores), func(i int) error {
		d := &destinationHeartbeats{calls: objectCalls{store: stores[i]}}
		all[i] = d
		d.err = inRow.try(func() (err error) { d.heartbeats, err = listHeartbeats(ctx, stores[i]); return err })
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	type position struct {
		of *destinationHeartbeats
		at int
	}
	var each []position
	for _, d := range all {
		if o.Node != "" {
			its := map[uint64]bool{} // includes logs the node wrote under another name
			for _, h := range d.heartbeats {
				its[h.key.LogID] = its[h.key.LogID] || h.key.Node == o.Node
			}
			d.heartbeats = slices.DeleteFunc(d.heartbeats, func(h storedHeartbeat) bool { return !its[h.key.LogID] })
		}
		for at := range d.heartbeats {
			each = append(each, position{d, at})
		}
		if len(each) > maxHeartbeats {
			return nil, fmt.Errorf("more than %d heartbeats: delete those of hosts that are gone", maxHeartbeats)
		}
	}
	var done, devices atomic.Int64
	err = bucket.Parallel(ctx, len(each), func(i int) error {
		p := each[i]
		h := &p.of.heartbeats[p.at]
		if !p.of.failed() {
			if err := inRow.try(func() error { return h.read(ctx, &p.of.calls) }); err != nil {
				p.of.fail(err)
			}
		}
		switch n := int64(len(h.Clients)); {
		case n == 0, o.DeviceSilentFor < 0:
		case devices.Add(n) > o.maxDevices:
			h.clientsSkipped = true
		default:
			h.clients = compactClients(h.Clients)
		}
		h.Clients = nil
		o.Progress(int(done.Add(1)), 0)
		return ctx.Err()
	})
	return all, err
}
