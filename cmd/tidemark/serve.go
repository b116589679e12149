package main

import (
	"context"
	"log/slog"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"tidemark/events"
	"tidemark/internal/fault"
	"tidemark/internal/telemetry"
)

// The services, in the order in which they are stopped: first those that hold
// directories, last the one that hears that they left.
const (
	serviceJournal  = events.ServiceJournal
	serviceReplayer = events.ServiceReplayer
	servicePolicy   = "policy"
	serviceNotifier = "notifier"
)

func allServices() []string {
	return []string{serviceJournal, serviceReplayer, servicePolicy, serviceNotifier}
}

const (
	defaultNATSListen = "127.0.0.1:4222"
	defaultNBD        = "127.0.0.1:10809"
	defaultHTTP       = "127.0.0.1:8080"
	// defaultJournalBytes bounds the journal of one directory: what a replica that is
	// away may fall behind before writers have to wait for it.
	defaultJournalBytes = 16 << 30
	// journalBytesMin is below what a journal can be trimmed to: whole blocks, behind
	// the checkpoint.
	journalBytesMin = 64 << 20
)

// serveConfig is what one process of a site runs, checked.
type serveConfig struct {
	data, site, node string
	services         []string
	natsURL          string // empty: NATS is embedded and listens on natsListen
	natsListen       string
	natsMonitor      string
	creds            string
	nbd              []string
	http             string // empty: none
	advertise        string // empty: where this site's own clients reach NATS
	durability       string
	journalBytesMax  size
	journal          journalFlags
	nbdTLS           tlsFlags
	guard            guardFlags
	natsCA           string
	webhooks         webhookFlags
	insecure         bool
	level            slog.Level
	patience         time.Duration // for an outside NATS server to answer
}

func newServe(c *cli) *cobra.Command {
	cfg := serveConfig{journalBytesMax: defaultJournalBytes}
	var services []string
	var level string
	cmd := &cobra.Command{
		Use:   "serve --data DIR",
		Short: "Run a site, or some services of one",
		Long: `Runs the services, an NBD server for their images, a NATS server for them unless
--nats-url names one, and HTTP with /metrics, /healthz and /readyz. Prints one line
that starts with "ready" when all of it is serving.

SIGTERM or SIGINT stops it in order: no new NBD requests, then the services, then NATS.
When it exits with 0, everything that was acknowledged is safe. A part that does not
stop in time (NBD 15s, each service 30s, NATS 30s) is left behind, and the exit code
is 1. A second signal ends the process at once, with 1.`,
		Args: takes(0, 0),
	}
	cmd.RunE = c.action(func(ctx context.Context, _ []string) error {
		flags := cmd.Flags()
		if flags.Changed("nats-url") {
			cfg.natsURL = c.natsURL
			if flags.Changed("nats-listen") {
				return fault.New(fault.Usage, "--nats-url uses a NATS server, --nats-listen runs one: give one of them")
			}
		}
		cfg.services, cfg.creds, cfg.natsCA, cfg.patience = services, c.creds, c.natsCA, c.timeout
		var err error
		if cfg.level, err = telemetry.ParseLevel(level); err != nil {
			return fault.New(fault.Usage, "%w", err)
		}
		if err := cfg.check(); err != nil {
			return err
		}
		if err := cfg.checkUsed(flags); err != nil {
			return err
		}
		return serve(ctx, cfg, c.logger(cfg.level), c.out)
	})
	f := cmd.Flags()
	f.StringVar(&cfg.data, "data", "", "`folder` for everything that the process keeps")
	f.StringVar(&cfg.site, "site", "", "name of the site (default: the one it has)")
	f.StringVar(&cfg.node, "node", "", "name of this node (default: the host's)")
	f.StringSliceVar(&services, "services", allServices(), "services to run")
	f.StringVar(&cfg.natsListen, "nats-listen", defaultNATSListen, "where the embedded NATS server listens")
	f.StringVar(&cfg.natsMonitor, "nats-monitor", "", "HTTP monitoring `URL` of an outside NATS server, which proves that it syncs")
	f.StringArrayVar(&cfg.nbd, "nbd", []string{defaultNBD}, "`address` for NBD clients: HOST:PORT or unix:PATH, may be repeated")
	f.StringVar(&cfg.http, "http", defaultHTTP, "address for metrics, health and the page; empty for none")
	f.StringVar(&cfg.advertise, "advertise", "", "NATS `URL` under which other sites reach this one (default: where it listens)")
	f.StringVar(&cfg.durability, "durability", durabilitySync, "when a flush is answered: sync, quorum or relaxed")
	f.Var(&cfg.journalBytesMax, "journal-max-bytes", "bound of each directory's journal, at least 64MiB")
	cfg.journal.register(f)
	cfg.nbdTLS.register(f, listenerNBD)
	cfg.guard.register(f)
	cfg.webhooks.register(f)
	f.BoolVar(&cfg.insecure, "insecure", false, "allow listening beyond this host without credentials or TLS")
	f.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	return cmd
}

// logger writes text for a person at a terminal, JSON otherwise.
func (c *cli) logger(level slog.Level) *slog.Logger {
	format := telemetry.LogJSON
	if onTerminal(c.messages) {
		format = telemetry.LogText
	}
	return telemetry.NewLogger(c.messages, format, level)
}

