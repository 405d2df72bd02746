package admin

import (
	"math"
	"time"

	"collectord/collectord/histogram"
	"collectord/shipper"
	"collectord/wal"
)

// figures computes the numbers of a Status. Rates cover the last minute; the rates of
// incoming usages are also computed for the last 10 seconds.
func figures(now, minute, recent sample) Status {
	seconds := max(now.at.Sub(minute.at).Seconds(), 0.001)
	return Status{
		LogID:         now.LogID,
		WindowSeconds: seconds,
		Sources:       sources(now, minute, recent),
		Commits:       commits(now, minute),
		Backlog:       backlog(now.Ledger.Pending, &now.Log),
		Fill:          fill(&now.Log),
		Uploads:       uploads(now, minute),
		Kept:          KeptStatus{Segments: now.Log.KeptSegments, Bytes: now.Log.KeptBytes, CutShort: now.Log.KeptCutShort},
		Destination:   destination(&now.Shipper.Destination, now),
		Ledger:        ledger(&now.Ledger),
		Connections:   connectionStatus(&now.HTTP),
		Reload:        ReloadStatus(now.Reload),
		ClientsKnown:  len(now.Clients.Clients),
		Clients:       clientsSeen(now.Clients),
	}
}

func sources(now, minute, recent sample) (all []SourceStatus) {
	for i := range now.Ledger.BySource {
		of := func(s sample) *wal.SourceLedger { return &s.Ledger.BySource[i] }
		s := SourceStatus{
			Source:    wal.Source(i).String(),
			PerSecond: perSecond(of(now).Received, of(minute).Received, now.at.Sub(minute.at)),
			Now:       perSecond(of(now).Received, of(recent).Received, now.at.Sub(recent.at)),
			Rejected:  grown(of(now).Rejected, of(minute).Rejected),
			Dropped:   grown(of(now).Dropped, of(minute).Dropped),
		}
		if wal.Source(i) == wal.UDP {
			s.AllKernelDrops = now.UDP.KernelDrops
			s.KernelDrops = now.UDP.KernelDrops - min(minute.UDP.KernelDrops, now.UDP.KernelDrops)
		}
		all = append(all, s)
	}
	return all
}

func perSecond(now, before uint64, passed time.Duration) float64 {
	return float64(now-before) / max(passed.Seconds(), 0.001)
}

// grown returns the increase of each count, without counts that did not increase.
func grown(now, before map[string]uint64) map[string]uint64 {
	by := map[string]uint64{}
	for name, n := range now {
		if n > before[name] {
			by[name] = n - before[name]
		}
	}
	return by
}

func commits(now, minute sample) CommitStatus {
	records := now.Log.CommitRecords.Since(minute.Log.CommitRecords)
	n := max(float64(records.Count()), 1)
	c := CommitStatus{
		PerSecond: float64(records.Count()) / max(now.at.Sub(minute.at).Seconds(), 0.001),
		Usages:    records.Sum / n,
		Bytes:     now.Log.CommitBytes.Since(minute.Log.CommitBytes).Sum / n,
		Errors:    now.Log.CommitErrors,
	}
	c.P50, c.P99 = quantiles(now.Log.CommitSeconds, minute.Log.CommitSeconds)
	c.FsyncP50, c.FsyncP99 = quantiles(now.Log.SyncSeconds, minute.Log.SyncSeconds)
	return c
}

// quantiles returns the quantiles of the values in now that are not in before. It uses
// all values if there are no such values, and returns nil if there are none at all.
func quantiles(now, before histogram.Distribution) (p50, p99 *float64) {
	of := now.Since(before)
	if of.Count() == 0 {
		of = now
	}
	fifty, ok := of.Quantile(0.5)
	if !ok {
		return nil, nil
	}
	ninetyNine, _ := of.Quantile(0.99)
	return &fifty, &ninetyNine
}

func backlog(pending uint64, l *wal.Stats) BacklogStatus {
	b := BacklogStatus{Usages: pending, Bytes: l.Bytes - l.KeptBytes, OldestSeconds: l.OldestUnshipped.Seconds()}
	if !math.IsInf(l.SecondsUntilFull, 0) {
		b.SecondsUntilFull = &l.SecondsUntilFull
	}
	return b
}

func fill(l *wal.Stats) FillStatus {
	f := FillStatus{
		UsedBytes: l.Bytes + l.SpoolBytes + l.QuarantineBytes, MaxBytes: l.MaxBytes,
		LogBytes: l.Bytes, KeptBytes: l.KeptBytes, SpoolBytes: l.SpoolBytes, QuarantineBytes: l.QuarantineBytes,
	}
	if l.FreeBytes != math.MaxInt64 {
		f.FreeBytes = &l.FreeBytes
	}
	return f
}

func uploads(now, minute sample) UploadStatus {
	u := UploadStatus{
		Objects: now.Shipper.Objects, Bytes: now.Shipper.CompressedBytes,
		BytesPerSecond: perSecond(now.Shipper.CompressedBytes, minute.Shipper.CompressedBytes, now.at.Sub(minute.at)),
		InFlight:       now.Shipper.InFlight, SegmentsToShip: now.Log.SealedSegments,
		Failures:  grown(now.Shipper.Failures, nil),
		Reshipped: now.Shipper.Reshipped, Vanished: now.Shipper.Vanished,
	}
	u.P50, u.P99 = quantiles(now.Shipper.UploadSeconds, minute.Shipper.UploadSeconds)
	return u
}

func destination(d *shipper.Destination, now sample) Destination {
	s := Destination{
		Where: printable(d.Name), LastSuccess: orNil(d.LastSuccess), FailingSince: orNil(d.FailingSince), Attempts: d.Attempts, SilentSince: orNil(d.SilentSince),
		Storage: StorageStatus(now.Shipper.Storage),
	}
	if s.FailingSince != nil {
		f := d.Failure
		s.Error = &ErrorStatus{Kind: printable(f.Kind), Text: printable(f.Text), Advice: printable(f.Hint), Permanent: f.Permanent}
	}
	if d.NextAttempt.After(now.at) {
		s.NextAttempt = &d.NextAttempt
	}
	return s
}

func orNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func ledger(l *wal.Ledger) LedgerStatus {
	of := func(source wal.Source) SourceLedger {
		s := SourceLedger(l.BySource[source])
		if s.Rejected == nil {
			s.Rejected = map[string]uint64{}
		}
		if s.Dropped == nil {
			s.Dropped = map[string]uint64{}
		}
		return s
	}
	return LedgerStatus{
		HTTP: of(wal.HTTP), UDP: of(wal.UDP),
		Recovered: l.Recovered, Pending: l.Pending, Shipped: l.Shipped, Quarantined: l.Quarantined, Evicted: l.Evicted,
	}
}

func connectionStatus(h *HTTPSnapshot) ConnectionStatus {
	c := ConnectionStatus{
		Open: h.Connections, Max: h.MaxConnections, TLS: h.TLSConnections, MaxTLS: h.MaxTLSConnections, Refused: h.Refused,
	}
	for _, n := range h.ClosedForRoom {
		c.ClosedForRoom += n
	}
	if at := h.CertificateExpires; at > 0 && !math.IsInf(at, 0) {
		expires := time.Unix(int64(at), 0)
		c.CertificateExpires = &expires
	}
	return c
}
