package main

import "github.com/grafana/grafana-foundation-sdk/go/units"

// Units that the library lacks, or names differently.
const (
	usagesPerSecond = "usages/s"
	perSecond       = "cps"
	day             = 86400
	never           = 30 * day // shown for a log that does not fill
)

func rows() []row {
	return []row{
		{"Is it fine?", false, health()},
		{"In", false, in()},
		{"Log", false, log()},
		{"Shipping", false, shipping()},
		{"HTTP", true, http()},
		{"UDP", true, udp()},
		{"Process", true, process()},
	}
}

func health() []panel {
	return []panel{
		singleValue(panelOptions{title: "Alerts firing", help: "Alerts of collectord that fire now; the list below names them.", unit: units.Short, levels: zeroIsFine()},
			query{`count(ALERTS{alertname=~"Collectord.+", alertstate="firing", HOSTS}) or vector(0)`, ""}),
		singleValue(panelOptions{title: "Hosts down", help: "Daemons that Prometheus can't scrape.", unit: units.Short, levels: zeroIsFine()},
			query{`count(up{HOSTS} == 0) or vector(0)`, ""}),
		singleValue(panelOptions{title: "Hosts that can't ship", help: "Every attempt of theirs fails at the moment. Nothing is lost as long as their logs have room.", unit: units.Short, levels: zeroIsFine()},
			query{`count(collectord_shipper_failing_since_timestamp_seconds{HOSTS} > 0) or vector(0)`, ""}),
		singleValue(panelOptions{title: "Oldest unshipped usage", help: "What is not shipped is lost with its host. A few minutes are usual: quiet hosts seal a segment after wal.seal_small_after.", unit: units.Seconds, levels: rising(1800, 3600)},
			query{`max(collectord_oldest_unshipped_seconds{HOSTS})`, ""}),
		singleValue(panelOptions{title: "First log to be full", help: "Time until the first host's log is full, if it goes on filling as in the last minutes; 30 days stand for never.", unit: units.Seconds, levels: falling(4*3600, day)},
			query{`clamp_max(min(collectord_seconds_until_full{HOSTS}), 30 * 86400)`, ""}),
		singleValue(panelOptions{title: "Usages lost", help: "Evicted, quarantined or dropped in the time shown.", unit: units.Short, levels: zeroIsFine()},
			query{`sum(increase(collectord_usages_evicted_total{HOSTS}[$__range])) + sum(increase(collectord_usages_quarantined_total{HOSTS}[$__range])) + sum(increase(collectord_usages_dropped_total{HOSTS}[$__range]))`, ""}),
		tablePanel(panelOptions{title: "Alerts", help: "Alerts of collectord that fire now. docs/monitoring.md has what each means and what to do.", width: 12}, []string{"alertname", "severity", "instance"},
			column{name: "Since", expr: `max by (alertname, severity, job, instance, source, reason, kind, client) (ALERTS_FOR_STATE{alertname=~"Collectord.+", HOSTS} and ignoring (alertstate) ALERTS{alertname=~"Collectord.+", alertstate="firing", HOSTS}) * 1000`, unit: units.DateTimeFromNow}),
		tablePanel(panelOptions{title: "Hosts with the oldest unshipped usages", help: "The hosts that have most to ship, in time.", width: 12}, []string{"instance"},
			column{name: "Oldest", expr: `topk($top, max by (job, instance) (collectord_oldest_unshipped_seconds{HOSTS}))`, unit: units.Seconds, levels: rising(1800, 3600)},
			column{name: "Pending", expr: `max by (job, instance) (collectord_usages_pending{HOSTS}) and topk($top, max by (job, instance) (collectord_oldest_unshipped_seconds{HOSTS}))`, unit: units.Short},
			column{name: "Full in", expr: `max by (job, instance) (clamp_max(collectord_seconds_until_full{HOSTS}, 30 * 86400)) and topk($top, max by (job, instance) (collectord_oldest_unshipped_seconds{HOSTS}))`, unit: units.Seconds, levels: falling(4*3600, day)},
			column{name: "Put aside", expr: `max by (job, instance) (collectord_wal_put_aside{HOSTS}) and topk($top, max by (job, instance) (collectord_oldest_unshipped_seconds{HOSTS}))`, unit: units.Short, levels: zeroIsFine()}),
	}
}

