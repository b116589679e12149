package nbd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Keys of log attributes.
const (
	keyClient = "client"
	keyExport = "export"
	keyError  = "error"
)

// Config is what a server needs.
type Config struct {
	Exports    Exports
	Log        *slog.Logger
	Limits     Limits
	Registerer prometheus.Registerer // takes one server; may be nil: then nobody sees the metrics
}

// Server serves exports to NBD clients.
type Server struct {
	exports  Exports
	log      *slog.Logger
	limits   Limits
	metrics  *metrics
	buffers  buffers
	requests sync.Pool

	places     chan struct{} // one for each open connection
	handshakes chan struct{} // one for each that is before the end of its handshake
}

// New returns a server that listens nowhere yet.
func New(c Config) *Server {
	l := c.Limits.withDefaults()
	return &Server{
		exports:    c.Exports,
		log:        c.Log,
		limits:     l,
		metrics:    newMetrics(c.Registerer),
		places:     make(chan struct{}, l.Connections),
		handshakes: make(chan struct{}, l.Handshakes),
	}
}

// Serve accepts connections until ctx ends or the listener fails, and returns when
// every session that it started has ended; it closes the listener. It may be called
// for several listeners at a time. When ctx ends, clients get ESHUTDOWN for new
// requests, what is in flight is finished (see [Limits]), and Serve returns nil.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	var sessions sync.WaitGroup
	defer sessions.Wait()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer func() {
		if stop() {
			_ = l.Close()
		}
	}()
	var pause time.Duration
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept NBD connections: %w", err)
		case err != nil:
			// Out of file descriptors, most likely: others will end and give theirs back.
			s.log.Warn("accepting an NBD connection failed", keyError, err)
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			if !wait(ctx, pause) {
				return nil
			}
			continue
		}
		pause = 0
		if !s.admit(ctx, conn) {
			_ = conn.Close()
			continue
		}
		sessions.Go(func() { s.connection(ctx, conn) })
	}
}

// wait waits for d; it reports false if ctx ends first.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// admit takes a connection's place, and waits for one among the handshakes: they are
// short, and a burst of good clients is not to be turned away.
func (s *Server) admit(ctx context.Context, conn net.Conn) bool {
	select {
	case s.places <- struct{}{}:
	default:
		s.metrics.refused.Inc()
		s.log.Warn("refused an NBD connection: too many are open", keyClient, conn.RemoteAddr().String())
		return false
	}
	select {
	case s.handshakes <- struct{}{}:
		return true
	case <-ctx.Done():
		<-s.places
		return false
	}
}

// connection serves one connection from greeting to close.
func (s *Server) connection(ctx context.Context, conn net.Conn) {
	s.metrics.connections.Inc()
	defer func() {
		_ = conn.Close()
		<-s.places
		s.metrics.connections.Dec()
	}()
	log := s.log.With(keyClient, conn.RemoteAddr().String())
	if tcp, ok := conn.(*net.TCPConn); ok {
		// Replies are gathered here; the kernel is not to wait for more. (Go's default,
		// but the latency of every client hangs on it.)
		_ = tcp.SetNoDelay(true)
	}
	g, err := s.handshake(ctx, conn)
	switch {
	case errors.Is(err, errAborted), errors.Is(err, io.EOF):
		return
	case err != nil:
		log.Info("an NBD handshake failed", keyError, err)
		return
	}
	log = log.With(keyExport, g.info.Name)
	log.Debug("an NBD session began")
	newSession(s, g).run(ctx, log)
}

// handshake negotiates within HandshakeTime and gives the place among the handshakes
// back.
func (s *Server) handshake(ctx context.Context, conn net.Conn) (*agreed, error) {
	defer func() { <-s.handshakes }()
	deadline := time.Now().Add(s.limits.HandshakeTime)
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	bounded, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	g, err := (&handshake{server: s, conn: conn}).run(bounded)
	if err != nil {
		return nil, err
	}
	stop()
	// If ctx has ended, the session sees it and ends in good order.
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, errors.Join(err, g.dev.Close(bounded))
	}
	return g, nil
}

// request returns a fresh request of a session.
func (s *Server) request(t *session) *request {
	r, ok := s.requests.Get().(*request)
	if !ok {
		r = new(request)
		r.done = r.complete
	}
	r.session, r.started = t, time.Now()
	return r
}

// recycle takes requests back whose replies are written.
func (s *Server) recycle(rs []*request) {
	for _, r := range rs {
		s.buffers.put(r.buf)
		r.session, r.buf, r.reply, r.weight, r.working = nil, nil, nil, 0, false
		s.requests.Put(r)
	}
}
