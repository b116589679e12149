package main

import (
	"context"

	"tidemark/services/journal"
	"tidemark/services/notifier"
	"tidemark/services/policy"
	"tidemark/services/replayer"
)

// service is what all services have in common.
type service interface {
	Run(ctx context.Context) error
	// Ready is closed when the service serves.
	Ready() <-chan struct{}
}

type namedService struct {
	name string
	service
}

// assemble makes the services that the process was asked to run, and collects the
// images that they serve.
func (p *process) assemble(context.Context) error {
	for _, name := range p.cfg.services {
		var s service
		log := p.log.With("service", name)
		switch name {
		case serviceJournal:
			owner := journal.New(journal.Deps{
				Bus: p.bus, Node: p.node, Log: log, Metrics: p.metrics, Dialer: p.guards.dialer,
				JournalBytesMax: int64(p.cfg.journalBytesMax), Durability: p.cfg.durability,
				Settings: p.cfg.journal.settings, Lag: p.cfg.journal.lag(),
			})
			p.exports = append(p.exports, owner.Exports())
			s = owner
		case serviceReplayer:
			follower := replayer.New(replayer.Deps{
				Bus: p.bus, Node: p.node, Log: log, Metrics: p.metrics, Dialer: p.guards.dialer,
				JournalBytesMax: int64(p.cfg.journalBytesMax), Durability: p.cfg.durability,
			})
			p.exports = append(p.exports, follower.Exports())
			s = follower
		case servicePolicy:
			s = policy.New(policy.Deps{Bus: p.bus, Node: p.node, Log: p.log, Metrics: p.metrics, Dialer: p.guards.dialer})
		case serviceNotifier:
			s = notifier.New(notifier.Deps{
				Bus: p.bus, Node: p.node, Log: p.log, Metrics: p.metrics, Webhooks: p.cfg.webhooks.config,
			})
		}
		p.services = append(p.services, namedService{name, s})
	}
	return p.assembleDashboard()
}
