package admin

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"collectord/collectord/histogram"
	"collectord/wal"
)

// allSeries returns the exported metrics, except for build_info and the metrics of the
// Go runtime and the process. packaging/metrics.md is generated from it.
func allSeries() []series {
	return slices.Concat(ledgerSeries(), httpSeries(), clientSeries(), udpSeries(), logSeries(), shipperSeries(), clockSeries(), configSeries(), loggerSeries())
}

func ledgerSeries() []series {
	return []series{
		bySource("usages_received_total", "Usages that came in: accepted or rejected.",
			func(d wal.SourceLedger) uint64 { return d.Received }),
		bySource("usages_accepted_total", "Usages accepted: appended, repeated, dropped or waiting.",
			func(d wal.SourceLedger) uint64 { return d.Accepted }),
		bySourceAndReason("usages_rejected_total", "Usages rejected, by reason. A request or datagram that can't be split into usages counts as one.",
			func(d wal.SourceLedger) map[string]uint64 { return d.Rejected }),
		bySource("usages_appended_total", "Usages written to the log.",
			func(d wal.SourceLedger) uint64 { return d.Appended }),
		bySource("usages_repeated_total", "Usages of requests whose Idempotency-Key was already answered.",
			func(d wal.SourceLedger) uint64 { return d.Repeated }),
		bySourceAndReason("usages_dropped_total", "Usages accepted and then lost, by reason.",
			func(d wal.SourceLedger) map[string]uint64 { return d.Dropped }),
		waitingSeries(),
		counter("usages_recovered_total", "Usages found in the log at start, readable or not.",
			func(s *Snapshot) float64 { return float64(s.Ledger.Recovered) }),
		gauge("usages_pending", "Usages in the log that the storage has not confirmed.",
			func(s *Snapshot) float64 { return float64(s.Ledger.Pending) }),
		counter("usages_shipped_total", "Usages confirmed by the storage.",
			func(s *Snapshot) float64 { return float64(s.Ledger.Shipped) }),
		counter("usages_quarantined_total", "Usages whose bytes no longer check out.",
			func(s *Snapshot) float64 { return float64(s.Ledger.Quarantined) }),
		counter("usages_evicted_total", "Usages deleted to make room (wal.when_full: drop_oldest).",
			func(s *Snapshot) float64 { return float64(s.Ledger.Evicted) }),
		gauge("oldest_unshipped_seconds", "Age of the oldest usage that the storage has not confirmed; 0 if there is none.",
			func(s *Snapshot) float64 { return s.Log.OldestUnshipped.Seconds() }),
		gauge("seconds_until_full", "Time until wal.max_bytes or wal.min_free is reached, whichever comes first, if log and disk go on filling as in the last minutes; 0: full; +Inf: they do not fill.",
			func(s *Snapshot) float64 { return s.Log.SecondsUntilFull }),
	}
}

// waitingSeries is exported per source, so that the second line of the ledger can be checked
// for each source.
func waitingSeries() series {
	s := bySource("usages_waiting", "Usages queued or being committed.", func(d wal.SourceLedger) uint64 { return d.Waiting })
	s.kind = "gauge"
	return s
}

