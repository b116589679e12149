package replayer

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are read from the followers when they are asked for.
type metrics struct {
	service                            *Service
	state, seconds, bytes, appliedTime *prometheus.Desc
	mismatches, damaged, verifiedTime  *prometheus.Desc
}

func newMetrics(reg prometheus.Registerer, s *Service) *metrics {
	labels := []string{"directory"}
	m := &metrics{
		service: s,
		state:   prometheus.NewDesc("tidemark_replication_state", "1 for the state that the followed directory is in.", []string{"directory", "state"}, nil),
		seconds: prometheus.NewDesc("tidemark_replication_lag_seconds", "How long this copy has been behind its source.", labels, nil),
		bytes:   prometheus.NewDesc("tidemark_replication_backlog_bytes", "Bytes of entries that the source has and this copy lacks.", labels, nil),
		appliedTime: prometheus.NewDesc("tidemark_replication_last_applied_timestamp_seconds",
			"When the newest entry that this copy has applied was written at the source.", labels, nil),
		mismatches: prometheus.NewDesc("tidemark_verify_mismatches",
			"Objects, and things other than data, that the last comparison with the source found to differ and did not repair.", labels, nil),
		damaged: prometheus.NewDesc("tidemark_verify_mismatched_bytes",
			"Bytes in blocks that the last comparison with the source found to differ and did not repair.", labels, nil),
		verifiedTime: prometheus.NewDesc("tidemark_verify_timestamp_seconds",
			"When this copy was last compared with its source.", labels, nil),
	}
	if reg != nil {
		reg.MustRegister(m)
	}
	return m
}

// Describe implements [prometheus.Collector].
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.state, m.seconds, m.bytes, m.appliedTime, m.mismatches, m.damaged, m.verifiedTime} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, f := range m.service.held() {
		m.collect(ch, f)
	}
}

func (m *metrics) collect(ch chan<- prometheus.Metric, f *follower) {
	name, applied := f.name.String(), f.marks().Applied
	f.mu.Lock()
	state, head, l, last := f.state, f.head, f.behind(applied, time.Now()), f.verified
	f.mu.Unlock()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(m.state, 1, name, string(state))
	gauge(m.appliedTime, float64(applied.Time)/float64(time.Second), name)
	if last != nil {
		gauge(m.mismatches, float64(last.mismatches), name)
		gauge(m.damaged, float64(last.bytes), name)
		gauge(m.verifiedTime, float64(last.at.UnixMilli())/1000, name)
	}
	if head != nil {
		gauge(m.seconds, l.Seconds, name)
		gauge(m.bytes, float64(l.Bytes), name)
	}
}
