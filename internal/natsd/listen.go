package natsd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"tidemark/internal/keys"
)

const (
	// addressTime is how long a start waits for an address that is taken, which may be so
	// for a moment only. A process that is just ending holds it, and so does a child that is
	// being started: it has a copy of the last server's listener until it has become another
	// program.
	addressTime = 5 * time.Second
	addressPoll = 20 * time.Millisecond
	// listenTries: the address may be taken between the look at it and the server's own.
	listenTries = 3
)

// listen starts a server that takes connections.
func listen(ctx context.Context, cfg Config, own *keys.Key, door *door) (*server.Server, error) {
	for try := 1; ; try++ {
		opts, err := options(cfg, own)
		if err != nil {
			return nil, err
		}
		if err := awaitAddress(ctx, cfg.Listen); err != nil {
			return nil, err
		}
		if cfg.Auth {
			opts.CustomClientAuthentication = door
		}
		srv, err := server.NewServer(opts)
		if err != nil {
			return nil, fmt.Errorf("set up NATS server: %w", err)
		}
		door.open(srv)
		srv.SetLoggerV2(serverLog{cfg.Log}, false, false, false)
		srv.Start() // has tried to listen when it returns
		if srv.Addr() != nil {
			return srv, nil
		}
		srv.Shutdown()
		srv.WaitForShutdown()
		if try == listenTries {
			return nil, fmt.Errorf("NATS server on %s with store %s did not start: its log says why", cfg.Listen, cfg.Dir)
		}
	}
}

// awaitAddress waits, but not for ever, until nobody listens on an address.
func awaitAddress(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, addressTime)
	defer cancel()
	for {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err == nil {
			return l.Close()
		}
		err = fmt.Errorf("listen for NATS clients: %w", err)
		if !errors.Is(err, syscall.EADDRINUSE) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(addressPoll):
		}
	}
}
