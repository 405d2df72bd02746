package admin

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"collectord/wal"
)

// Snapshot is everything the daemon tells of itself, as of one moment.
type Snapshot struct {
	Ledger  wal.Ledger
	Log     wal.Stats
	UDP     UDPSnapshot
	HTTP    HTTPSnapshot
	Shipper ShipperSnapshot
	Reload  ReloadSnapshot
}

// ReloadSnapshot is how the configuration came into effect. The start counts as
// a reload.
type ReloadSnapshot struct {
	OK bool      // the last attempt
	At time.Time // the last that succeeded
}

// HTTPSnapshot is what the HTTP door counts beside the ledger.
type HTTPSnapshot struct {
	Requests    map[int]uint64 // by status
	Connections int
}

// UDPSnapshot is what the UDP door counts beside the ledger.
type UDPSnapshot struct {
	Datagrams   uint64
	Bytes       uint64
	KernelDrops uint64 // datagrams the kernel had no room for
}

// ShipperSnapshot is what the shipper counts beside the ledger.
type ShipperSnapshot struct {
	Objects         uint64 // confirmed by the storage
	RawBytes        uint64 // their lines
	CompressedBytes uint64
	Failures        map[string]uint64 // by kind
	Conflicts       uint64
	Salvaged        uint64
	Foreign         int // segments of a later version
	InFlight        int
}

// series is one metric and how to read it.
type series struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(*Snapshot, func(v float64, labels ...string))
}

func counter(name, help string, labels []string, read func(*Snapshot, func(float64, ...string))) series {
	return series{prometheus.NewDesc("collectord_"+name, help, labels, nil), prometheus.CounterValue, read}
}

func gauge(name, help string, read func(*Snapshot) float64) series {
	return series{
		prometheus.NewDesc("collectord_"+name, help, nil, nil), prometheus.GaugeValue,
		func(s *Snapshot, emit func(float64, ...string)) { emit(read(s)) },
	}
}

func total(name, help string, read func(*Snapshot) float64) series {
	s := gauge(name, help, read)
	s.kind = prometheus.CounterValue
	return s
}

// door reads one figure of the ledger for each source.
func door(name, help string, read func(wal.DoorLedger) uint64) series {
	return counter(name, help, []string{"source"}, func(s *Snapshot, emit func(float64, ...string)) {
		for source, d := range s.Ledger.Door {
			emit(float64(read(d)), wal.Source(source).String())
		}
	})
}

// doorReasons reads figures of the ledger for each source and reason.
func doorReasons(name, help string, read func(wal.DoorLedger) map[string]uint64) series {
	return counter(name, help, []string{"source", "reason"}, func(s *Snapshot, emit func(float64, ...string)) {
		for source, d := range s.Ledger.Door {
			for reason, n := range read(d) {
				emit(float64(n), wal.Source(source).String(), reason)
			}
		}
	})
}

