package policy

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	published  *prometheus.CounterVec
	overtaken  prometheus.Counter
	unreadable prometheus.Counter
	refused    prometheus.Counter
}

// newMetrics registers the service's metrics; r may be nil.
func newMetrics(r prometheus.Registerer) *metrics {
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
		r.MustRegister(m.published, m.overtaken, m.unreadable, m.refused)
	}
	return m
}
