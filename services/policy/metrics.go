package policy

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	published  *prometheus.CounterVec
	overtaken  prometheus.Counter
	unreadable prometheus.Counter
	refused    prometheus.Counter
}

// newMetrics registers the service's metrics; r may be nil. count returns the directories
// in each state of the interface.
func newMetrics(r prometheus.Registerer, count func() map[string]int) *metrics {
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "tidemark", Subsystem: "policy", Name: name, Help: help}
	}
	m := &metrics{
		published:  prometheus.NewCounterVec(opts("facts_total", "Facts published, by kind."), []string{"kind"}),
		overtaken:  prometheus.NewCounter(opts("overtaken_total", "Publications that another writer was faster than, and that were decided again.")),
		unreadable: prometheus.NewCounter(opts("unreadable_total", "Messages of streams that could not be read and were skipped.")),
		refused:    prometheus.NewCounter(opts("joins_denied_total", "Sites that came with a token and were not let in.")),
	}
	if r != nil {
		r.MustRegister(m.published, m.overtaken, m.unreadable, m.refused, newDirectoryStates(count))
	}
	return m
}

// directoryStates counts directories when it is asked: a state follows from facts and
// from the clock, so there is no moment at which it could be counted.
type directoryStates struct {
	desc  *prometheus.Desc
	count func() map[string]int
}

func newDirectoryStates(count func() map[string]int) directoryStates {
	name := prometheus.BuildFQName("tidemark", "policy", "directories")
	return directoryStates{prometheus.NewDesc(name, "Directories in the map, by state.", []string{"state"}, nil), count}
}

// Describe implements [prometheus.Collector].
func (d directoryStates) Describe(out chan<- *prometheus.Desc) { out <- d.desc }

// Collect implements [prometheus.Collector].
func (d directoryStates) Collect(out chan<- prometheus.Metric) {
	for state, n := range d.count() {
		out <- prometheus.MustNewConstMetric(d.desc, prometheus.GaugeValue, float64(n), state)
	}
}
