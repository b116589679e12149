package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
	"tidemark/internal/natsd"
	"tidemark/internal/nbd"
	"tidemark/internal/site"
	"tidemark/internal/telemetry"
	"tidemark/services/notifier/dashboard"
)

// How long the parts may take to stop; see [actor].
const (
	nbdDrainTime    = 5 * time.Second // for requests in flight, and again to close a device
	nbdStopTime     = 15 * time.Second
	serviceStopTime = 30 * time.Second
	httpStopTime    = 5 * time.Second
	busStopTime     = 5 * time.Second
	natsStopTime    = 30 * time.Second
)

// process is one process of a site, put together from the bottom to the top:
//
//	                    NBD clients        HTTP
//	                         │               │
//	journal  replayer  ── exports        telemetry
//	policy   notifier
//	    └──── bus ───────────┐
//	          NATS: embedded, or --nats-url
type process struct {
	cfg     serveConfig
	log     *slog.Logger
	metrics *prometheus.Registry
	nats    *natsd.Server // nil with --nats-url
	bus     *bus.Bus
	node    site.Node
	dataID  string // of the data folder

	services  []namedService
	dashboard *dashboard.Service // nil where the notifier or HTTP is not
	exports   exportsMux
	nbd       []net.Listener
	nbdTLS    *tls.Config // nil for none
	guards    guards
	http      net.Listener // nil for none

	serving     chan struct{} // closed when the process has said that it is ready
	stopAnswers func()        // ends the answering of requests about the log

	locks *locks
	// undo stops, last first, what was started before the actors take over.
	undo []func()
}

// serve runs one process of a site until ctx ends, and says on out when it is ready.
func serve(ctx context.Context, cfg serveConfig, log *slog.Logger, out io.Writer) error {
	p := &process{cfg: cfg, log: log, serving: make(chan struct{}), metrics: telemetry.NewRegistry(thisVersion().Version)}
	defer func() { p.locks.release() }()
	for _, step := range []func(context.Context) error{p.open, p.startNATS, p.connect, p.join, p.assemble} {
		if err := step(ctx); err != nil {
			for i := len(p.undo) - 1; i >= 0; i-- {
				p.undo[i]()
			}
			if ctx.Err() != nil && errors.Is(err, context.Canceled) {
				return nil // asked to stop before anything ran
			}
			return err
		}
	}
	return runActors(ctx, log, p.actors(out))
}

// open takes what other processes could have: the data folder and the addresses.
func (p *process) open(ctx context.Context) error {
	if err := os.MkdirAll(p.cfg.data, 0o700); err != nil {
		return fmt.Errorf("prepare the data folder: %w", err)
	}
	parts := p.cfg.services
	if p.cfg.natsURL == "" {
		parts = append([]string{"nats"}, parts...)
	}
	var err error
	if p.locks, err = lockParts(p.cfg.data, parts); err != nil {
		return err
	}
	if p.nbdTLS, err = p.cfg.nbdTLS.config(); err != nil {
		return err
	}
	if p.guards, err = openGuards(&p.cfg); err != nil {
		return err
	}
	for _, address := range p.cfg.nbd {
		l, err := listen(ctx, address)
		if err != nil {
			return err
		}
		p.nbd = append(p.nbd, l)
		p.undo = append(p.undo, func() { _ = l.Close() }) // nobody used it
	}
	if p.cfg.http != "" {
		if p.http, err = listen(ctx, p.cfg.http); err != nil {
			return err
		}
		p.undo = append(p.undo, func() { _ = p.http.Close() }) // nobody used it
	}
	return nil
}

func (p *process) startNATS(ctx context.Context) error {
	if p.cfg.natsURL != "" {
		return nil
	}
	if err := free(ctx, p.cfg.natsListen); err != nil {
		return err
	}
	server, err := natsd.Start(ctx, natsd.Config{
		Name:   p.cfg.node,
		Dir:    filepath.Join(p.cfg.data, "nats"),
		Listen: p.cfg.natsListen,
		Sync:   p.cfg.syncMode(),
		Auth:   p.cfg.authenticated(),
		TLS:    p.guards.natsTLS,
		Log:    p.log.With("part", "nats"),
	})
	if err != nil {
		return err
	}
	p.nats = server
	p.undo = append(p.undo, server.Stop)
	return nil
}

