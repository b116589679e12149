package main

import (
	"io"
	"os"

	"github.com/spf13/pflag"

	"tidemark/internal/fault"
	"tidemark/services/notifier/webhook"
)

// webhookFlags are the flags of serve about whom the notifier tells by HTTP.
type webhookFlags struct {
	urls       []string
	secretFile string
	config     webhook.Config
}

func (w *webhookFlags) register(f *pflag.FlagSet) {
	w.config.GiveUp = webhook.DefaultGiveUp
	f.StringArrayVar(&w.urls, "webhook", nil, "`URL` that the notifier POSTs turns in the site's life to, may be repeated")
	f.StringVar(&w.secretFile, "webhook-secret-file", "", "`file` of the secret that signs them: whsec_ and the base64 of 24 to 64 random bytes; several lines while it is replaced")
	f.BoolVar(&w.config.AllowPrivate, "webhook-allow-private", false, "allow webhooks in private networks and on this host, and http")
	f.DurationVar(&w.config.GiveUp, "webhook-give-up", w.config.GiveUp, "how long a delivery is tried before it is a dead letter")
}

// check takes the values of the flags over into the configuration.
func (w *webhookFlags) check() error {
	if len(w.urls) == 0 {
		return nil
	}
	names := map[string]bool{}
	for _, raw := range w.urls {
		e, err := webhook.ParseEndpoint(raw, w.config.AllowPrivate)
		if err != nil {
			return fault.New(fault.Usage, "--webhook: %w", err)
		}
		if names[e.Name] {
			return fault.New(fault.Usage, "--webhook: a URL at %s is given twice", e.Host)
		}
		names[e.Name] = true
		w.config.Endpoints = append(w.config.Endpoints, e)
	}
	if w.config.GiveUp <= 0 {
		return fault.New(fault.Usage, "--webhook-give-up %s: it must be more than zero", w.config.GiveUp)
	}
	if w.secretFile == "" {
		return fault.New(fault.Usage, "--webhook needs --webhook-secret-file: make one with `(printf whsec_; head -c 32 /dev/urandom | base64) > FILE; chmod 600 FILE`")
	}
	return w.readSecrets()
}

// secretFileMax is far above what several secrets take.
const secretFileMax = 4 << 10

func (w *webhookFlags) readSecrets() (err error) {
	f, err := os.Open(w.secretFile)
	if err != nil {
		return fault.New(fault.Usage, "--webhook-secret-file: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return fault.New(fault.Usage, "--webhook-secret-file: %w", err)
	}
	if info.Mode().Perm()&0o007 != 0 {
		return fault.New(fault.Usage, "--webhook-secret-file %s can be read by everybody: chmod 600 it", w.secretFile)
	}
	text, err := io.ReadAll(io.LimitReader(f, secretFileMax))
	if err != nil {
		return fault.New(fault.Usage, "--webhook-secret-file: %w", err)
	}
	if w.config.Secrets, err = webhook.ParseSecrets(text); err != nil {
		return fault.New(fault.Usage, "--webhook-secret-file %s: %w", w.secretFile, err)
	}
	return nil
}