func httpSeries() []series {
	latency := newSeries("histogram", "http_request_seconds", "Time from a request's header to its answer, by class of the status.", "class")
	latency.readHistogram = func(s *Snapshot, emit func(histogram.Distribution, ...string)) {
		for class, d := range byStatus(s.HTTP.Seconds, func(class int) string { return strconv.Itoa(class) + "xx" }) {
			emit(d, class)
		}
	}
	return []series{
		counterBy("http_requests_total", "HTTP requests, by status of the answer.", "status",
			func(s *Snapshot) map[string]uint64 { return byStatus(s.HTTP.Requests, strconv.Itoa) }),
		latency,
		gauge("http_connections", "Open HTTP connections.",
			func(s *Snapshot) float64 { return float64(s.HTTP.Connections) }),
		gauge("http_connections_max", "How many HTTP connections may be open: http.max_connections, or fewer if the limit of open files (LimitNOFILE=) is too low.",
			func(s *Snapshot) float64 { return float64(s.HTTP.MaxConnections) }),
		gauge("http_tls_connections", "Open HTTP connections with TLS.",
			func(s *Snapshot) float64 { return float64(s.HTTP.TLSConnections) }),
		gauge("http_tls_connections_max", "How many TLS connections may be open: http.max_tls_connections, but no more than collectord_http_connections_max.",
			func(s *Snapshot) float64 { return float64(s.HTTP.MaxTLSConnections) }),
		counterBy("http_connections_made_room_total", "Connections closed to make room for others, by what they were doing: nothing yet (silent), a TLS handshake, sending a header or a body, taking an answer, idle without an authenticated request, or idle after one (client).", "kind",
			func(s *Snapshot) map[string]uint64 { return s.HTTP.ClosedForRoom }),
		counter("http_reads_delayed_total", "How often a connection was not read at once, because the memory for headers and small bodies was used up.",
			func(s *Snapshot) float64 { return float64(s.HTTP.ReadsDelayed) }),
		counter("http_connections_closed_for_memory_total", "Connections closed because the control group of the process had little memory left. They were not authenticated, and also count in collectord_http_connections_made_room_total.",
			func(s *Snapshot) float64 { return float64(s.HTTP.ClosedForMemory) }),
		counter("http_accepts_delayed_total", "How often no connection was accepted for a while, because the control group of the process had little memory left.",
			func(s *Snapshot) float64 { return float64(s.HTTP.AcceptsDelayed) }),
		histogramOf("http_loop_turn_seconds", "Duration of a turn of the event loop. In a turn it serves a limited number of connections; all others wait.",
			func(s *Snapshot) histogram.Distribution { return s.HTTP.LoopTurns }),
		counter("http_connections_turned_away_total", "Connections answered 503 because none could make room for them.",
			func(s *Snapshot) float64 { return float64(s.HTTP.Refused) }),
		counterBy("tls_handshake_failures_total", "TLS handshakes that failed, by reason.", "reason",
			func(s *Snapshot) map[string]uint64 { return s.HTTP.HandshakeFailures }),
		gauge("tls_certificate_expiry_timestamp_seconds", "When the certificate in use expires, or the first of the certificates that are sent with it; +Inf without TLS.",
			func(s *Snapshot) float64 { return s.HTTP.CertificateExpires }),
	}
}

func udpSeries() []series {
	return []series{
		counter("udp_datagrams_total", "Datagrams read.",
			func(s *Snapshot) float64 { return float64(s.UDP.Datagrams) }),
		counter("udp_bytes_total", "Bytes of the datagrams read.",
			func(s *Snapshot) float64 { return float64(s.UDP.Bytes) }),
		counter("udp_kernel_drops_total", "Datagrams that the kernel dropped because the receive buffer was full, since the sockets were created. A restart that keeps the sockets does not reset the count. Exact, but for senders that segment (UDP_SEGMENT, or GRO of the network card): then estimated from the messages that were read.",
			func(s *Snapshot) float64 { return float64(s.UDP.KernelDrops) }),
		gauge("udp_receive_buffer_bytes", "Size of the receive buffers of all sockets together, as the kernel granted it.",
			func(s *Snapshot) float64 { return float64(s.UDP.ReceiveBuffer) }),
		histogramOf("udp_batch_datagrams", "Datagrams read by one system call.",
			func(s *Snapshot) histogram.Distribution { return s.UDP.Batches }),
	}
}

func logSeries() []series {
	return []series{
		histogramOf("wal_commit_seconds", "Time to write a frame and, with wal.sync: always, to sync it.",
			func(s *Snapshot) histogram.Distribution { return s.Log.CommitSeconds }),
		histogramOf("wal_fsync_seconds", "Time to sync a frame.",
			func(s *Snapshot) histogram.Distribution { return s.Log.SyncSeconds }),
		histogramOf("wal_commit_records", "Records in a frame.",
			func(s *Snapshot) histogram.Distribution { return s.Log.CommitRecords }),
		histogramOf("wal_commit_bytes", "Bytes of a frame.",
			func(s *Snapshot) histogram.Distribution { return s.Log.CommitBytes }),
		counter("wal_commit_errors_total", "Failures of the disk under the log.",
			func(s *Snapshot) float64 { return float64(s.Log.CommitErrors) }),
		counterBy("wal_seals_total", "Segments sealed, by reason.", "reason",
			func(s *Snapshot) map[string]uint64 { return s.Log.Seals }),
		counter("wal_torn_bytes_total", "Bytes cut off at start because they were not a whole frame.",
			func(s *Snapshot) float64 { return float64(s.Log.TornBytes) }),
		counterBy("wal_findings_total", "Things in the log that a clean shutdown does not leave, by kind.", "kind",
			func(s *Snapshot) map[wal.Finding]uint64 { return s.Log.Findings }),
		gauge("wal_put_aside", "Files and directories in the quarantine, or left in their places because they can't be read: /readyz?verbose lists them.",
			func(s *Snapshot) float64 { return float64(s.Log.PutAside) }),
		counter("wal_removal_errors_total", "Failures to delete a segment that is no longer needed; the deletion is tried again.",
			func(s *Snapshot) float64 { return float64(s.Log.RemovalErrors) }),
		gauge("wal_bytes", "Size of the log's segments.",
			func(s *Snapshot) float64 { return float64(s.Log.Bytes) }),
		gauge("wal_spool_bytes", "Size of the spool. A part as large as the largest segment is a permanent reserve.",
			func(s *Snapshot) float64 { return float64(s.Log.SpoolBytes) }),
		gauge("wal_quarantine_bytes", "Size of the quarantine: bytes that no longer check out, kept for people.",
			func(s *Snapshot) float64 { return float64(s.Log.QuarantineBytes) }),
		gauge("wal_max_bytes", "Limit of log, spool and quarantine together (wal.max_bytes).",
			func(s *Snapshot) float64 { return float64(s.Log.MaxBytes) }),
		gauge("wal_sealed_segments", "Sealed segments waiting to be shipped.",
			func(s *Snapshot) float64 { return float64(s.Log.SealedSegments) }),
		gauge("wal_kept_segments", "Segments that the storage has confirmed, kept until the storage is checked again (shipper.keep).",
			func(s *Snapshot) float64 { return float64(s.Log.KeptSegments) }),
		gauge("wal_kept_bytes", "Size of the kept segments, included in collectord_wal_bytes. They are removed if new segments need the space.",
			func(s *Snapshot) float64 { return float64(s.Log.KeptBytes) }),
		counter("wal_kept_cut_short_total", "Kept segments removed before shipper.keep had passed, to make room.",
			func(s *Snapshot) float64 { return float64(s.Log.KeptCutShort) }),
		gauge("wal_loss_notes", "Notes of lost usages waiting for upload.",
			func(s *Snapshot) float64 { return float64(s.Log.LossNotes) }),
		gauge("wal_queue_bytes", "UDP usages waiting in memory for a commit.",
			func(s *Snapshot) float64 { return float64(s.Log.QueueBytes) }),
		gauge("disk_free_bytes", "Free space on the disk of the log.",
			func(s *Snapshot) float64 { return float64(s.Log.FreeBytes) }),
	}
}