// connect reaches NATS and settles how its log is made safe.
func (p *process) connect(ctx context.Context) error {
	cfg := bus.Config{Name: "tidemark " + p.cfg.node, URL: p.cfg.natsURL, Creds: p.cfg.creds, CA: p.cfg.natsCA, Log: p.log.With("part", "bus")}
	if p.nats != nil {
		cfg.Key, cfg.CA = p.nats.Key(), ""
		cfg.Creds, cfg.Syncer, cfg.Guard, cfg.Dial = "", p.nats, p.nats.Space, p.nats.Dial
		cfg.Options = append(cfg.Options, p.nats.InProcess())
	}
	b, err := connectPatiently(ctx, cfg, p.cfg.patience)
	if err != nil {
		return err
	}
	p.bus = b
	p.undo = append(p.undo, b.Close)
	if p.nats == nil {
		syncer, err := outsideSyncer(ctx, p.cfg, b)
		if err != nil {
			return err
		}
		b.SetSyncer(syncer)
		return nil
	}
	// The other processes of the site need the answers until they have stopped, so the
	// signal that stops this one must not end them.
	p.stopAnswers, err = api.Serve(context.WithoutCancel(ctx), b.Conn(), p.log, p.nats.Handlers()...)
	if err != nil {
		return fmt.Errorf("answer requests about the log: %w", err)
	}
	p.undo = append(p.undo, p.stopAnswers)
	return nil
}

// connectPatiently tries again while nobody listens: the processes of a site are often
// started together.
func connectPatiently(ctx context.Context, cfg bus.Config, patience time.Duration) (*bus.Bus, error) {
	deadline := time.Now().Add(patience)
	for {
		b, err := bus.Connect(cfg)
		if err == nil {
			return b, nil
		}
		err = connectError(cfg.URL, err)
		// Whose server has just started is not let in before it knows its site.
		if code := fault.CodeOf(err); code != fault.Timeout && code != fault.Denied || time.Now().After(deadline) {
			return nil, err
		}
		cfg.Log.Info("waiting for NATS", "error", err)
		if err := pause(ctx, time.Second); err != nil {
			return nil, err
		}
	}
}

// join makes the process a node of its site, and founds the site if there is none.
func (p *process) join(ctx context.Context) error {
	if err := p.claimName(ctx); err != nil {
		return err
	}
	if err := p.bus.EnsureStreams(ctx, events.SiteStreams()); err != nil {
		return err
	}
	who, err := site.Identify(ctx, p.bus, p.cfg.site)
	if err != nil {
		return err
	}
	incarnation, err := site.NewID()
	if err != nil {
		return err
	}
	p.node = site.Node{
		Site: who, Name: p.cfg.node, Incarnation: incarnation, Data: p.cfg.data, DataID: p.dataID,
		URL: p.cfg.advertised(p.natsURL()), Auth: p.cfg.authenticated() || p.nats == nil && p.cfg.creds != "",
	}
	p.log.Info("joined the site", "site", who.Name, "uuid", who.UUID, "node", p.node.Name, "incarnation", incarnation)
	return nil
}

func (p *process) natsURL() string {
	if p.nats != nil {
		return p.nats.URL()
	}
	return p.cfg.natsURL
}

