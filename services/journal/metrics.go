package journal

import (
	"github.com/prometheus/client_golang/prometheus"

	"tidemark/internal/tail"
)

// metrics are read from the directories when they are asked for.
type metrics struct {
	service                               *Service
	ready, entries, bytes, unsafe, behind *prometheus.Desc
}

func newMetrics(reg prometheus.Registerer, s *Service) *metrics {
	labels := []string{"directory"}
	m := &metrics{
		service: s,
		ready:   prometheus.NewDesc("tidemark_directory_ready", "1 while the directory takes requests at its owner.", labels, nil),
		entries: prometheus.NewDesc("tidemark_journal_entries_total", "Entries in the directory's history.", labels, nil),
		bytes:   prometheus.NewDesc("tidemark_journal_bytes_total", "Bytes of entries in the directory's history.", labels, nil),
		unsafe:  prometheus.NewDesc("tidemark_journal_unsafe_bytes", "Bytes of entries that are logged and not yet synced.", labels, nil),
		behind:  prometheus.NewDesc("tidemark_journal_uncheckpointed_bytes", "Bytes of entries that a restart would replay.", labels, nil),
	}
	if reg != nil {
		reg.MustRegister(m)
	}
	return m
}

// Describe implements [prometheus.Collector].
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.ready, m.entries, m.bytes, m.unsafe, m.behind} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, d := range m.service.held() {
		name := d.name.String()
		l, err := d.current()
		if err != nil {
			ch <- prometheus.MustNewConstMetric(m.ready, prometheus.GaugeValue, 0, name)
			continue
		}
		ch <- prometheus.MustNewConstMetric(m.ready, prometheus.GaugeValue, 1, name)
		m.collect(ch, name, l.tail.Marks())
	}
}

func (m *metrics) collect(ch chan<- prometheus.Metric, name string, marks tail.Marks) {
	ch <- prometheus.MustNewConstMetric(m.entries, prometheus.CounterValue, float64(marks.Logged.Entries), name)
	ch <- prometheus.MustNewConstMetric(m.bytes, prometheus.CounterValue, float64(marks.Logged.Bytes), name)
	ch <- prometheus.MustNewConstMetric(m.unsafe, prometheus.GaugeValue, float64(marks.Logged.Bytes-marks.Safe.Bytes), name)
	ch <- prometheus.MustNewConstMetric(m.behind, prometheus.GaugeValue, float64(marks.Logged.Bytes-marks.Committed.Bytes), name)
}
