package nbd

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tidemark/internal/nbd/wire"
)

// metrics are the server's figures. Commands are resolved to their series beforehand,
// so that counting a request looks nothing up.
type metrics struct {
	connections prometheus.Gauge
	refused     prometheus.Counter
	evicted     prometheus.Counter
	failed      *prometheus.CounterVec
	read        prometheus.Counter
	written     prometheus.Counter
	seconds     [len(commandNames) + 1]prometheus.Observer // the last for unknown commands
}

// commandNames are the label values of the commands, by number.
var commandNames = [...]string{"read", "write", "disconnect", "flush", "trim", "cache", "write_zeroes", "block_status"}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		connections: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tidemark_nbd_connections", Help: "NBD connections that are open.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tidemark_nbd_connections_refused_total", Help: "NBD connections closed at once, because there were too many.",
		}),
		evicted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tidemark_nbd_connections_evicted_total", Help: "NBD connections closed before the end of their handshake, to make room for others.",
		}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tidemark_nbd_request_errors_total", Help: "NBD requests answered with an error.",
		}, []string{"command"}),
		read: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tidemark_nbd_read_bytes_total", Help: "Bytes read by NBD clients.",
		}),
		written: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tidemark_nbd_written_bytes_total", Help: "Bytes written by NBD clients, without zeroed ranges.",
		}),
	}
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "tidemark_nbd_request_seconds",
		Help:    "Time from an NBD request's arrival to its answer.",
		Buckets: prometheus.ExponentialBuckets(10e-6, 4, 11),
	}, []string{"command"})
	for i := range m.seconds {
		m.seconds[i] = seconds.WithLabelValues(commandName(wire.Command(i)))
		m.failed.WithLabelValues(commandName(wire.Command(i))) // it is 0 before the first
	}
	if reg != nil {
		reg.MustRegister(m.connections, m.refused, m.evicted, m.failed, m.read, m.written, seconds)
	}
	return m
}

func commandName(c wire.Command) string {
	if int(c) < len(commandNames) {
		return commandNames[c]
	}
	return "unknown"
}

// answered counts a request that has its reply.
func (m *metrics) answered(r *request, errno wire.Errno) {
	m.seconds[min(int(r.Command), len(m.seconds)-1)].Observe(time.Since(r.started).Seconds())
	switch {
	case errno != 0:
		m.failed.WithLabelValues(commandName(r.Command)).Inc()
	case r.Command == wire.CmdRead:
		m.read.Add(float64(r.Length))
	case r.Command == wire.CmdWrite:
		m.written.Add(float64(r.Length))
	}
}
