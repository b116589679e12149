package main

import (
	"strings"

	"github.com/spf13/pflag"

	"tidemark/internal/fault"
)

// flagNeed is what some of serve's flags are for: given where that is not, they would be ignored,
// and whoever gave them would think that they hold.
type flagNeed struct {
	flags []string // names; one that ends in "-" stands for all that begin so
	met   func(cfg *serveConfig) bool
	what  string // is missing, and what to do about it
}

// flagNeeds lists them, the first that names a flag decides. --nbd is not among them: a process
// without images listens for no NBD clients, and says so in its ready line.
func flagNeeds() []flagNeed {
	holds := func(cfg *serveConfig) bool { return cfg.serves(serviceJournal) || cfg.serves(serviceReplayer) }
	return []flagNeed{
		{[]string{"webhook-"}, func(cfg *serveConfig) bool { return len(cfg.webhooks.urls) > 0 }, "there is no --webhook"},
		{
			[]string{"webhook"},
			func(cfg *serveConfig) bool { return cfg.serves(serviceNotifier) },
			"webhooks are told by the notifier, which --services does not name: give it to the process that runs it",
		},
		{[]string{"journal-max-bytes", "nbd-tls-"}, holds, "this process runs neither journal nor replayer: give it to one that does"},
		{
			[]string{"journal-"},
			func(cfg *serveConfig) bool { return cfg.serves(serviceJournal) },
			"this process does not run the journal service: give it to the one that does",
		},
		{[]string{"http-name"}, func(cfg *serveConfig) bool {
			return cfg.http != "" && cfg.guard.httpToken == "" && !cfg.guard.httpTLS.configured()
		}, "with a token or TLS, HTTP answers under every name"},
		{[]string{"http-"}, func(cfg *serveConfig) bool { return cfg.http != "" }, "--http is empty: nothing is served by HTTP"},
		{[]string{"nats-monitor"}, func(cfg *serveConfig) bool { return cfg.natsURL != "" }, "NATS is embedded: name the outside server with --nats-url"},
		{[]string{"auth", "nats-tls-"}, func(cfg *serveConfig) bool { return cfg.natsURL == "" }, "NATS is not embedded: the server at --nats-url decides who comes in"},
	}
}

// checkUsed refuses flags that were given and that nothing here would heed.
func (cfg *serveConfig) checkUsed(given *pflag.FlagSet) (err error) {
	given.Visit(func(f *pflag.Flag) {
		for _, n := range flagNeeds() {
			if err == nil && n.names(f.Name) {
				if !n.met(cfg) {
					err = fault.New(fault.Usage, "--%s would be ignored: %s", f.Name, n.what)
				}
				return
			}
		}
	})
	return err
}

func (n flagNeed) names(flag string) bool {
	for _, name := range n.flags {
		if flag == name || strings.HasSuffix(name, "-") && strings.HasPrefix(flag, name) {
			return true
		}
	}
	return false
}