func shipperSeries() []series {
	return []series{
		counter("shipper_objects_total", "Objects confirmed by the storage.",
			func(s *Snapshot) float64 { return float64(s.Shipper.Objects) }),
		counter("shipper_raw_bytes_total", "Bytes of the lines in those objects.",
			func(s *Snapshot) float64 { return float64(s.Shipper.RawBytes) }),
		counter("shipper_compressed_bytes_total", "Bytes of those objects as stored.",
			func(s *Snapshot) float64 { return float64(s.Shipper.CompressedBytes) }),
		histogramOf("shipper_upload_seconds", "Time of uploads until the storage confirmed them.",
			func(s *Snapshot) histogram.Distribution { return s.Shipper.UploadSeconds }),
		counterBy("shipper_failures_total", "Failed attempts to ship a segment, by kind.", "kind",
			func(s *Snapshot) map[string]uint64 { return s.Shipper.Failures }),
		counter("shipper_conflicts_total", "Objects whose key already had other content.",
			func(s *Snapshot) float64 { return float64(s.Shipper.Conflicts) }),
		counter("shipper_reshipped_total", "Segments that the storage had confirmed and lost, and has confirmed again.",
			func(s *Snapshot) float64 { return float64(s.Shipper.Reshipped) }),
		counter("shipper_vanished_total", "Segments that the storage had confirmed, has lost, and that are not shipped again: the object was gone for the second time, or damaged for the fourth, or the loss was found too late.",
			func(s *Snapshot) float64 { return float64(s.Shipper.Vanished) }),
		counter("shipper_salvaged_total", "Damaged segments replaced by their records that still checked out.",
			func(s *Snapshot) float64 { return float64(s.Shipper.Salvaged) }),
		gauge("shipper_foreign_segments", "Sealed segments of a later version, left alone.",
			func(s *Snapshot) float64 { return float64(s.Shipper.Foreign) }),
		gauge("shipper_in_flight", "Segments that are being compressed or uploaded.",
			func(s *Snapshot) float64 { return float64(s.Shipper.InFlight) }),
		counter("shipper_heartbeats_total", "Heartbeats written to the storage.",
			func(s *Snapshot) float64 { return float64(s.Shipper.Heartbeats) }),
		counter("shipper_heartbeat_failures_total", "Heartbeats that could not be written; shipping goes on without them.",
			func(s *Snapshot) float64 { return float64(s.Shipper.HeartbeatFailures) }),
		gauge("shipper_last_success_timestamp_seconds", "When the storage last accepted an object, or answered a check of its capabilities; 0: not since the start.",
			func(s *Snapshot) float64 { return timestamp(s.Shipper.Destination.LastSuccess) }),
		gauge("shipper_failing_since_timestamp_seconds", "Since when all attempts to ship have failed; 0: shipping does not fail.",
			func(s *Snapshot) float64 { return timestamp(s.Shipper.Destination.FailingSince) }),
		gauge("shipper_next_attempt_timestamp_seconds", "When the next attempt begins while shipping fails, or when the present one began; 0: shipping does not fail.",
			func(s *Snapshot) float64 { return timestamp(s.Shipper.Destination.NextAttempt) }),
		gauge("shipper_silent_since_timestamp_seconds", "Since when the storage has acknowledged and answered nothing of a request, from a quarter of shipper.stall_timeout on; 0: it is not silent.",
			func(s *Snapshot) float64 { return timestamp(s.Shipper.Destination.SilentSince) }),
		storageInfo(),
	}
}

