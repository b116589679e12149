package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
	"tidemark/internal/keys"
)

const (
	// retryWait is how long a request that may be sent again waits.
	retryWait = 100 * time.Millisecond
	// settleTime is how long a request about a directory waits for a node that is just
	// taking it over.
	settleTime = 5 * time.Second
	// untilDeadline is as long as --timeout allows.
	untilDeadline = 24 * time.Hour
	// askersMax bounds the directories that are asked at a time.
	askersMax = 32
)

// client talks to one site. It connects when it is first asked for something, so that
// a wrong name is told before anything else.
type client struct {
	url, creds, ca string
	bus            *bus.Bus
	// fromLog is set once policy did not answer and what it knows was read from the log.
	fromLog bool
}

func (c *cli) client() *client { return &client{url: c.natsURL, creds: c.creds, ca: c.natsCA} }

func (s *client) close() {
	if s.bus != nil {
		s.bus.Close()
	}
}

func (s *client) connect() (*bus.Bus, error) {
	if s.bus != nil {
		return s.bus, nil
	}
	if err := checkURL(s.url); err != nil {
		return nil, err
	}
	b, err := bus.Connect(bus.Config{
		Name: "tidemark command", URL: s.url, Creds: s.creds, CA: s.ca, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, connectError(s.url, err)
	}
	s.bus = b
	return b, nil
}

// checkURL refuses what can never be the address of a NATS server.
func checkURL(list string) error {
	for one := range strings.SplitSeq(list, ",") {
		u, err := url.Parse(strings.TrimSpace(one))
		if err != nil || u.Host == "" {
			return fault.New(fault.Usage, "NATS URL %q: write it like %s", redact(one), defaultNATS)
		}
		switch u.Scheme {
		case "nats", "tls", "ws", "wss":
		default:
			return fault.New(fault.Usage, "NATS URL %q: write it like %s", redact(one), defaultNATS)
		}
	}
	return nil
}

// redact removes the password from a URL that is to be shown.
func redact(rawURL string) string {
	if u, err := url.Parse(rawURL); err == nil {
		return u.Redacted()
	}
	return "(unreadable)"
}

func connectError(address string, err error) error {
	var file *keys.FileError
	var untrusted *tls.CertificateVerificationError
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrNkeysNotSupported):
		return fault.New(fault.Denied, "NATS at %s refuses the credentials: give others with --creds", redact(address))
	case errors.As(err, &untrusted):
		return fault.New(fault.Denied, "NATS at %s shows a certificate that is not trusted (%w): name who signed it with --nats-ca", redact(address), err)
	case errors.As(err, &file):
		return fault.New(fault.Usage, "%w", err)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return fault.New(fault.Usage, "credentials file: %w", err)
	}
	return fault.New(fault.Timeout, "no NATS server answers at %s: is `tidemark serve` running there, or does --nats-url name another?", redact(address))
}

// nobodyError says that no service took a request: it may be sent again.
type nobodyError struct{ error }

// Unwrap returns the error with its code.
func (e nobodyError) Unwrap() error { return e.error }

func isNobody(err error) bool { return errors.As(err, new(nobodyError)) }

// call sends a request to the policy service.
func call[Reply any](ctx context.Context, s *client, subject string, request any) (Reply, error) {
	var none Reply
	b, err := s.connect()
	if err != nil {
		return none, err
	}
	reply, err := api.CallTaken[Reply](ctx, b.Conn(), subject, request)
	if err != nil {
		return none, s.policyError(ctx, subject, err)
	}
	return reply, nil
}

// policyError says what an unanswered request to the policy service means.
func (s *client) policyError(ctx context.Context, request string, err error) error {
	switch {
	case api.Nobody(err):
		return nobodyError{fault.New(fault.Timeout, "nobody answers %s at %s: is `tidemark serve` with the policy service running there?", request, redact(s.url))}
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return unansweredError(request, err)
	}
	return err
}

// unansweredError says of a request whose time ran out whether it may have been carried out.
func unansweredError(request string, err error) error {
	if errors.Is(err, api.ErrTaken) {
		return fault.New(fault.Timeout, "no answer to %s in time: %w", request, api.ErrTaken)
	}
	return fault.New(fault.Timeout, "no answer to %s in time", request)
}

// hold sends a request about a directory to the service that holds it, again if that ends
// before it takes it.
func hold[Reply any](ctx context.Context, s *client, d api.Directory, request string, body any) (Reply, error) {
	var none Reply
	b, err := s.connect()
	if err != nil {
		return none, err
	}
	reply, err := api.CallTaken[Reply](ctx, b.Conn(), api.HolderSubject(d.ID, request), body)
	return reply, heldError(ctx, d, request, err)
}

// heldError says what an unanswered request about a directory means.
func heldError(ctx context.Context, d api.Directory, request string, err error) error {
	switch {
	case api.Nobody(err) && d.Error != "":
		return nobodyError{fault.New(fault.Timeout, "nobody holds directory %s: %s", d.Name, d.Error)}
	case api.Nobody(err):
		return nobodyError{fault.New(fault.Timeout, "nobody holds directory %s: is the journal or replayer service of a node running?", d.Name)}
	case err != nil && (errors.Is(ctx.Err(), context.DeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)):
		return fmt.Errorf("directory %s: %w", d.Name, unansweredError(request, err))
	}
	return err
}