func in() []panel {
	return []panel{
		timeSeries(panelOptions{title: "Usages received", help: "Usages that came in, of all hosts, by source.", unit: usagesPerSecond, width: 12},
			query{`sum by (source) (rate(collectord_usages_received_total{HOSTS}[$__rate_interval]))`, "{{source}}"}),
		timeSeries(panelOptions{title: "Usages received, by host", help: "The hosts with most usages.", unit: usagesPerSecond, width: 12},
			fastest(`collectord_usages_received_total{HOSTS}`)),
		timeSeries(panelOptions{title: "Usages rejected", help: "Usages that were not taken on, by reason. Clients know of those over HTTP, and may repeat them.", unit: usagesPerSecond},
			query{`sum by (source, reason) (rate(collectord_usages_rejected_total{HOSTS}[$__rate_interval])) > 0`, "{{source}} {{reason}}"}),
		timeSeries(panelOptions{title: "Usages rejected, by host", help: "The hosts that reject most.", unit: usagesPerSecond},
			fastest(`collectord_usages_rejected_total{HOSTS}`)),
		timeSeries(panelOptions{title: "Usages dropped or repeated", help: "Dropped: taken on and then lost. Repeated: known by their Idempotency-Key, and not stored again.", unit: usagesPerSecond},
			query{`sum by (source, reason) (rate(collectord_usages_dropped_total{HOSTS}[$__rate_interval]))`, "dropped: {{source}} {{reason}}"},
			query{`sum by (source) (rate(collectord_usages_repeated_total{HOSTS}[$__rate_interval]))`, "repeated: {{source}}"}),
		timeSeries(panelOptions{title: "Usages by client", help: "The clients with most usages, by the names of tokens and certificates.", unit: usagesPerSecond, width: 12},
			query{`sum by (client) (rate(collectord_client_usages_total{HOSTS}[$__rate_interval])) and topk($top, sum by (client) (increase(collectord_client_usages_total{HOSTS}[$__range] @ end())))`, "{{client}}"}),
		tablePanel(panelOptions{title: "Clients that are silent for longest", help: "Time since usages of them were accepted last. Those that were not seen since the daemon started are not listed.", width: 12}, []string{"client", "instance"},
			column{name: "Silent for", expr: `topk($top, time() - (max by (job, instance, client) (collectord_client_last_seen_timestamp_seconds{HOSTS}) > 0))`, unit: units.Seconds, levels: rising(3600, day)}),
	}
}