// timestamp returns a Unix time in seconds, or 0 for the zero time.
func timestamp(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

// troubleSeries returns the metric of open troubles.
func troubleSeries() series {
	s := newSeries("gauge", "trouble", "1 while something fails, else 0, by the attribute trouble of its log lines. If no log line reports the end of a trouble, it lasts until 15 minutes after the last failure. GET /status and /readyz?verbose show more.", "name")
	s.read = func(sn *Snapshot, emit func(float64, ...string)) {
		for name, open := range sn.Troubles {
			value := 0.0
			if open {
				value = 1
			}
			emit(value, name)
		}
	}
	return s
}

func storageInfo() series {
	s := newSeries("gauge", "shipper_storage_info", "Always 1; the labels show the detected capabilities of the storage: whether it can prevent a put from replacing an object, which checksum it verifies, and which encryption it confirms (unknown until it has answered).",
		"conditional_put", "checksum", "encryption")
	s.read = func(sn *Snapshot, emit func(float64, ...string)) {
		can := sn.Shipper.Storage
		emit(1, cmp.Or(can.ConditionalPut, "unknown"), cmp.Or(can.Checksum, "unknown"), cmp.Or(can.Encryption, "unknown"))
	}
	return s
}

func clockSeries() []series {
	return []series{
		gauge("clock_offset_seconds", "How far the host's clock is ahead of the storage's, by the date of the storage's answers. NaN with a folder, and until the first comparison after the start or after the clock was set.",
			func(s *Snapshot) float64 {
				if !s.Shipper.ClockCompared {
					return math.NaN()
				}
				return s.Shipper.ClockAhead.Seconds()
			}),
		gauge("clock_trouble", "1 while the host's clock is known to be wrong: off by more than a minute from the storage's, before the newest record of the log, or before the build of the program; else 0.",
			func(s *Snapshot) float64 { return oneIf(s.ClockWrong) }),
	}
}

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

func configSeries() []series {
	return []series{
		gauge("config_last_reload_successful", "1 if the last attempt to load the configuration succeeded, else 0.",
			func(s *Snapshot) float64 { return oneIf(s.Reload.OK) }),
		gauge("config_last_reload_success_timestamp_seconds", "When the configuration in effect was loaded.",
			func(s *Snapshot) float64 { return timestamp(s.Reload.At) }),
	}
}

func loggerSeries() []series {
	return []series{
		troubleSeries(),
		counterBy("log_lines_dropped_total", "Lines missing in the log of the daemon, by reason: full (they came faster than standard error was read) or failed (they could not be written).", "reason",
			func(s *Snapshot) map[string]uint64 {
				return map[string]uint64{"full": s.Logger.Full, "failed": s.Logger.Failed}
			}),
	}
}

// WriteReference writes a Markdown list of all metrics.
func WriteReference(w io.Writer) error {
	var b strings.Builder
	b.WriteString(`# Metrics

Served at ` + "`/metrics` on `admin.listen`" + `, in the Prometheus text format. This list is made from the code
(` + "`go test ./collectord/admin -run Reference -update`" + `), and a test compares it with what a daemon exports.

| name | type | labels | meaning |
|---|---|---|---|
`)
	for _, s := range append(allSeries(), buildInfo("")) {
		labels := ""
		for i, l := range s.labels {
			if i > 0 {
				labels += ", "
			}
			labels += "`" + l + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", s.name, s.kind, labels, s.help)
	}
	b.WriteString(`
Counters begin at 0 with each start of the daemon. Reasons, kinds and classes that are known beforehand are exported
from the start, so that an alert can notice the first occurrence. Kinds of failure that only a storage can name appear
when they occur. Clients with certificates appear with their first usage. These equations of the ledger are true at every
scrape, the first two for each ` + "`source`" + `:

    received = accepted + rejected{reason}
    accepted = appended + repeated + dropped{reason} + waiting
    appended + recovered = pending + shipped + quarantined + evicted

The metrics of the Go runtime (` + "`go_*`" + `) and of the process (` + "`process_*`" + `) are exported too, as the Prometheus client
library defines them.
`)
	_, err := io.WriteString(w, b.String())
	return err
}
