package webhook

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	deliveries *prometheus.CounterVec
	failures   *prometheus.CounterVec
	backlog    *prometheus.GaugeVec
	dead       prometheus.Gauge
}

// newMetrics registers the service's metrics; r may be nil.
func newMetrics(r prometheus.Registerer) *metrics {
	of := []string{"webhook", "host"}
	m := &metrics{
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tidemark_webhook_deliveries_total", Help: "Notes that a webhook accepted.",
		}, of),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tidemark_webhook_failures_total", Help: "Tries that a webhook did not accept.",
		}, of),
		backlog: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tidemark_webhook_backlog", Help: "Notes that wait for a webhook, the one under way included.",
		}, of),
		dead: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tidemark_webhook_dead_letters", Help: "Notes of the site that could not be delivered and were not sent again.",
		}),
	}
	if r != nil {
		r.MustRegister(m.deliveries, m.failures, m.backlog, m.dead)
	}
	return m
}
