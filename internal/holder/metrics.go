package holder

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tidemark/events"
	"tidemark/internal/api"
)

// Metrics are what is told of every directory that a service holds, whatever its role. They
// are read when they are asked for, from what is known here, so a directory that is let go
// is told of no more.
type Metrics struct {
	states    []string
	standings func() []api.Standing
	now       func() time.Time

	state, split, applied, bytes, limit, history *prometheus.Desc
}

// directoryLabels are the labels of everything about a directory. Its name includes the pool,
// as commands take it.
func directoryLabels() []string { return []string{"pool", "directory"} }

// Desc describes a metric of a directory; labels follow those that all of them have.
func Desc(name, help string, role events.Role, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, append(directoryLabels(), labels...), prometheus.Labels{"role": string(role)})
}

// Labels returns the values of a directory's labels.
func Labels(name events.DirectoryName, more ...string) []string {
	return append([]string{name.Pool, name.String()}, more...)
}

// NewMetrics describes the directories that are held in one role, in one of the states given.
func NewMetrics(role events.Role, states []string, standings func() []api.Standing) *Metrics {
	return &Metrics{
		states: states, standings: standings, now: time.Now,
		state: Desc("tidemark_directory_state", "1 for the state that the directory is in at this node, 0 for the others that it could be in.", role, "state"),
		split: Desc("tidemark_split_brain", "1 while the history here and another site's have parted, or both are primary.", role),
		applied: Desc("tidemark_last_applied_timestamp_seconds",
			"When the newest entry that this copy has applied was written at its primary.", role),
		bytes:   Desc("tidemark_journal_bytes", "Bytes that the directory's journal takes at this site.", role),
		limit:   Desc("tidemark_journal_limit_bytes", "Bytes that the directory's journal may take; 0: there is no limit.", role),
		history: Desc("tidemark_history_seconds", "How far back the directory's journal reaches at this site.", role),
	}
}

// Describe implements [prometheus.Collector].
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.state, m.split, m.applied, m.bytes, m.limit, m.history} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	now := events.InstantOf(m.now())
	for _, s := range m.standings() {
		m.collect(ch, s, now)
	}
}

func (m *Metrics) collect(ch chan<- prometheus.Metric, s api.Standing, now events.Instant) {
	name, err := events.ParseDirectory(s.Name)
	if err != nil {
		return // nothing is held under such a name
	}
	gauge := func(d *prometheus.Desc, v float64, more ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, Labels(name, more...)...)
	}
	for _, state := range m.states {
		gauge(m.state, one(state == s.State), state)
	}
	gauge(m.split, one(s.Split != nil || s.State == "split_brain"))
	gauge(m.applied, float64(s.Applied.Time)/float64(time.Second))
	gauge(m.bytes, float64(s.Bytes))
	gauge(m.limit, float64(s.BytesLimit))
	history := 0.0
	if s.Since != 0 {
		history = max(0, now.Sub(s.Since).Seconds())
	}
	gauge(m.history, history)
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