// actors lists the parts in the order in which they are stopped.
func (p *process) actors(out io.Writer) []actor {
	actors := []actor{{"announcement", func(ctx context.Context) error { return p.announce(ctx, out) }, busStopTime}}
	if len(p.nbd) > 0 {
		server := nbd.New(nbd.Config{
			Exports: p.exports, Log: p.log.With("part", "nbd"), Registerer: p.metrics,
			Limits: nbd.Limits{DrainTime: nbdDrainTime}, TLS: p.nbdTLS,
		})
		for _, l := range p.nbd {
			actors = append(actors, actor{"NBD on " + l.Addr().String(), func(ctx context.Context) error { return server.Serve(ctx, l) }, nbdStopTime})
		}
	}
	for _, s := range p.services {
		actors = append(actors, actor{s.name, s.Run, serviceStopTime})
	}
	if p.dashboard != nil {
		actors = append(actors, actor{"dashboard", p.dashboard.Run, httpStopTime})
	}
	if p.http != nil {
		actors = append(actors, actor{"HTTP", p.serveHTTP, httpStopTime})
	}
	if p.nats != nil && p.cfg.authenticated() {
		actors = append(actors, actor{"gate", p.keepGate, busStopTime})
	}
	if p.nats != nil {
		actors = append(actors, actor{"answers about the log", atEnd(p.stopAnswers), busStopTime})
	}
	actors = append(actors, actor{"bus", atEnd(p.bus.Close), busStopTime})
	if p.nats != nil {
		actors = append(actors, actor{"NATS", atEnd(p.nats.Stop), natsStopTime})
	}
	return actors
}

// atEnd is the life of a part that runs by itself and only needs to be stopped.
func atEnd(stop func()) func(context.Context) error {
	return func(ctx context.Context) error {
		<-ctx.Done()
		stop()
		return nil
	}
}

func (p *process) serveHTTP(ctx context.Context) error {
	cfg := telemetry.Config{
		Title:   p.node.Site.Name + " / " + p.node.Name,
		Metrics: p.metrics,
		Live:    []telemetry.Check{{Name: "nats", Test: p.natsHealth}},
		Log:     p.log.With("part", "http"),
		Token:   p.guards.httpToken,
		Names:   p.cfg.httpNames(),
		AnyName: p.guards.httpTLS != nil,
	}
	if p.dashboard != nil {
		cfg.Home = p.dashboard.Handler()
	} else {
		cfg.Elsewhere = p.whereDashboard
	}
	for _, s := range p.services {
		cfg.Ready = append(cfg.Ready, telemetry.Signalled(s.name, s.Ready()))
	}
	cfg.Ready = append(cfg.Ready, telemetry.Signalled("directories", p.serving))
	l := p.http
	if p.guards.httpTLS != nil {
		l = tls.NewListener(l, p.guards.httpTLS)
	}
	return telemetry.Serve(ctx, l, cfg)
}

func (p *process) natsHealth() error {
	if p.nats != nil {
		return p.nats.Healthy()
	}
	if !p.bus.Conn().IsConnected() {
		return errors.New("not connected")
	}
	return nil
}

// announce prints one line when every service is ready: the listeners are by then.
func (p *process) announce(ctx context.Context, out io.Writer) error {
	for _, s := range p.services {
		select {
		case <-s.Ready():
		case <-ctx.Done():
			return nil
		}
	}
	p.awaitDirectories(ctx)
	close(p.serving)
	if _, err := fmt.Fprintln(out, p.readyLine()); err != nil {
		return fmt.Errorf("say that it is ready: %w", err)
	}
	if err := tellSupervisor(ctx, os.Getenv(notifySocket)); err != nil {
		p.log.Warn("the service manager does not know that this is ready", "error", err)
	}
	<-ctx.Done()
	return nil
}

func (p *process) readyLine() string {
	line := []string{"ready", "site=" + quoted(p.node.Site.Name), "node=" + quoted(p.node.Name), "nats=" + redact(p.natsURL())}
	var addresses []string
	for _, l := range p.nbd {
		address := l.Addr().String()
		if l.Addr().Network() == "unix" {
			address = unixPrefix + address
		}
		addresses = append(addresses, quoted(address))
	}
	if len(addresses) > 0 {
		line = append(line, "nbd="+strings.Join(addresses, ","))
	}
	if p.http != nil {
		line = append(line, "http="+p.http.Addr().String())
	}
	return strings.Join(line, " ")
}

// quoted quotes what would not be one word.
func quoted(s string) string {
	if strings.ContainsAny(s, " \"\t") {
		return fmt.Sprintf("%q", s)
	}
	return s
}
