package main

import (
	"context"
	"time"

	"tidemark/internal/api"
	"tidemark/services/notifier/dashboard"
)

// whereTime bounds the question where the dashboard is.
const whereTime = time.Second

// assembleDashboard makes the dashboard of a process that runs the notifier and serves HTTP.
func (p *process) assembleDashboard() error {
	if p.http == nil || !p.cfg.serves(serviceNotifier) {
		return nil
	}
	scheme := "http://"
	if p.guards.httpTLS != nil {
		scheme = "https://"
	}
	var err error
	p.dashboard, err = dashboard.New(dashboard.Deps{
		Bus: p.bus, Node: p.node, Log: p.log.With("part", "dashboard"), Version: thisVersion().Version,
		URL: scheme + p.http.Addr().String() + "/",
	})
	return err
}

// whereDashboard says for people where the site's dashboard is.
func (p *process) whereDashboard(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, whereTime)
	defer cancel()
	place, err := api.Call[api.DashboardPlace](ctx, p.bus.Conn(), api.Dashboard, api.Nothing{})
	if err != nil {
		return "The dashboard is served by the process that runs the notifier. None answers now."
	}
	return "The dashboard is served by the notifier, at node " + place.Node + ": " + place.URL
}
