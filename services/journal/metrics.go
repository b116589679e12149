package journal

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"tidemark/events"
	"tidemark/internal/holder"
)

// metrics are read from the directories when they are asked for.
type metrics struct {
	service                               *Service
	ready, entries, bytes, unsafe, behind *prometheus.Desc

	mu      sync.Mutex
	written map[events.DirectoryID]written
}

// written is what was logged of a directory that is held: a history that is given up does not
// make it less.
type written struct{ entries, bytes, seenEntries, seenBytes uint64 }

// next adds what a history that reaches to mark has more than it had.
func (w written) next(mark events.Mark) written {
	if mark.Entries > w.seenEntries {
		w.entries += mark.Entries - w.seenEntries
	}
	if mark.Bytes > w.seenBytes {
		w.bytes += mark.Bytes - w.seenBytes
	}
	w.seenEntries, w.seenBytes = mark.Entries, mark.Bytes
	return w
}

// shownStates are the states that status shows, for metrics.
func shownStates() []string {
	all := []string{"full"}
	for _, s := range []State{Closed, Opening, Replaying, Flushing, Ready, Importing, Stopping, Closing, Restarting, Failed, Fenced} {
		all = append(all, string(s))
	}
	return all
}

func newMetrics(reg prometheus.Registerer, s *Service) *metrics {
	desc := func(name, help string) *prometheus.Desc { return holder.Desc(name, help, events.Master) }
	m := &metrics{
		service: s,
		ready:   desc("tidemark_directory_ready", "1 while the directory takes requests at its owner."),
		entries: desc("tidemark_journal_logged_entries_total", "Entries in the directory's history."),
		bytes:   desc("tidemark_journal_logged_bytes_total", "Bytes of entries in the directory's history."),
		unsafe:  desc("tidemark_journal_unsafe_bytes", "Bytes of entries that are logged and not yet synced."),
		behind:  desc("tidemark_journal_uncheckpointed_bytes", "Bytes of entries that a restart would replay."),
		written: map[events.DirectoryID]written{},
	}
	if reg != nil {
		reg.MustRegister(m, holder.NewMetrics(events.Master, shownStates(), s.standings))
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
	m.mu.Lock()
	defer m.mu.Unlock()
	held := map[events.DirectoryID]written{}
	for _, d := range m.service.held() {
		before := m.written[d.id]
		held[d.id] = before
		l, err := d.current()
		if err != nil {
			ch <- prometheus.MustNewConstMetric(m.ready, prometheus.GaugeValue, 0, holder.Labels(d.name)...)
			continue
		}
		ch <- prometheus.MustNewConstMetric(m.ready, prometheus.GaugeValue, 1, holder.Labels(d.name)...)
		held[d.id] = m.collect(ch, d, l, before)
	}
	m.written = held // no more is kept of one that is held no more
}

func (m *metrics) collect(ch chan<- prometheus.Metric, d *directory, l *life, before written) written {
	marks, labels := l.tail.Marks(), holder.Labels(d.name)
	sum := before.next(marks.Logged)
	ch <- prometheus.MustNewConstMetric(m.entries, prometheus.CounterValue, float64(sum.entries), labels...)
	ch <- prometheus.MustNewConstMetric(m.bytes, prometheus.CounterValue, float64(sum.bytes), labels...)
	ch <- prometheus.MustNewConstMetric(m.unsafe, prometheus.GaugeValue, float64(marks.Logged.Bytes-min(marks.Safe.Bytes, marks.Logged.Bytes)), labels...)
	ch <- prometheus.MustNewConstMetric(m.behind, prometheus.GaugeValue, float64(marks.Logged.Bytes-min(marks.Committed.Bytes, marks.Logged.Bytes)), labels...)
	return sum
}