// allSeries is the list of what is exported beside the Go runtime's metrics.
func allSeries() []series {
	return []series{
		door("usages_received_total", "Usages that came in: accepted or rejected.",
			func(d wal.DoorLedger) uint64 { return d.Received }),
		door("usages_accepted_total", "Usages taken on: appended, repeated, dropped or waiting.",
			func(d wal.DoorLedger) uint64 { return d.Accepted }),
		doorReasons("usages_rejected_total", "Usages refused, by reason.",
			func(d wal.DoorLedger) map[string]uint64 { return d.Rejected }),
		door("usages_appended_total", "Usages written to the log.",
			func(d wal.DoorLedger) uint64 { return d.Appended }),
		door("usages_repeated_total", "Usages that came with an Idempotency-Key already answered.",
			func(d wal.DoorLedger) uint64 { return d.Repeated }),
		doorReasons("usages_dropped_total", "Usages taken on and then lost, by reason.",
			func(d wal.DoorLedger) map[string]uint64 { return d.Dropped }),
		gauge("usages_waiting", "Usages queued or being committed.", func(s *Snapshot) (n float64) {
			for _, d := range s.Ledger.Door {
				n += float64(d.Waiting)
			}
			return n
		}),
		total("usages_recovered_total", "Usages found in the log at start.",
			func(s *Snapshot) float64 { return float64(s.Ledger.Recovered) }),
		gauge("usages_pending", "Usages in the log that the storage has not confirmed.",
			func(s *Snapshot) float64 { return float64(s.Ledger.Pending) }),
		total("usages_shipped_total", "Usages confirmed by the storage.",
			func(s *Snapshot) float64 { return float64(s.Ledger.Shipped) }),
		total("usages_quarantined_total", "Usages whose bytes no longer check out.",
			func(s *Snapshot) float64 { return float64(s.Ledger.Quarantined) }),
		total("usages_evicted_total", "Usages deleted to make room.",
			func(s *Snapshot) float64 { return float64(s.Ledger.Evicted) }),
		gauge("oldest_unshipped_seconds", "Age of the oldest usage that the storage has not confirmed.",
			func(s *Snapshot) float64 {
				if s.Log.OldestReceivedAt == 0 {
					return 0
				}
				return max(0, time.Since(time.UnixMicro(s.Log.OldestReceivedAt)).Seconds())
			}),

		counter("http_requests_total", "HTTP requests, by status of the answer.", []string{"status"},
			func(s *Snapshot, emit func(float64, ...string)) {
				for status, n := range s.HTTP.Requests {
					emit(float64(n), statusLabel(status))
				}
			}),
		gauge("http_connections", "Open HTTP connections.",
			func(s *Snapshot) float64 { return float64(s.HTTP.Connections) }),

		total("udp_datagrams_total", "Datagrams read.",
			func(s *Snapshot) float64 { return float64(s.UDP.Datagrams) }),
		total("udp_bytes_total", "Bytes of the datagrams read.",
			func(s *Snapshot) float64 { return float64(s.UDP.Bytes) }),
		total("udp_kernel_drops_total", "Datagrams the kernel dropped because the receive buffer was full.",
			func(s *Snapshot) float64 { return float64(s.UDP.KernelDrops) }),

		total("wal_commits_total", "Frames written to the log.",
			func(s *Snapshot) float64 { return float64(s.Log.Commits) }),
		total("wal_commit_bytes_total", "Bytes of those frames.",
			func(s *Snapshot) float64 { return float64(s.Log.CommitBytes) }),
		total("wal_commit_seconds_total", "Time spent writing and syncing those frames.",
			func(s *Snapshot) float64 { return s.Log.CommitSeconds }),
		total("wal_commit_errors_total", "Failures of the disk under the log.",
			func(s *Snapshot) float64 { return float64(s.Log.CommitErrors) }),
		counter("wal_seals_total", "Segments sealed, by reason.", []string{"reason"},
			func(s *Snapshot, emit func(float64, ...string)) {
				for reason, n := range s.Log.Seals {
					emit(float64(n), reason)
				}
			}),
		total("wal_torn_bytes_total", "Bytes cut off at start because they were no whole frame.",
			func(s *Snapshot) float64 { return float64(s.Log.TornBytes) }),
		counter("wal_findings_total", "What was not as a clean shutdown leaves it, by kind.", []string{"kind"},
			func(s *Snapshot, emit func(float64, ...string)) {
				for kind, n := range s.Log.Findings {
					emit(float64(n), string(kind))
				}
			}),
		gauge("wal_bytes", "Size of the log's segments.",
			func(s *Snapshot) float64 { return float64(s.Log.Bytes) }),
		gauge("wal_max_bytes", "The bound on log, spool and quarantine together.",
			func(s *Snapshot) float64 { return float64(s.Log.MaxBytes) }),
		gauge("wal_sealed_segments", "Sealed segments waiting to be shipped.",
			func(s *Snapshot) float64 { return float64(s.Log.SealedSegments) }),
		gauge("wal_loss_notes", "Notes of lost usages waiting for upload.",
			func(s *Snapshot) float64 { return float64(s.Log.LossNotes) }),
		gauge("wal_queue_bytes", "UDP usages waiting in memory for a commit.",
			func(s *Snapshot) float64 { return float64(s.Log.QueueBytes) }),
		gauge("disk_free_bytes", "Free space on the disk of the log.",
			func(s *Snapshot) float64 { return float64(s.Log.FreeBytes) }),

		total("shipper_objects_total", "Objects confirmed by the storage.",
			func(s *Snapshot) float64 { return float64(s.Shipper.Objects) }),
		total("shipper_raw_bytes_total", "Bytes of the lines in those objects.",
			func(s *Snapshot) float64 { return float64(s.Shipper.RawBytes) }),
		total("shipper_compressed_bytes_total", "Bytes of those objects as stored.",
			func(s *Snapshot) float64 { return float64(s.Shipper.CompressedBytes) }),
		counter("shipper_failures_total", "Failed attempts to ship a segment, by kind.", []string{"kind"},
			func(s *Snapshot, emit func(float64, ...string)) {
				for kind, n := range s.Shipper.Failures {
					emit(float64(n), kind)
				}
			}),
		total("shipper_conflicts_total", "Objects whose key held other content already.",
			func(s *Snapshot) float64 { return float64(s.Shipper.Conflicts) }),
		total("shipper_salvaged_total", "Damaged segments replaced by what still checked out.",
			func(s *Snapshot) float64 { return float64(s.Shipper.Salvaged) }),
		gauge("shipper_foreign_segments", "Sealed segments of a later version, left alone.",
			func(s *Snapshot) float64 { return float64(s.Shipper.Foreign) }),
		gauge("shipper_in_flight", "Uploads under way.",
			func(s *Snapshot) float64 { return float64(s.Shipper.InFlight) }),

		gauge("config_last_reload_successful", "1 if the last attempt to load the configuration succeeded, else 0.",
			func(s *Snapshot) float64 {
				if s.Reload.OK {
					return 1
				}
				return 0
			}),
		gauge("config_last_reload_success_timestamp_seconds", "When the configuration in effect was loaded.",
			func(s *Snapshot) float64 { return float64(s.Reload.At.UnixMilli()) / 1000 }),
	}
}

// collector turns one Snapshot into one scrape.
type collector struct {
	snapshot func() Snapshot
	series   []series
}

func (c *collector) Describe(descs chan<- *prometheus.Desc) {
	for _, s := range c.series {
		descs <- s.desc
	}
}

func (c *collector) Collect(metrics chan<- prometheus.Metric) {
	snapshot := c.snapshot()
	for _, s := range c.series {
		s.read(&snapshot, func(v float64, labels ...string) {
			metrics <- prometheus.MustNewConstMetric(s.desc, s.kind, v, labels...)
		})
	}
}

func newRegistry(snapshot func() Snapshot, version string) *prometheus.Registry {
	r := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "collectord_build_info", Help: "Always 1; the label tells the version.",
		ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	r.MustRegister(build, &collector{snapshot, allSeries()},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}
