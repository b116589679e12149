package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tidemark/internal/fault"
	"tidemark/internal/keys"
)

func guardConfig(listen string) serveConfig {
	return serveConfig{
		data: "d", services: allServices(), durability: durabilitySync, journalBytesMax: defaultJournalBytes, natsListen: listen,
	}
}

// TestWhoIsAsked: on loopback nobody unless it was said, beyond it everybody; in clear text only
// by name.
func TestWhoIsAsked(t *testing.T) {
	tls := tlsFlags{listener: "nats", cert: "c", key: "k"}
	for _, c := range []struct {
		name                         string
		listen                       string
		auth, tls, insecure, outside bool
		refused, asked               bool
	}{
		{name: "loopback", listen: "127.0.0.1:4222"},
		{name: "loopback with --auth", listen: "127.0.0.1:4222", auth: true, asked: true},
		{name: "loopback with TLS", listen: "localhost:4222", tls: true},
		{name: "beyond", listen: "0.0.0.0:4222", refused: true},
		{name: "beyond with --auth: what is written would cross the wire in clear text", listen: "10.0.0.1:4222", auth: true, refused: true, asked: true},
		{name: "beyond with TLS", listen: "10.0.0.1:4222", tls: true, asked: true},
		{name: "beyond, insecure", listen: "10.0.0.1:4222", insecure: true},
		{name: "beyond with --auth, insecure", listen: "10.0.0.1:4222", auth: true, insecure: true, asked: true},
		{name: "a server that is not ours", listen: "10.0.0.1:4222", outside: true},
	} {
		cfg := guardConfig(c.listen)
		cfg.guard.auth, cfg.insecure = c.auth, c.insecure
		if c.tls {
			cfg.guard.natsTLS = tls
		}
		if c.outside {
			cfg.natsURL = "nats://elsewhere:4222"
		}
		if err := cfg.checkAddresses(); (err != nil) != c.refused {
			t.Errorf("%s: %v", c.name, err)
		} else if c.refused && (fault.CodeOf(err) != fault.Usage || !strings.Contains(err.Error(), "--nats-tls-cert")) {
			t.Errorf("%s: %v", c.name, err)
		}
		if cfg.authenticated() != c.asked {
			t.Errorf("%s: users are demanded: %v", c.name, !c.asked)
		}
	}
}

func TestHTTPBeyondLoopback(t *testing.T) {
	for what, change := range map[string]func(*guardFlags){
		"nothing": func(*guardFlags) {},
		"TLS":     func(g *guardFlags) { g.httpTLS = tlsFlags{listener: "http", cert: "c", key: "k"} },
		"a token": func(g *guardFlags) { g.httpToken = "f" },
	} {
		cfg := guardConfig(defaultNATSListen)
		cfg.http = "0.0.0.0:8080"
		change(&cfg.guard)
		if err := cfg.checkAddresses(); (err != nil) != (what == "nothing") {
			t.Errorf("with %s: %v", what, err)
		}
	}
}

func TestGuardFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	if token, err := readHTTPToken(write("token", " 0123456789abcdef\n")); err != nil || token != "0123456789abcdef" {
		t.Errorf("%q, %v", token, err)
	}
	for what, file := range map[string]string{
		"short": write("short", "0123"), "two words": write("words", "0123456789abcdef 0123456789abcdef"), "missing": filepath.Join(dir, "missing"),
		"long": write("long", strings.Repeat("0", 2048)),
	} {
		if _, err := readHTTPToken(file); fault.CodeOf(err) != fault.Usage {
			t.Errorf("%s: %v", what, err)
		}
	}
	cfg := guardConfig("127.0.0.1:4222")
	cfg.data, cfg.guard.auth = dir, true
	first, err := openGuards(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	again, err := openGuards(&cfg)
	if err != nil || again.dialer.Public() != first.dialer.Public() || len(again.own) != 7 {
		t.Errorf("the keys are others after a restart: %v", err)
	}
	for name, key := range again.own {
		if key.Public() != first.own[name].Public() {
			t.Errorf("%s has another key after a restart", name)
		}
	}
	cfg.guard.siteKey = filepath.Join(dir, "site.nk")
	if same, err := openGuards(&cfg); err != nil || same.dialer.Public() != first.dialer.Public() {
		t.Errorf("--site-key: %v", err)
	}
	cfg.guard.siteKey = write("bad.nk", "SUnothing")
	if _, err := openGuards(&cfg); fault.CodeOf(err) != fault.Usage || strings.Contains(err.Error(), "SUnothing") {
		t.Errorf("a key file without a key: %v", err)
	}
	cfg.guard.siteKey = filepath.Join(dir, "missing.nk")
	if _, err := openGuards(&cfg); fault.CodeOf(err) != fault.Usage || !strings.Contains(err.Error(), "access key") {
		t.Errorf("a missing key file: %v", err)
	}
}

// TestCredentialFiles: a bare seed and a NATS .creds file are both credentials.
func TestCredentialFiles(t *testing.T) {
	key, err := keys.New()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := key.Seed()
	if err != nil {
		t.Fatal(err)
	}
	const jwt = "-----BEGIN NATS USER JWT-----\neyJ0eXAi.x.y\n------END NATS USER JWT------\n\n"
	for what, c := range map[string]struct {
		text    string
		options int
	}{
		"a bare seed":  {seed + "\n", 2},
		"a .creds":     {jwt + "-----BEGIN USER NKEY SEED-----\n" + seed + "\n------END USER NKEY SEED------\n", 2},
		"nothing":      {"", 0},
		"another text": {"SUnothing", 0},
	} {
		file := filepath.Join(t.TempDir(), "creds")
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		options, err := keys.Credentials(file)
		if len(options) != c.options || (err != nil) != (c.options == 0) {
			t.Errorf("%s: %d options, %v", what, len(options), err)
		}
	}
}