// onTerminal reports whether a stream is shown to a person.
func onTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func (cfg *serveConfig) check() error {
	if cfg.data == "" {
		return fault.New(fault.Usage, "say where to keep the data: --data DIR")
	}
	if cfg.node == "" {
		cfg.node = hostName()
	}
	if err := events.CheckName(cfg.node); err != nil {
		return fault.New(fault.Usage, "node: %w", err)
	}
	if cfg.site != "" {
		if err := events.CheckName(cfg.site); err != nil {
			return fault.New(fault.Usage, "site: %w", err)
		}
	}
	if cfg.journalBytesMax < journalBytesMin {
		return fault.New(fault.Usage, "--journal-max-bytes is at least %d MiB: a smaller journal could not be trimmed", journalBytesMin>>20)
	}
	if err := cfg.journal.check(); err != nil {
		return err
	}
	if err := cfg.nbdTLS.check(); err != nil {
		return err
	}
	if err := cfg.guard.check(); err != nil {
		return err
	}
	if err := cfg.webhooks.check(); err != nil {
		return err
	}
	if err := cfg.checkServices(); err != nil {
		return err
	}
	if err := cfg.checkDurability(); err != nil {
		return err
	}
	if cfg.natsURL != "" {
		if err := checkURL(cfg.natsURL); err != nil {
			return err
		}
	}
	if cfg.advertise != "" {
		if err := checkURL(cfg.advertise); err != nil {
			return err
		}
	}
	return cfg.checkAddresses()
}

func hostName() string {
	if name, err := os.Hostname(); err == nil && events.CheckName(name) == nil {
		return name
	}
	return "node"
}

// checkServices refuses unknown services and brings the others into stopping order.
func (cfg *serveConfig) checkServices() error {
	for _, s := range cfg.services {
		if !slices.Contains(allServices(), s) {
			return fault.New(fault.Usage, "service %q: the services are %s", s, strings.Join(allServices(), ", "))
		}
	}
	wanted := cfg.services
	cfg.services = slices.DeleteFunc(allServices(), func(s string) bool { return !slices.Contains(wanted, s) })
	if len(cfg.services) == 0 {
		return fault.New(fault.Usage, "no service to run: --services takes some of %s", strings.Join(allServices(), ", "))
	}
	return nil
}

func (cfg *serveConfig) checkDurability() error {
	switch cfg.durability {
	case durabilitySync, durabilityRelaxed:
	case durabilityQuorum:
		if cfg.natsURL == "" {
			return fault.New(fault.Usage, "durability quorum needs a cluster of NATS servers: name it with --nats-url; the embedded server is a single one")
		}
	default:
		return fault.New(fault.Usage, "durability %q: it is sync, quorum or relaxed", cfg.durability)
	}
	return nil
}

// checkAddresses refuses what is no address, and what strangers could reach.
func (cfg *serveConfig) checkAddresses() error {
	if !cfg.serves(serviceJournal) && !cfg.serves(serviceReplayer) {
		cfg.nbd = nil // nobody would have an image to serve
	}
	check := func(flag, address, protection string, protected bool) error {
		host, err := splitAddress(address)
		if err != nil {
			return fault.New(fault.Usage, "--%s %q: write it like 127.0.0.1:4222", flag, address)
		}
		if !cfg.insecure && !protected && !isLoopback(host) {
			return fault.New(fault.Usage, "--%s %s can be reached from other hosts without credentials or TLS: listen on 127.0.0.1, protect it with %s, or say --insecure", flag, address, protection)
		}
		return nil
	}
	if cfg.natsURL == "" {
		if err := check("nats-listen", cfg.natsListen, "--nats-tls-cert and --nats-tls-key, which also demand a user's key", cfg.guard.natsTLS.configured()); err != nil {
			return err
		}
	}
	if cfg.http != "" {
		if err := check("http", cfg.http, "--http-token-file or --http-tls-cert and --http-tls-key", cfg.guard.httpToken != "" || cfg.guard.httpTLS.configured()); err != nil {
			return err
		}
	}
	for _, address := range cfg.nbd {
		if path, ok := strings.CutPrefix(address, unixPrefix); ok {
			if len(path) == 0 || len(path) > unixPathMax {
				return fault.New(fault.Usage, "--nbd %q: the path of a socket has 1 to %d bytes", address, unixPathMax)
			}
			continue
		}
		if err := check("nbd", address, "--nbd-tls-cert and --nbd-tls-key", cfg.nbdTLS.configured()); err != nil {
			return err
		}
	}
	return nil
}

func (cfg *serveConfig) serves(service string) bool { return slices.Contains(cfg.services, service) }

// advertised returns where other sites reach this one's NATS, given where it listens.
func (cfg *serveConfig) advertised(listening string) string {
	if cfg.advertise != "" {
		return cfg.advertise
	}
	u, err := url.Parse(listening)
	if err != nil {
		return listening
	}
	if ip := net.ParseIP(u.Hostname()); ip != nil && ip.IsUnspecified() {
		u.Host = net.JoinHostPort(hostName(), u.Port())
	}
	return u.String()
}