// holdLong is holdSettled for a request that may take hours: silence is how long its
// holder may say nothing.
func holdLong[Reply any](ctx context.Context, s *client, d api.Directory, silence time.Duration, request string, body any, tell func(api.Progress)) (Reply, error) {
	return settled(ctx, settleTime, func() (Reply, error) {
		var none Reply
		b, err := s.connect()
		if err != nil {
			return none, err
		}
		reply, err := api.CallLong[Reply](ctx, b.Conn(), api.HolderSubject(d.ID, request), body, silence, tell)
		return reply, heldError(ctx, d, request, err)
	})
}

// holdSettled is hold for a directory that may just be on its way to a node: while
// nobody answers, or the node is not ready, it asks again for at most wait.
func holdSettled[Reply any](ctx context.Context, s *client, d api.Directory, wait time.Duration, request string, body any) (Reply, error) {
	return settled(ctx, wait, func() (Reply, error) { return hold[Reply](ctx, s, d, request, body) })
}

// settled asks until there is an answer that waiting would not change, for at most wait.
func settled[Reply any](ctx context.Context, wait time.Duration, ask func() (Reply, error)) (Reply, error) {
	deadline := time.Now().Add(wait)
	var before error
	for {
		reply, err := ask()
		if ctx.Err() != nil && before != nil && err != nil {
			return reply, before // the time ran out while it was asked once more
		}
		settling := isNobody(err) || fault.CodeOf(err) == fault.NotReady
		if !settling || time.Now().After(deadline) {
			return reply, err
		}
		if pause(ctx, retryWait) != nil {
			return reply, err
		}
		before = err
	}
}

// holder resolves a directory's name and sends a request to whoever holds it.
func holder[Reply any](ctx context.Context, s *client, name events.DirectoryName, request string, body any) (Reply, error) {
	d, err := call[api.Directory](ctx, s, api.DirectoryResolve, name)
	if err != nil {
		var none Reply
		return none, err
	}
	return holdSettled[Reply](ctx, s, d, settleTime, request, body)
}

// answer is what the holder of a directory said.
type answer[Reply any] struct {
	directory api.Directory
	reply     Reply
	err       error
}

// askHolders sends a request without a body to the holders of several directories at
// once. The answers stand in the order of the directories.
func askHolders[Reply any](ctx context.Context, s *client, dirs []api.Directory, request string) []answer[Reply] {
	answers := make([]answer[Reply], len(dirs))
	b, err := s.connect()
	if err != nil || len(dirs) == 0 {
		return answers[:0]
	}
	slots := make(chan struct{}, askersMax)
	var asking sync.WaitGroup
	for i, d := range dirs {
		slots <- struct{}{}
		asking.Go(func() {
			defer func() { <-slots }()
			reply, err := api.Call[Reply](ctx, b.Conn(), api.HolderSubject(d.ID, request), api.Nothing{})
			answers[i] = answer[Reply]{d, reply, heldError(ctx, d, request, err)}
		})
	}
	asking.Wait()
	return answers
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// parsePool reads a pool's name.
func parsePool(s string) (api.Pool, error) {
	if err := events.CheckName(s); err != nil {
		return api.Pool{}, fault.New(fault.Usage, "pool: %w", err)
	}
	return api.Pool{Pool: s}, nil
}

// parseDirectory reads POOL/DIR.
func parseDirectory(s string) (events.DirectoryName, error) {
	name, err := events.ParseDirectory(s)
	if err != nil {
		return name, fault.New(fault.Usage, "%w", err)
	}
	return name, nil
}

// parseImage reads POOL/DIR/IMAGE without a snapshot.
func parseImage(s string) (events.ImageName, error) {
	name, err := events.ParseImage(s)
	switch {
	case err != nil:
		return name, fault.New(fault.Usage, "%w", err)
	case name.Snapshot != "":
		return name, fault.New(fault.Usage, "%q names a snapshot, not an image", s)
	}
	return name, nil
}

// parseFilter reads [POOL[/DIR]]: the pool to ask for, and which of its directories are meant.
func parseFilter(args []string) (api.PoolFilter, func(api.Directory) bool, error) {
	if len(args) == 0 {
		return api.PoolFilter{}, func(api.Directory) bool { return true }, nil
	}
	name, err := parseDirectory(args[0])
	if err != nil {
		return api.PoolFilter{}, nil, err
	}
	if !strings.Contains(args[0], "/") {
		return api.PoolFilter{Pool: name.Pool}, func(api.Directory) bool { return true }, nil
	}
	return api.PoolFilter{Pool: name.Pool}, func(d api.Directory) bool { return d.Path == name.Path }, nil
}

// directories lists what [POOL[/DIR]] selects; one that is named must be there.
func (s *client) directories(ctx context.Context, args []string) ([]api.Directory, error) {
	filter, wanted, err := parseFilter(args)
	if err != nil {
		return nil, err
	}
	all, err := s.listDirectories(ctx, filter)
	if err != nil {
		return nil, err
	}
	var some []api.Directory
	for _, d := range all {
		if wanted(d) {
			some = append(some, d)
		}
	}
	if len(some) == 0 && len(args) > 0 && strings.Contains(args[0], "/") {
		return nil, fault.New(fault.NotFound, "directory %s does not exist", args[0])
	}
	return some, nil
}