func log() []panel {
	const used = `collectord_wal_bytes{HOSTS} + collectord_wal_spool_bytes{HOSTS} + collectord_wal_quarantine_bytes{HOSTS}`
	return []panel{
		timeSeries(panelOptions{title: "Commit latency", help: "Time to write a frame and, with wal.sync: always, to sync it; all hosts together.", unit: units.Seconds},
			quantile(0.5, `collectord_wal_commit_seconds_bucket{HOSTS}`), quantile(0.99, `collectord_wal_commit_seconds_bucket{HOSTS}`)),
		timeSeries(panelOptions{title: "Slowest disks", help: "The hosts whose syncs take longest: 99 of 100 are faster.", unit: units.Seconds, levels: rising(0.25, 1)},
			slowest(0.99, `collectord_wal_fsync_seconds_bucket{HOSTS}`)),
		timeSeries(panelOptions{title: "Usages in a commit", help: "Usages that share one write and one sync, on average.", unit: units.Short},
			query{`sum(rate(collectord_wal_commit_records_sum{HOSTS}[$__rate_interval])) / sum(rate(collectord_wal_commit_records_count{HOSTS}[$__rate_interval]))`, "usages"}),
		timeSeries(panelOptions{title: "Fullest logs", help: "Log, spool and quarantine, as a part of wal.max_bytes.", unit: units.PercentUnit, max: 1, levels: rising(0.7, 0.9)},
			query{highestBy(`(`+used+`) / collectord_wal_max_bytes{HOSTS}`, `max_over_time(collectord_wal_bytes{HOSTS}[$__range]) / max_over_time(collectord_wal_max_bytes{HOSTS}[$__range])`), "{{instance}}"}),
		timeSeries(panelOptions{title: "First logs to be full", help: "Time until wal.max_bytes or wal.min_free is reached, if log and disk go on to fill as in the last minutes. Hosts whose log does not fill are not shown.", unit: units.Seconds, levels: falling(4*3600, day)},
			query{lowestBy(`(collectord_seconds_until_full{HOSTS} < +Inf)`, `min_over_time(collectord_seconds_until_full{HOSTS}[$__range])`), "{{instance}}"}),
		timeSeries(panelOptions{title: "Fullest disks", help: "The disks of the log with the least free space.", unit: units.BytesIEC},
			lowest(`collectord_disk_free_bytes{HOSTS}`)),
		timeSeries(panelOptions{title: "Segments", help: "Sealed: waiting to be shipped. Kept: confirmed by the storage, and kept until it was looked at once more.", unit: units.Short},
			query{`sum(collectord_wal_sealed_segments{HOSTS})`, "sealed"}, query{`sum(collectord_wal_kept_segments{HOSTS})`, "kept"}, query{`sum(collectord_wal_loss_notes{HOSTS})`, "loss notes"}),
		timeSeries(panelOptions{title: "Segments sealed", help: "By reason. Many by error, or by age on busy hosts, are worth a look.", unit: perSecond},
			query{`sum by (reason) (rate(collectord_wal_seals_total{HOSTS}[$__rate_interval])) > 0`, "{{reason}}"}),
		timeSeries(panelOptions{title: "Damage and failures of disks", help: "Failures of the disk under the log, and what was not as a clean shutdown leaves it. A torn tail after a power cut is usual.", unit: units.Short},
			query{`sum(increase(collectord_wal_commit_errors_total{HOSTS}[$__rate_interval]))`, "failures of the disk"},
			query{`sum(increase(collectord_wal_removal_errors_total{HOSTS}[$__rate_interval]))`, "segments not deleted"},
			query{`sum by (kind) (collectord_wal_findings_total{HOSTS}) > 0`, "{{kind}} since the start"},
			query{`sum(collectord_wal_put_aside{HOSTS})`, "put aside"}),
		timeSeries(panelOptions{title: "Usages lost", help: "Quarantined: their bytes no longer check out. Evicted: deleted to make room (wal.when_full: drop_oldest). The bucket has a loss note for each.", unit: units.Short},
			query{`sum(increase(collectord_usages_quarantined_total{HOSTS}[$__rate_interval]))`, "quarantined"},
			query{`sum(increase(collectord_usages_evicted_total{HOSTS}[$__rate_interval]))`, "evicted"}),
	}
}

