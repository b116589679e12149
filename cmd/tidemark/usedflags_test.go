package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// A flag that nothing in the process would heed is wrong usage: whoever gave it would think that
// it holds.
func TestIgnoredFlagsAreRefused(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("whsec_"+strings.Repeat("QUJD", 8)), 0o600); err != nil {
		t.Fatal(err)
	}
	webhook := " --webhook https://hooks.example.com/ --webhook-secret-file " + secret
	data := filepath.Join(t.TempDir(), "data")
	for _, c := range []struct{ flags, says string }{
		{"--services journal,policy" + webhook, "--webhook would be ignored: webhooks are told by the notifier"},
		{"--webhook-secret-file " + secret, "--webhook-secret-file would be ignored: there is no --webhook"},
		{"--webhook-give-up 1h", "--webhook-give-up would be ignored"},
		{"--services policy,notifier --journal-max-bytes 1GiB", "--journal-max-bytes would be ignored"},
		{"--services replayer --journal-flush-age 1ms", "--journal-flush-age would be ignored"},
		{"--services policy --nbd-tls-cert c --nbd-tls-key k", "--nbd-tls-cert would be ignored"},
		{"--http= --http-token-file " + secret, "--http-token-file would be ignored"},
		{"--http-name east.example --http-token-file " + secret, "--http-name would be ignored"},
		{"--http-name http://east.example", "--http-name \"http://east.example\": give a host's name alone"},
		{"--nats-monitor http://127.0.0.1:8222", "--nats-monitor would be ignored"},
		{"--nats-url nats://127.0.0.1:1 --auth", "--auth would be ignored"},
		{"--nats-url nats://127.0.0.1:1 --nats-tls-cert c --nats-tls-key k", "--nats-tls-cert would be ignored"},
	} {
		code, _, messages := tidemark(t, "", append([]string{"serve", "--data", data, "-o", "json"}, strings.Fields(c.flags)...)...)
		var out struct {
			Error struct{ Code, Message string } `json:"error"`
		}
		if err := json.Unmarshal([]byte(messages), &out); err != nil || code != 2 || out.Error.Code != "usage" || !strings.HasPrefix(out.Error.Message, c.says) {
			t.Errorf("serve %s: %d %s", c.flags, code, messages)
		}
	}
	if _, err := os.Stat(data); err == nil {
		t.Error("a refused command has made its data folder")
	}
}

// Every flag that is said to need something is one of serve's, and with all of it, none is refused.
func TestNeedsNameFlags(t *testing.T) {
	flags := newServe(&cli{}).Flags()
	for _, n := range flagNeeds() {
		for _, name := range n.flags {
			found := false
			flags.VisitAll(func(f *pflag.Flag) { found = found || (flagNeed{flags: []string{name}}).names(f.Name) })
			if !found {
				t.Errorf("serve has no flag --%s", name)
			}
		}
	}
}
