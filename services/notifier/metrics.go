package notifier

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	instances  prometheus.Gauge
	waiting    prometheus.Gauge
	sent       prometheus.Counter
	retries    prometheus.Counter
	malformed  prometheus.Counter
	unreadable prometheus.Counter
}

// newMetrics registers the service's metrics; r may be nil.
func newMetrics(r prometheus.Registerer) *metrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "tidemark", Subsystem: "notifier", Name: name, Help: help})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "tidemark", Subsystem: "notifier", Name: name, Help: help})
	}
	m := &metrics{
		instances:  gauge("instances", "Instances that are alive."),
		waiting:    gauge("waiting_directories", "Directories with requests that are not acknowledged."),
		sent:       counter("requests_sent_total", "Deliveries of acquire and release requests, repeated ones included."),
		retries:    counter("retries_total", "Deliveries that got no usable answer."),
		malformed:  counter("malformed_total", "Heartbeats and answers that made no sense."),
		unreadable: counter("unreadable_total", "Messages of streams that could not be read and were skipped."),
	}
	if r != nil {
		r.MustRegister(m.instances, m.waiting, m.sent, m.retries, m.malformed, m.unreadable)
	}
	return m
}