func shipping() []panel {
	return []panel{
		timeSeries(panelOptions{title: "Oldest unshipped usage, by host", help: "The hosts that are furthest behind. What is not shipped is lost with its host.", unit: units.Seconds, width: 12, levels: rising(1800, 3600)},
			highest(`collectord_oldest_unshipped_seconds{HOSTS}`)),
		timeSeries(panelOptions{title: "Usages to ship, by host", help: "The hosts with most usages that the storage has not confirmed.", unit: units.Short, width: 12},
			highest(`collectord_usages_pending{HOSTS}`)),
		timeSeries(panelOptions{title: "Usages appended and shipped", help: "What is written to logs, and what the storage confirms; all hosts together.", unit: usagesPerSecond},
			query{`sum(rate(collectord_usages_appended_total{HOSTS}[$__rate_interval]))`, "appended"},
			query{`sum(rate(collectord_usages_shipped_total{HOSTS}[$__rate_interval]))`, "shipped"}),
		timeSeries(panelOptions{title: "Objects", help: "Objects confirmed by the storage.", unit: perSecond},
			query{`sum(rate(collectord_shipper_objects_total{HOSTS}[$__rate_interval]))`, "objects"}),
		timeSeries(panelOptions{title: "Bytes shipped", help: "Lines, and the objects they make.", unit: units.BytesPerSecondIEC},
			query{`sum(rate(collectord_shipper_raw_bytes_total{HOSTS}[$__rate_interval]))`, "lines"},
			query{`sum(rate(collectord_shipper_compressed_bytes_total{HOSTS}[$__rate_interval]))`, "as stored"}),
		timeSeries(panelOptions{title: "Time of an upload", help: "Until the storage has confirmed it; all hosts together.", unit: units.Seconds},
			quantile(0.5, `collectord_shipper_upload_seconds_bucket{HOSTS}`), quantile(0.99, `collectord_shipper_upload_seconds_bucket{HOSTS}`)),
		timeSeries(panelOptions{title: "Failed attempts", help: "Attempts to ship a segment that failed, by kind.", unit: perSecond},
			query{`sum by (kind) (rate(collectord_shipper_failures_total{HOSTS}[$__rate_interval])) > 0`, "{{kind}}"}),
		timeSeries(panelOptions{title: "Failed attempts, by host", help: "The hosts with most failed attempts.", unit: perSecond},
			fastest(`collectord_shipper_failures_total{HOSTS}`)),
		timeSeries(panelOptions{title: "What storages lost, and segments that were not as they should be", help: "Lost and shipped again; lost for good; keys that held other content; damaged segments replaced by what still checked out.", unit: units.Short},
			query{`sum(increase(collectord_shipper_reshipped_total{HOSTS}[$__rate_interval]))`, "shipped again"},
			query{`sum(increase(collectord_shipper_vanished_total{HOSTS}[$__rate_interval]))`, "lost for good"},
			query{`sum(increase(collectord_shipper_conflicts_total{HOSTS}[$__rate_interval]))`, "other content"},
			query{`sum(increase(collectord_shipper_salvaged_total{HOSTS}[$__rate_interval]))`, "salvaged"},
			query{`sum(increase(collectord_wal_kept_cut_short_total{HOSTS}[$__rate_interval]))`, "kept for too short a time"}),
		timeSeries(panelOptions{title: "Hosts that can't ship", help: "How long every attempt of theirs has failed.", unit: units.Seconds},
			query{highestBy(`(time() - (collectord_shipper_failing_since_timestamp_seconds{HOSTS} > 0))`, `max_over_time(collectord_shipper_failing_since_timestamp_seconds{HOSTS}[$__range])`), "{{instance}}"}),
		tablePanel(panelOptions{title: "Last success", help: "The hosts whose storage took something, or answered what it can do, longest ago.", width: 8}, []string{"instance"},
			column{name: "Ago", expr: `topk($top, time() - (max by (job, instance) (collectord_shipper_last_success_timestamp_seconds{HOSTS}) > 0))`, unit: units.Seconds, levels: rising(1800, 3600)}),
		timeSeries(panelOptions{title: "Heartbeats", help: "By which collectord fleet knows the hosts.", unit: perSecond},
			query{`sum(rate(collectord_shipper_heartbeats_total{HOSTS}[$__rate_interval]))`, "written"},
			query{`sum(rate(collectord_shipper_heartbeat_failures_total{HOSTS}[$__rate_interval]))`, "failed"}),
		timeSeries(panelOptions{title: "Segments in flight", help: "Segments that are being compressed or uploaded.", unit: units.Short},
			query{`sum(collectord_shipper_in_flight{HOSTS})`, "in flight"}, query{`sum(collectord_shipper_foreign_segments{HOSTS})`, "of a later version"}),
		tablePanel(panelOptions{title: "What the storages can do", help: "As the hosts found it out; unknown until the storage has answered.", width: 8}, []string{"conditional_put", "checksum", "encryption"},
			column{name: "Hosts", expr: `count by (conditional_put, checksum, encryption) (collectord_shipper_storage_info{HOSTS})`, unit: units.Short}),
	}
}

