package nbd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
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
	// TLS has the server's certificate, and the authority of its clients' where they
	// need one; nil: there is no TLS. Clients on other than unix sockets then get
	// nothing without it; those on unix sockets may ask for it.
	TLS *tls.Config
}

// Server serves exports to NBD clients.
type Server struct {
	exports  Exports
	log      *slog.Logger
	limits   Limits
	tls      *tls.Config // nil: none
	metrics  *metrics
	buffers  buffers
	requests sync.Pool

	door   door
	budget *semaphore.Weighted // of bytes in flight
}

// New returns a server that listens nowhere yet.
func New(c Config) *Server {
	l := c.Limits.withDefaults()
	return &Server{
		exports: c.Exports,
		log:     c.Log,
		limits:  l,
		tls:     c.TLS,
		metrics: newMetrics(c.Registerer),
		door:    door{places: l.Connections, handshakes: l.Handshakes},
		budget:  semaphore.NewWeighted(int64(l.BytesTotal)),
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
		bounded, cancel := context.WithTimeout(ctx, s.limits.HandshakeTime)
		v := &visitor{conn: conn, cancel: cancel}
		if !s.admit(v) {
			v.cutOff()
			continue
		}
		sessions.Go(func() { s.connection(ctx, bounded, v) })
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

// admit gives a connection its place, if need be that of another which is before the
// end of its handshake. It never blocks.
func (s *Server) admit(v *visitor) bool {
	evicted, ok := s.door.admit(v)
	if !ok {
		s.metrics.refused.Inc()
		s.log.Warn("refused an NBD connection: too many are open", keyClient, v.conn.RemoteAddr().String())
		return false
	}
	if evicted != nil {
		s.metrics.evicted.Inc()
		s.log.Debug("closed an NBD connection in handshake to make room for another", keyClient, evicted.conn.RemoteAddr().String())
		evicted.cutOff()
	}
	return true
}

// connection serves one connection from greeting to close. bounded is ctx up to the end
// of the handshake.
func (s *Server) connection(ctx, bounded context.Context, v *visitor) {
	conn := v.conn
	s.metrics.connections.Inc()
	defer func() {
		v.cutOff()
		s.door.leave(v)
		s.metrics.connections.Dec()
	}()
	log := s.log.With(keyClient, conn.RemoteAddr().String())
	if tcp, ok := conn.(*net.TCPConn); ok {
		// Replies are gathered here; the kernel is not to wait for more. (Go's default,
		// but the latency of every client hangs on it.)
		_ = tcp.SetNoDelay(true)
	}
	g, err := s.handshake(ctx, bounded, v)
	switch {
	case errors.Is(err, errAborted), errors.Is(err, errEvicted), errors.Is(err, io.EOF):
		return
	case err != nil:
		log.Info("an NBD handshake failed", keyError, err)
		return
	}
	log = log.With(keyExport, g.info.Name)
	log.Debug("an NBD session began")
	newSession(s, g).run(ctx, log)
	bid(g.conn)
}

// handshake negotiates until bounded ends. Whoever it lets through is not evicted any
// more.
func (s *Server) handshake(ctx, bounded context.Context, v *visitor) (*agreed, error) {
	g, err := s.negotiate(ctx, bounded, v)
	if !s.door.greeted(v) {
		return nil, errEvicted
	}
	return g, err
}

// negotiate is handshake but for what happens at the door.
func (s *Server) negotiate(ctx, bounded context.Context, v *visitor) (*agreed, error) {
	conn := v.conn
	deadline, _ := bounded.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	h := &handshake{server: s, conn: conn, greeted: func() bool { return s.door.greeted(v) }}
	g, err := h.run(bounded)
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
		r.session, r.buf, r.reply, r.weight, r.memory, r.counted, r.working = nil, nil, nil, 0, 0, false, false
		s.requests.Put(r)
	}
}
