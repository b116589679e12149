package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"tidemark/internal/fault"
)

// healthBytesMax is more than a line for each part of a process.
const healthBytesMax = 64 << 10

// partHealth is what a process says of one of its parts.
type partHealth struct {
	Part  string `json:"part"`
	State string `json:"state"` // "ok", or what is wrong
}

// newHealth asks one process over HTTP: what a container without a shell, or a
// supervisor, runs to see whether it serves.
func newHealth(c *cli) *cobra.Command {
	var address string
	var live bool
	cmd := &cobra.Command{
		Use: "health", Short: "Ask a process whether it serves", Args: takes(0, 0),
		Long: `Asks the process whose serve was given --http ADDR whether it is ready: /readyz, or
with --live /healthz. Exit code 0: it is. 5: it is not, and which part is not. 6: nobody
answers.`,
	}
	cmd.RunE = c.action(func(ctx context.Context, _ []string) error {
		if _, err := splitAddress(address); err != nil {
			return fault.New(fault.Usage, "--http %q: write it like %s", address, defaultHTTP)
		}
		path := "/readyz"
		if live {
			path = "/healthz"
		}
		ctx, cancel := context.WithTimeout(ctx, c.timeout)
		defer cancel()
		parts, err := askHealth(ctx, "http://"+address+path)
		if err != nil {
			return err
		}
		if err := c.show(parts, func(t *table) {
			for _, p := range parts {
				t.row(p.Part, p.State)
			}
		}); err != nil {
			return err
		}
		return unwell(parts)
	})
	cmd.Flags().StringVar(&address, "http", defaultHTTP, "the `address` that serve was given with --http")
	cmd.Flags().BoolVar(&live, "live", false, "ask only whether it works, not whether it is ready")
	return cmd
}

// askHealth reads one line for each part of the process. A process that is not well
// answers too.
func askHealth(ctx context.Context, url string) ([]partHealth, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fault.New(fault.Usage, "%w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, unreachable(url, err)
	}
	defer func() { _ = resp.Body.Close() }() // only read
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusServiceUnavailable {
		return nil, fault.New(fault.NotReady, "%s answers %s: is it the address of a tidemark process?", url, resp.Status)
	}
	body, err := readLimited(resp.Body, healthBytesMax)
	if err != nil {
		return nil, unreachable(url, err)
	}
	var parts []partHealth
	for line := range strings.Lines(string(body)) {
		part, state, _ := strings.Cut(strings.TrimSpace(line), ": ")
		parts = append(parts, partHealth{part, state})
	}
	if resp.StatusCode != http.StatusOK && unwell(parts) == nil {
		return nil, fault.New(fault.NotReady, "%s answers %s", url, resp.Status)
	}
	return parts, nil
}

func unreachable(url string, err error) error {
	var refused *net.OpError
	if errors.As(err, &refused) && refused.Op == "dial" {
		return fault.New(fault.Timeout, "nobody answers at %s: does `tidemark serve` run with --http there?", url)
	}
	return fault.New(fault.Timeout, "ask %s: %w", url, err)
}

// unwell says which parts are not well, or returns nil.
func unwell(parts []partHealth) error {
	var wrong []string
	for _, p := range parts {
		if p.State != "ok" {
			wrong = append(wrong, p.Part+": "+p.State)
		}
	}
	if len(wrong) > 0 {
		return fault.New(fault.NotReady, "not ready: %s", strings.Join(wrong, "; "))
	}
	return nil
}
