package replayer

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are read from the followers when they are asked for.
type metrics struct {
	service                                                             *Service
	state, seconds, bytes, entries, unheard, appliedTime, target, split *prometheus.Desc
	mismatches, damaged, verifiedTime                                   *prometheus.Desc
}

func newMetrics(reg prometheus.Registerer, s *Service) *metrics {
	labels := []string{"directory"}
	m := &metrics{
		service: s,
		state:   prometheus.NewDesc("tidemark_replication_state", "1 for the state that the followed directory is in.", []string{"directory", "state"}, nil),
		seconds: prometheus.NewDesc("tidemark_replication_lag_seconds", "How long this copy has been behind its primary; it grows while the primary is not heard.", labels, nil),
		bytes:   prometheus.NewDesc("tidemark_replication_backlog_bytes", "Bytes of entries that the primary had when it was heard last and this copy lacks.", labels, nil),
		entries: prometheus.NewDesc("tidemark_replication_backlog_entries", "Entries that the primary had when it was heard last and this copy lacks.", labels, nil),
		unheard: prometheus.NewDesc("tidemark_replication_unheard_seconds", "For how long the primary was not heard, if that is longer than it should be; else 0.", labels, nil),
		target:  prometheus.NewDesc("tidemark_replication_target_rpo_seconds", "How far behind this copy may be; 0: no target is set.", labels, nil),
		split:   prometheus.NewDesc("tidemark_replication_split_brain", "1 while this copy's history and its source's have parted.", labels, nil),
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
	for _, d := range []*prometheus.Desc{m.state, m.seconds, m.bytes, m.entries, m.unheard, m.appliedTime, m.target, m.split, m.mismatches, m.damaged, m.verifiedTime} {
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
	name, l := f.name.String(), f.behind(time.Now())
	f.mu.Lock()
	state, split, last := f.state, f.split != nil, f.verified
	f.mu.Unlock()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(m.state, 1, name, string(state))
	if last != nil {
		gauge(m.mismatches, float64(last.mismatches), name)
		gauge(m.damaged, float64(last.bytes), name)
		gauge(m.verifiedTime, float64(last.at.UnixMilli())/1000, name)
	}
	gauge(m.appliedTime, float64(f.marks().Applied.Time)/float64(time.Second), name)
	gauge(m.seconds, l.Seconds, name)
	gauge(m.bytes, float64(l.Bytes), name)
	gauge(m.entries, float64(l.Entries), name)
	gauge(m.unheard, l.Unheard, name)
	gauge(m.target, m.service.settings(f.id).TargetRPO.Seconds(), name)
	parted := 0.0
	if split || state == SplitBrain {
		parted = 1
	}
	gauge(m.split, parted, name)
}
