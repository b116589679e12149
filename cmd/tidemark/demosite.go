package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// demoSite is one of the demo's sites: a process of this program, its folder, and a
// client of it.
type demoSite struct {
	name, dir  string
	executable string
	child      *child
	client     *client
	nats       string // where it listens, once it has been started
}

// start runs the site and waits until it is ready. Started again, it listens where it
// did before, because its peer knows that address.
func (s *demoSite) start(ctx context.Context) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("site %s: %w", s.name, err)
	}
	listen := s.nats
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	child, err := startChild(s.executable, []string{
		"serve", "--data", s.dir, "--site", s.name, "--node", s.name + "-1",
		"--nats-listen", listen, "--nbd", unixPrefix + s.socket(), "--http", "127.0.0.1:0",
	}, filepath.Join(s.dir, "serve.log"))
	if err != nil {
		return fmt.Errorf("site %s: %w", s.name, err)
	}
	s.child = child
	values, err := child.awaitReady(ctx)
	if err != nil {
		return fmt.Errorf("site %s: %w", s.name, err)
	}
	s.nats = strings.TrimPrefix(values["nats"], "nats://")
	s.client = &client{url: values["nats"]}
	return nil
}

func (s *demoSite) socket() string { return filepath.Join(s.dir, "nbd.sock") }

// kill ends the site's process without warning.
func (s *demoSite) kill() {
	s.disconnect()
	s.child.kill()
}

func (s *demoSite) disconnect() {
	if s.client != nil {
		s.client.close()
		s.client = nil
	}
}

// end stops the site, in whatever state the demo left it.
func (s *demoSite) end() error {
	s.disconnect()
	if s.child == nil {
		return nil
	}
	if err := s.child.stop(); err != nil {
		return fmt.Errorf("site %s did not stop cleanly: %w", s.name, err)
	}
	return nil
}
