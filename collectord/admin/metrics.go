package admin

import (
	"runtime"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"collectord/collectord/histogram"
	"collectord/wal"
)

// series is one metric, with the function that reads it from a Snapshot.
type series struct {
	name          string // including the prefix collectord_
	help          string
	kind          string   // "counter", "gauge" or "histogram", as in the text format
	labels        []string // names of the labels
	desc          *prometheus.Desc
	read          func(s *Snapshot, emit func(v float64, labels ...string))
	readHistogram func(s *Snapshot, emit func(d histogram.Distribution, labels ...string)) // used instead of read for a histogram
}

func newSeries(kind, name, help string, labels ...string) series {
	name = "collectord_" + name
	return series{name: name, help: help, kind: kind, labels: labels, desc: prometheus.NewDesc(name, help, labels, nil)}
}

func gauge(name, help string, read func(*Snapshot) float64) series {
	s := newSeries("gauge", name, help)
	s.read = func(sn *Snapshot, emit func(float64, ...string)) { emit(read(sn)) }
	return s
}

func counter(name, help string, read func(*Snapshot) float64) series {
	s := newSeries("counter", name, help)
	s.read = func(sn *Snapshot, emit func(float64, ...string)) { emit(read(sn)) }
	return s
}

func histogramOf(name, help string, read func(*Snapshot) histogram.Distribution) series {
	s := newSeries("histogram", name, help)
	s.readHistogram = func(sn *Snapshot, emit func(histogram.Distribution, ...string)) { emit(read(sn)) }
	return s
}

// counterBy reads one counter per key of a map. The key is the label's value.
func counterBy[K ~string](name, help, label string, read func(*Snapshot) map[K]uint64) series {
	s := newSeries("counter", name, help, label)
	s.read = func(sn *Snapshot, emit func(float64, ...string)) {
		for key, n := range read(sn) {
			emit(float64(n), string(key))
		}
	}
	return s
}

// bySource reads one counter of the ledger per source.
func bySource(name, help string, read func(wal.SourceLedger) uint64) series {
	s := newSeries("counter", name, help, "source")
	s.read = func(sn *Snapshot, emit func(float64, ...string)) {
		for source, d := range sn.Ledger.BySource {
			emit(float64(read(d)), wal.Source(source).String())
		}
	}
	return s
}

// bySourceAndReason reads one counter of the ledger per source and reason.
func bySourceAndReason(name, help string, read func(wal.SourceLedger) map[string]uint64) series {
	s := newSeries("counter", name, help, "source", "reason")
	s.read = func(sn *Snapshot, emit func(float64, ...string)) {
		for source, d := range sn.Ledger.BySource {
			for reason, n := range read(d) {
				emit(float64(n), wal.Source(source).String(), reason)
			}
		}
	}
	return s
}

// metric converts one value to a Prometheus metric.
func (s *series) metric(v float64, labels ...string) prometheus.Metric {
	kind := prometheus.GaugeValue
	if s.kind == "counter" {
		kind = prometheus.CounterValue
	}
	return prometheus.MustNewConstMetric(s.desc, kind, v, labels...)
}

// histogramMetric converts one distribution to a Prometheus metric.
func (s *series) histogramMetric(d histogram.Distribution, labels ...string) prometheus.Metric {
	buckets := make(map[float64]uint64, len(d.Bounds))
	cumulative := uint64(0)
	for i, bound := range d.Bounds {
		cumulative += d.Counts[i]
		buckets[bound] = cumulative
	}
	return prometheus.MustNewConstHistogram(s.desc, d.Count(), d.Sum, buckets, labels...)
}

// collector converts one Snapshot per scrape to metrics. It exports nothing while there
// is no Snapshot.
type collector struct {
	snapshot func() (Snapshot, bool)
	series   []series
}

func (c *collector) Describe(descs chan<- *prometheus.Desc) {
	for _, s := range c.series {
		descs <- s.desc
	}
}

func (c *collector) Collect(metrics chan<- prometheus.Metric) {
	snapshot, ok := c.snapshot()
	if !ok {
		return
	}
	for i := range c.series {
		s := &c.series[i]
		if s.readHistogram != nil {
			s.readHistogram(&snapshot, func(d histogram.Distribution, labels ...string) { metrics <- s.histogramMetric(d, labels...) })
			continue
		}
		s.read(&snapshot, func(v float64, labels ...string) { metrics <- s.metric(v, labels...) })
	}
}

func newRegistry(snapshot func() (Snapshot, bool), version string) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(&collector{snapshot, slices.Concat(allSeries(), []series{buildInfo(version)})},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

func buildInfo(version string) series {
	s := newSeries("gauge", "build_info", "Always 1; the labels identify the build.", "version", "go_version")
	s.read = func(_ *Snapshot, emit func(float64, ...string)) { emit(1, version, runtime.Version()) }
	return s
}

// byStatus converts the keys of a map to labels.
func byStatus[V any](m map[int]V, label func(int) string) map[string]V {
	labelled := make(map[string]V, len(m))
	for status, v := range m {
		labelled[label(status)] = v
	}
	return labelled
}