func http() []panel {
	return []panel{
		timeSeries(panelOptions{title: "Requests", help: "By status of the answer.", unit: perSecond},
			query{`sum by (status) (rate(collectord_http_requests_total{HOSTS}[$__rate_interval])) > 0`, "{{status}}"}),
		timeSeries(panelOptions{title: "Latency of accepted requests", help: "From a request's header to its answer; all hosts together.", unit: units.Seconds},
			quantile(0.5, `collectord_http_request_seconds_bucket{class="2xx", HOSTS}`), quantile(0.99, `collectord_http_request_seconds_bucket{class="2xx", HOSTS}`)),
		timeSeries(panelOptions{title: "Slowest hosts", help: "The hosts whose accepted requests take longest: 99 of 100 are faster.", unit: units.Seconds},
			slowest(0.99, `collectord_http_request_seconds_bucket{class="2xx", HOSTS}`)),
		timeSeries(panelOptions{title: "Connections, as a part of how many may be open", help: "The hosts that are closest to their bound.", unit: units.PercentUnit, max: 1, levels: rising(0.7, 0.9)},
			query{highestBy(`collectord_http_connections{HOSTS} / collectord_http_connections_max{HOSTS}`, `max_over_time(collectord_http_connections{HOSTS}[$__range]) / max_over_time(collectord_http_connections_max{HOSTS}[$__range])`), "{{instance}}"}),
		timeSeries(panelOptions{title: "Connections closed for others", help: "By what they were doing, and those that were turned away since none could make room.", unit: perSecond},
			query{`sum by (kind) (rate(collectord_http_connections_made_room_total{HOSTS}[$__rate_interval]))`, "{{kind}}"},
			query{`sum(rate(collectord_http_connections_turned_away_total{HOSTS}[$__rate_interval]))`, "turned away"},
			query{`sum(rate(collectord_http_reads_delayed_total{HOSTS}[$__rate_interval]))`, "reads delayed"}),
		timeSeries(panelOptions{title: "TLS handshakes that failed", help: "By reason.", unit: perSecond},
			query{`sum by (reason) (rate(collectord_tls_handshake_failures_total{HOSTS}[$__rate_interval]))`, "{{reason}}"}),
		timeSeries(panelOptions{title: "Turns of the event loop", help: "How long it served some connections, and no others; all hosts together.", unit: units.Seconds},
			quantile(0.5, `collectord_http_loop_turn_seconds_bucket{HOSTS}`), quantile(0.99, `collectord_http_loop_turn_seconds_bucket{HOSTS}`)),
		timeSeries(panelOptions{title: "TLS connections, as a part of how many may be open", help: "The hosts that are closest to their bound.", unit: units.PercentUnit, max: 1, levels: rising(0.7, 0.9)},
			query{highestBy(`collectord_http_tls_connections{HOSTS} / collectord_http_tls_connections_max{HOSTS}`, `max_over_time(collectord_http_tls_connections{HOSTS}[$__range]) / max_over_time(collectord_http_tls_connections_max{HOSTS}[$__range])`), "{{instance}}"}),
		tablePanel(panelOptions{title: "Certificates that expire first", help: "Hosts without TLS are not listed.", width: 8}, []string{"instance"},
			column{name: "In", expr: `bottomk($top, max by (job, instance) (collectord_tls_certificate_expiry_timestamp_seconds{HOSTS}) < +Inf) - time()`, unit: units.Seconds, levels: falling(day, 14*day)}),
	}
}

