package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"tidemark/internal/access"
	"tidemark/internal/fault"
	"tidemark/internal/gate"
	"tidemark/internal/keys"
	"tidemark/internal/peers"
)

const (
	// keyEnding is that of files that hold a seed; siteKey is the name of the site's own.
	keyEnding = ".nk"
	siteKey   = "site"

	httpTokenBytesMin, httpTokenBytesMax = 16, 1 << 10
)

// guardFlags say who may come in, at NATS and HTTP, and as whom this site comes in at others.
type guardFlags struct {
	auth      bool
	natsTLS   tlsFlags
	siteKey   string // file; empty: in the data folder
	httpTLS   tlsFlags
	httpToken string // file
	httpNames []string
}

func (g *guardFlags) register(f *pflag.FlagSet) {
	f.BoolVar(&g.auth, "auth", false, "let only users with a key of DATA/*.nk, and peers, in at the embedded NATS server (on with --nats-tls-cert beyond loopback)")
	f.StringVar(&g.siteKey, "site-key", "", "`file` with this site's key for its peers, the same at all its nodes (default: DATA/site.nk, made if missing)")
	f.StringVar(&g.httpToken, "http-token-file", "", "`file` with the token without which HTTP shows nothing but its health")
	f.StringArrayVar(&g.httpNames, "http-name", nil, "`name` under which HTTP answers without token or TLS, besides localhost and addresses; may be repeated")
	g.natsTLS.register(f, "nats")
	g.httpTLS.register(f, "http")
}

func (g *guardFlags) check() error {
	if err := g.natsTLS.check(); err != nil {
		return err
	}
	for _, name := range g.httpNames {
		if name == "" || strings.ContainsAny(name, ":/[] \t") {
			return fault.New(fault.Usage, "--http-name %q: give a host's name alone, like east.example", name)
		}
	}
	return g.httpTLS.check()
}

// httpNames returns the names under which HTTP answers whoever asks: those that were given, and
// the one that it listens on.
func (cfg *serveConfig) httpNames() []string {
	names := slices.Clone(cfg.guard.httpNames)
	if host, err := splitAddress(cfg.http); err == nil && host != "" {
		names = append(names, host)
	}
	for i, name := range names {
		names[i] = strings.ToLower(strings.TrimSuffix(name, "."))
	}
	return names
}

// authenticated reports whether the embedded NATS server lets only users in. Beyond loopback
// it does so even if that was not asked for, unless it was said that it is to be insecure.
func (cfg *serveConfig) authenticated() bool {
	if cfg.natsURL != "" {
		return false
	}
	host, err := splitAddress(cfg.natsListen)
	return cfg.guard.auth || err == nil && !isLoopback(host) && cfg.guard.natsTLS.configured()
}

// guards is what a process needs to let others in, and to come in elsewhere.
type guards struct {
	natsTLS, httpTLS *tls.Config // nil for none
	httpToken        string
	dialer           peers.Dialer
	own              map[string]*keys.Key // of the embedded server's own users, by name
}

// openGuards reads what the flags name, and makes the keys that are missing.
func openGuards(cfg *serveConfig) (g guards, err error) {
	if g.natsTLS, err = cfg.guard.natsTLS.config(); err != nil {
		return g, err
	}
	if g.httpTLS, err = cfg.guard.httpTLS.config(); err != nil {
		return g, err
	}
	if g.httpToken, err = readHTTPToken(cfg.guard.httpToken); err != nil {
		return g, err
	}
	if g.dialer.Key, err = openSiteKey(cfg); err != nil {
		return g, err
	}
	if cfg.natsCA != "" {
		if g.dialer.Trust, err = keys.Trust(cfg.natsCA); err != nil {
			return g, fault.New(fault.Usage, "--nats-ca: %w", err)
		}
	}
	if cfg.authenticated() {
		g.own, err = ownKeys(cfg.data)
	}
	return g, err
}

func openSiteKey(cfg *serveConfig) (*keys.Key, error) {
	if cfg.guard.siteKey == "" {
		return keys.Keep(filepath.Join(cfg.data, siteKey+keyEnding))
	}
	key, err := keys.Load(cfg.guard.siteKey)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.Usage, "--site-key: %w: make one with `tidemark access key %s`", err, cfg.guard.siteKey)
	}
	if err != nil {
		return nil, fault.New(fault.Usage, "--site-key: %w", err)
	}
	return key, nil
}

// ownKeys returns the keys of the site's own users at its embedded server. Their seeds are in
// the data folder, for whoever is to come in.
func ownKeys(data string) (map[string]*keys.Key, error) {
	own := map[string]*keys.Key{}
	for _, name := range append(access.Services(), access.Node, userOperator, userMonitor) {
		key, err := keys.Keep(filepath.Join(data, name+keyEnding))
		if err != nil {
			return nil, fmt.Errorf("key of %s: %w", name, err)
		}
		own[name] = key
	}
	return own, nil
}

func readHTTPToken(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	f, err := os.Open(file)
	if err != nil {
		return "", fault.New(fault.Usage, "--http-token-file: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	text, err := readLimited(f, httpTokenBytesMax)
	if err != nil {
		return "", fault.New(fault.Usage, "--http-token-file: %w", err)
	}
	text = bytes.TrimSpace(text)
	if len(text) < httpTokenBytesMin || bytes.ContainsAny(text, " \t\r\n") {
		return "", fault.New(fault.Usage, "--http-token-file %s: a token is one word of at least %d bytes", file, httpTokenBytesMin)
	}
	return string(text), nil
}

// keepGate lets the site's own users and its guests in, until ctx ends.
func (p *process) keepGate(ctx context.Context) error {
	var own []access.User
	for name, key := range p.guards.own {
		grant, err := grantOf(p.node.Site.Name, name)
		if err != nil {
			return err
		}
		own = append(own, grant.User(key.Public()))
	}
	return gate.Keep(ctx, p.bus, p.nats, p.node.Site.Name, own, p.log.With("part", "gate"))
}
