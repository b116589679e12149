package replayer

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tidemark/events"
	"tidemark/internal/holder"
)

// metrics are read from the followers when they are asked for.
type metrics struct {
	service                                         *Service
	seconds, bytes, entries, unheard, target, delay *prometheus.Desc
	mismatches, damaged, verifiedTime               *prometheus.Desc
}

func newMetrics(reg prometheus.Registerer, s *Service) *metrics {
	desc := func(name, help string) *prometheus.Desc { return holder.Desc(name, help, events.Slave) }
	m := &metrics{
		service: s,
		seconds: desc("tidemark_replication_lag_seconds", "How long this copy has been behind its primary; it grows while the primary is not heard."),
		bytes:   desc("tidemark_replication_backlog_bytes", "Bytes of entries that the primary had when it was heard last and this copy lacks."),
		entries: desc("tidemark_replication_backlog_entries", "Entries that the primary had when it was heard last and this copy lacks."),
		unheard: desc("tidemark_replication_unheard_seconds", "For how long the primary was not heard, if that is longer than it should be; else 0."),
		target:  desc("tidemark_target_rpo_seconds", "How far behind this copy may be; 0: no target is set."),
		delay:   desc("tidemark_replication_delay_seconds", "How far this copy is held back on purpose."),
		mismatches: desc("tidemark_verify_mismatches",
			"Objects, and things other than data, that the last comparison with the source found to differ and did not repair."),
		damaged: desc("tidemark_verify_mismatched_bytes",
			"Bytes in blocks that the last comparison with the source found to differ and did not repair."),
		verifiedTime: desc("tidemark_verify_timestamp_seconds", "When this copy was last compared with its source."),
	}
	if reg != nil {
		reg.MustRegister(m, holder.NewMetrics(events.Slave, shownStates(), s.standings))
	}
	return m
}

// shownStates are the states that status shows, for metrics.
func shownStates() []string {
	all := []string{"stalled"}
	for _, s := range []State{Syncing, Replaying, Stopped, Errored, SplitBrain, Disconnected, Resyncing} {
		all = append(all, string(s))
	}
	return all
}

// Describe implements [prometheus.Collector].
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.seconds, m.bytes, m.entries, m.unheard, m.target, m.delay, m.mismatches, m.damaged, m.verifiedTime} {
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
	l, settings, labels := f.behind(time.Now()), m.service.settings(f.id), holder.Labels(f.name)
	f.mu.Lock()
	last := f.verified
	f.mu.Unlock()
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	if last != nil {
		gauge(m.mismatches, float64(last.mismatches))
		gauge(m.damaged, float64(last.bytes))
		gauge(m.verifiedTime, float64(last.at.UnixMilli())/1000)
	}
	gauge(m.seconds, l.Seconds)
	gauge(m.bytes, float64(l.Bytes))
	gauge(m.entries, float64(l.Entries))
	gauge(m.unheard, l.Unheard)
	gauge(m.target, settings.TargetRPO.Seconds())
	gauge(m.delay, settings.Delay.Seconds())
}
