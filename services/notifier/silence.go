package notifier

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tidemark/events"
	"tidemark/internal/overview"
)

// silence tells, when it is asked, which services of nodes are not heard.
type silence struct {
	service *Service
	silent  *prometheus.Desc
}

func newSilence(s *Service) silence {
	return silence{s, prometheus.NewDesc("tidemark_notifier_instance_silent",
		"1 for a service of a node that fell silent and was not heard since, for a week; 0 for one that is alive.", []string{"node", "service"}, nil)}
}

// Describe implements [prometheus.Collector].
func (c silence) Describe(out chan<- *prometheus.Desc) { out <- c.silent }

// Collect implements [prometheus.Collector].
func (c silence) Collect(out chan<- prometheus.Metric) {
	now := events.InstantOf(time.Now())
	c.service.mu.Lock()
	defer c.service.mu.Unlock()
	for k, i := range c.service.state.Instances {
		silent := 0.0
		switch {
		case i.Alive:
		case i.Silent != 0 && now.Sub(i.Silent) < overview.SilenceTold:
			silent = 1
		default:
			continue // it left
		}
		out <- prometheus.MustNewConstMetric(c.silent, prometheus.GaugeValue, silent, k.Node, k.Service)
	}
}
