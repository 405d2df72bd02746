package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"collectord/shipper/bucket"
)

// failureKind returns the kind of a destination that can't be audited.
func failureKind(err error) Kind {
	if errors.Is(err, bucket.ErrNoMatch) {
		return Nothing
	}
	return Failed
}

// onlyReadableNote is appended to the reason of an absent node if some destinations failed.
const onlyReadableNote = ", in the destinations that can be read"

// failedInRow stops the reading of many destinations after several consecutive failures.
// Each failed destination costs the time of its retries, which adds up.
type failedInRow struct{ n atomic.Int32 }

// try makes a call about one destination, unless too many consecutive destinations had a
// temporary failure.
func (r *failedInRow) try(call func() error) error {
	if r.n.Load() >= maxConsecutiveFailures {
		return fmt.Errorf("it was not tried: %d destinations in a row can't be read", maxConsecutiveFailures)
	}
	err := call()
	var failure *bucket.Error
	switch {
	case err == nil:
		r.n.Store(0)
	case errors.As(err, &failure) && !failure.Permanent:
		r.n.Add(1)
	}
	return err
}

// RunAll audits several destinations one after another, and merges their reports. If there
// are several destinations, findings and logs name their destination, and a destination that
// can't be read becomes a finding.
func RunAll(ctx context.Context, stores []bucket.Store, o Options) (*Report, error) {
	if len(stores) == 1 {
		return Run(ctx, stores[0], o)
	}
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	all := newReport()
	var inRow failedInRow
	for _, store := range stores {
		var r *Report
		err := inRow.try(func() (err error) { r, err = Run(ctx, store, o); return err })
		switch {
		case err == nil:
			all.merge(r, store.String(), o.Now)
		case ctx.Err() != nil:
			return nil, err
		default:
			all.add(Finding{Kind: failureKind(err), Reason: errorText(err), Destination: store.String()})
		}
	}
	if o.Node != "" && slices.ContainsFunc(all.Logs, func(l LogReport) bool { return l.Objects > 0 }) { // one destination has the node
		all.Findings = slices.DeleteFunc(all.Findings, func(f Finding) bool { return f.Kind == Nothing })
		delete(all.Tallies, Nothing)
	}
	all.sort()
	return all, nil
}

// merge adds the report of one of several destinations.
func (r *Report) merge(other *Report, destination string, now time.Time) {
	for i := range other.Findings {
		other.Findings[i].Destination = destination
	}
	for i := range other.Logs {
		other.Logs[i].Destination = destination
	}
	// Findings beyond the limit are only in the tallies.
	r.Findings = append(r.Findings, other.Findings[:min(len(other.Findings), max(0, maxFindings-len(r.Findings)))]...)
	addTallies(r.Tallies, other.Tallies)
	addTallies(r.Accepted, other.Accepted)
	r.Logs = append(r.Logs, other.Logs...)
	for node, h := range other.LastHeard {
		if previous, known := r.LastHeard[node]; !known || isCloserToNow(h.At, previous.At, now) {
			r.LastHeard[node] = h
		}
	}
	r.Objects += other.Objects
	r.Notes += other.Notes
	r.Heartbeats += other.Heartbeats
	r.Unconfirmed += other.Unconfirmed
	r.Read += other.Read
	r.RawBytes += other.RawBytes
	r.NoMetadata += other.NoMetadata
}

func addTallies(to, from map[Kind]Tally) {
	for k, t := range from {
		to[k] = to[k].plus(t)
	}
}

// RecordsOfAll is Records for several destinations, one after another. Damage in one
// destination does not stop the reading of the others. Each id must be in at least one
// destination.
func (s Selection) RecordsOfAll(ctx context.Context, stores []bucket.Store, progress func(objects int), each func(lines []byte) error) error {
	if len(stores) == 1 {
		return s.Records(ctx, stores[0], progress, each)
	}
	var damaged error
	done, found := 0, map[bucket.ID]bool{}
	for _, store := range stores {
		// A UUIDv7 occurs only once, so an id that was found is not searched again.
		s.IDs = slices.DeleteFunc(slices.Clone(s.IDs), func(id bucket.ID) bool { return found[id] && id[6]>>4 == 7 })
		if len(found) > 0 && len(s.IDs) == 0 {
			break
		}
		last := 0
		damage, err := s.records(ctx, store, func(n int) { last = n; progress(done + n) }, func(lines []byte) error {
			if len(s.IDs) > 0 {
				for line := range bytes.Lines(lines) {
					if id, ok := bucket.Line(line).ID(); ok {
						found[id] = true
					}
				}
			}
			return each(lines)
		})
		done += last
		if damage != nil {
			damaged = errors.Join(damaged, fmt.Errorf("%s: %w", store, damage))
		}
		if err != nil && !errors.Is(err, ErrNoSuchID) {
			return errors.Join(fmt.Errorf("%s: %w", store, err), damaged)
		}
	}
	var missing []string
	for _, id := range s.IDs {
		if !found[id] {
			missing = append(missing, id.String())
		}
	}
	if len(missing) == 0 {
		return damaged
	}
	return errors.Join(fmt.Errorf("%w: %s (searched in %d destinations: %s)", ErrNoSuchID, strings.Join(missing, ", "), len(stores), s.searchedRange()), damaged)
}