func udp() []panel {
	return []panel{
		timeSeries(panelOptions{title: "Datagrams read", help: "All hosts together.", unit: units.PacketsPerSecond},
			query{`sum(rate(collectord_udp_datagrams_total{HOSTS}[$__rate_interval]))`, "datagrams"}),
		timeSeries(panelOptions{title: "Bytes of datagrams", help: "All hosts together.", unit: units.BytesPerSecondIEC},
			query{`sum(rate(collectord_udp_bytes_total{HOSTS}[$__rate_interval]))`, "bytes"}),
		timeSeries(panelOptions{title: "Datagrams dropped by the kernel", help: "The hosts with most: their receive buffer was full.", unit: units.PacketsPerSecond},
			fastest(`collectord_udp_kernel_drops_total{HOSTS}`)),
		timeSeries(panelOptions{title: "Usages in the UDP queue", help: "The hosts with most bytes waiting in memory for a commit.", unit: units.BytesIEC},
			highest(`collectord_wal_queue_bytes{HOSTS}`)),
		timeSeries(panelOptions{title: "Datagrams in one read", help: "On average; all hosts together.", unit: units.Short},
			query{`sum(rate(collectord_udp_batch_datagrams_sum{HOSTS}[$__rate_interval])) / sum(rate(collectord_udp_batch_datagrams_count{HOSTS}[$__rate_interval]))`, "datagrams"}),
		timeSeries(panelOptions{title: "Smallest receive buffers", help: "As the kernel gave them: see udp.receive_buffer and net.core.rmem_max.", unit: units.BytesIEC},
			lowest(`collectord_udp_receive_buffer_bytes{HOSTS}`)),
	}
}

func process() []panel {
	return []panel{
		timeSeries(panelOptions{title: "Memory", help: "Resident, on the hosts that use most.", unit: units.BytesIEC},
			highest(`process_resident_memory_bytes{HOSTS}`)),
		timeSeries(panelOptions{title: "CPU", help: "Cores in use, on the hosts that use most.", unit: units.Short},
			fastest(`process_cpu_seconds_total{HOSTS}`)),
		timeSeries(panelOptions{title: "Open files, as a part of how many may be open", help: "The hosts that are closest to their bound.", unit: units.PercentUnit, max: 1, levels: rising(0.7, 0.9)},
			query{highestBy(`process_open_fds{HOSTS} / process_max_fds{HOSTS}`, `max_over_time(process_open_fds{HOSTS}[$__range]) / max_over_time(process_max_fds{HOSTS}[$__range])`), "{{instance}}"}),
		timeSeries(panelOptions{title: "Clocks", help: "How far the clocks are from those of the storages, on the hosts where it is most at the end of the time shown. Nothing is known of hosts that ship to a folder.", unit: units.Seconds, levels: rising(30, 60)},
			query{highestBy(`abs(collectord_clock_offset_seconds{HOSTS})`, `abs(collectord_clock_offset_seconds{HOSTS} @ end())`), "{{instance}}"}),
		timeSeries(panelOptions{title: "Goroutines", help: "On the hosts that have most.", unit: units.Short},
			highest(`go_goroutines{HOSTS}`)),
		timeSeries(panelOptions{title: "Troubles", help: "On how many hosts something fails, by the attribute trouble of the lines in the log of the daemon.", unit: units.Short},
			query{`sum by (name) (collectord_trouble{HOSTS}) > 0`, "{{name}}"}),
		timeSeries(panelOptions{title: "Lines missing in the log of the daemon", help: "By reason.", unit: perSecond},
			query{`sum by (reason) (rate(collectord_log_lines_dropped_total{HOSTS}[$__rate_interval]))`, "{{reason}}"}),
		timeSeries(panelOptions{title: "Starts", help: "The hosts that started most often in the time shown.", unit: units.Short},
			query{highestBy(`changes(process_start_time_seconds{HOSTS}[$__rate_interval])`, `changes(process_start_time_seconds{HOSTS}[$__range])`), "{{instance}}"}),
		tablePanel(panelOptions{title: "Versions", help: "How many hosts run which.", width: 12}, []string{"version", "go_version"},
			column{name: "Hosts", expr: `count by (version, go_version) (collectord_build_info{HOSTS})`, unit: units.Short}),
		timeSeries(panelOptions{title: "Configurations that could not be loaded", help: "Hosts whose last attempt to load it failed; the one before is in effect.", unit: units.Short, width: 12},
			query{`sum(1 - collectord_config_last_reload_successful{HOSTS})`, "hosts"}),
	}
}
