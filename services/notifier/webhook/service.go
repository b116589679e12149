package webhook

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/site"
)

// Deps is what the service needs from outside.
type Deps struct {
	Bus     *bus.Bus
	Site    site.Site
	Log     *slog.Logger
	Metrics prometheus.Registerer // nil: metrics are kept, nobody collects them
	Config  Config
}

// backlogAge is how often the backlog is measured.
const backlogAge = 5 * time.Second

// Service delivers to all endpoints, and keeps the dead letters of the site.
type Service struct {
	bus     *bus.Bus
	site    site.Site
	log     *slog.Logger
	metrics *metrics
	policy  Policy
	letters *letters
	workers []*worker
}

// New returns a service that does nothing before Run.
func New(d Deps) *Service {
	s := &Service{
		bus: d.Bus, site: d.Site, log: d.Log, metrics: newMetrics(d.Metrics),
		policy: DefaultPolicy(d.Config.GiveUp), letters: newLetters(),
	}
	client := newClient(d.Config.AllowPrivate)
	for _, e := range d.Config.Endpoints {
		s.add(e, client, d.Config.Secrets)
	}
	return s
}

// add makes the two workers of an endpoint.
func (s *Service) add(e Endpoint, client *http.Client, secrets []Secret) {
	p := &poster{client: client, endpoint: e, secrets: secrets, agent: "tidemark", time: tryTime}
	place := func(name, filter string) bus.DurableConfig {
		return bus.DurableConfig{Name: name + e.Name, Filter: filter, Wait: ackWait, Idle: idleMax}
	}
	s.workers = append(s.workers,
		&worker{
			Service: s, endpoint: e, poster: p, stream: events.StreamLifecycle,
			place: place("webhook_", "tidemark.lifecycle.>"),
		},
		&worker{
			Service: s, endpoint: e, poster: p, stream: events.StreamDeliveries,
			place: place("webhook_again_", events.LettersSubject(e.Name)),
		})
}

// Run delivers, and answers requests, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	stop, err := api.Serve(ctx, s.bus.Conn(), s.log,
		api.On(api.WebhookList, s.list), api.On(api.WebhookDead, s.dead), api.On(api.WebhookRetry, s.retry),
		api.On(api.WebhookDiscard, s.discard))
	if err != nil {
		return fmt.Errorf("webhooks: answer requests: %w", err)
	}
	defer stop()
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { s.letters.follow(ctx, s.bus, s.log, s.metrics) })
	all.Go(func() { s.measure(ctx) })
	for _, w := range s.workers {
		all.Go(func() { w.run(ctx) })
	}
	<-ctx.Done()
	return nil
}

// measure keeps the backlog's metric until ctx ends.
func (s *Service) measure(ctx context.Context) {
	if len(s.workers) == 0 {
		return
	}
	tick := time.NewTicker(backlogAge)
	defer tick.Stop()
	for {
		for _, h := range s.webhooks(ctx) {
			s.metrics.backlog.WithLabelValues(h.Webhook, h.Host).Set(float64(h.Backlog))
			s.metrics.deliveries.WithLabelValues(h.Webhook, h.Host) // both are 0 before the first
			s.metrics.failures.WithLabelValues(h.Webhook, h.Host)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// webhooks returns what is configured here.
func (s *Service) webhooks(ctx context.Context) []api.Webhook {
	var all []api.Webhook
	at := map[string]int{}
	for _, w := range s.workers {
		i, known := at[w.endpoint.Name]
		if !known {
			i = len(all)
			at[w.endpoint.Name] = i
			all = append(all, api.Webhook{Webhook: w.endpoint.Name, Host: w.endpoint.Host, Configured: true})
		}
		w.mu.Lock()
		reader, failing := w.reader, w.failing
		w.mu.Unlock()
		if failing != "" {
			all[i].Failing = failing
		}
		if reader == nil {
			continue
		}
		behind, err := reader.Behind(ctx)
		if err != nil {
			s.log.Debug("backlog of a webhook not known", "webhook", w.endpoint, "error", err)
		}
		all[i].Backlog += behind
	}
	return all
}
