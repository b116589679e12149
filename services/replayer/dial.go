package replayer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/access"
	"tidemark/internal/bus"
	"tidemark/internal/peers"
)

const (
	// dialTime bounds one try to connect: a slow link needs several round trips.
	dialTime = 5 * time.Second
	// dialGap is the longest time after which another try begins beside those that are
	// under way. A packet that is lost because the link is down is sent again later and
	// later; a try that begins when the link is back loses none.
	dialGap = 500 * time.Millisecond
	// pingAge is how often a connection is asked whether it is there. Long before that,
	// heads that do not come say so.
	pingAge = 30 * time.Second
	// remotePullBytes is how much of a journal is asked for at a time over a link: the
	// server drops who does not take within ten seconds what it was sent.
	remotePullBytes = 4 << 20
)

// wire is a connection to another site's NATS that is never mended: when it ends, or
// nothing comes any more, the site is dialled anew.
type wire struct {
	*bus.Bus
	heard *atomic.Int64   // when bytes came last, in nanoseconds since 1970
	ended context.Context //nolint:containedctx // what waits for an answer ends with it
}

// dial connects to a peer, as this site. The first try that succeeds is the one.
func (f *follower) dial(ctx context.Context, what string, peer events.PeerAdded) (*wire, error) {
	s := f.service
	options, err := s.deps.Dialer.Options(peer)
	if err != nil {
		return nil, err
	}
	name := access.ConnectionFor("tidemark replayer of "+s.deps.Node.Site.Name+what, f.name.String())
	return dial(ctx, name, peer.URL, peer.Auth, s.deps.Log, options...)
}

// dial connects to an address. The first try that succeeds is the one.
func dial(ctx context.Context, name, url string, guest bool, log *slog.Logger, options ...nats.Option) (*wire, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	tries := &tries{ctx: ctx, name: name, url: url, guest: guest, log: log, options: options, won: make(chan *wire), failed: make(chan error)}
	defer tries.running.Wait()
	defer cancel()
	tries.begin()
	underway := 1
	next := time.NewTimer(jittered(dialGap))
	defer next.Stop()
	for {
		select {
		case won := <-tries.won:
			return won, nil
		case err := <-tries.failed:
			if underway--; underway == 0 { // it was refused: the caller waits
				return nil, fmt.Errorf("connect to %s: %w", url, peers.Refused(err, "the key of this site"))
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("connect to %s: %w", url, ctx.Err())
		case <-next.C:
			tries.begin()
			underway++
			next.Reset(jittered(dialGap))
		}
	}
}

// jittered returns a duration between half of d and d, so that many who wait for the same
// link do not all come at once.
func jittered(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// tries are several tries to connect that are under way.
type tries struct {
	ctx       context.Context //nolint:containedctx // of one call of dial
	name, url string
	guest     bool // the server lets only users in
	log       *slog.Logger
	options   []nats.Option
	won       chan *wire
	failed    chan error
	running   sync.WaitGroup
}

func (t *tries) begin() {
	t.running.Go(func() {
		w, err := connect(t.ctx, t.name, t.url, t.guest, t.log, t.options)
		if err != nil {
			select {
			case t.failed <- err:
			case <-t.ctx.Done():
			}
			return
		}
		select {
		case t.won <- w:
		case <-t.ctx.Done():
			w.Close()
		}
	})
}

// connect tries once.
func connect(ctx context.Context, name, url string, guest bool, log *slog.Logger, options []nats.Option) (*wire, error) {
	ended, end := context.WithCancel(context.Background())
	d := &dialer{ctx: ctx, heard: new(atomic.Int64)}
	b, err := bus.Connect(bus.Config{
		Name: name, URL: url, Log: log, PullBytes: remotePullBytes, Guest: guest,
		Options: append([]nats.Option{
			nats.NoReconnect(), nats.Timeout(dialTime), nats.SetCustomDialer(d),
			nats.PingInterval(pingAge), // an answer may have to wait behind much else
			nats.ClosedHandler(func(*nats.Conn) { end() }),
		}, options...),
	})
	if err == nil && !d.keep() {
		b.Close()
		err = context.Cause(ctx)
	}
	if err != nil {
		end()
		return nil, err
	}
	return &wire{b, d.heard, ended}, nil
}

// dialer makes connections that end with ctx until they are kept.
type dialer struct {
	ctx   context.Context //nolint:containedctx // nats.go has none to give
	heard *atomic.Int64
	stop  []func() bool
}

// Dial implements [nats.CustomDialer].
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(d.ctx, network, address)
	if err != nil {
		return nil, err
	}
	d.stop = append(d.stop, context.AfterFunc(d.ctx, func() { _ = conn.Close() }))
	d.heard.Store(time.Now().UnixNano())
	return heardConn{conn, d.heard}, nil
}

// keep lets connections outlive ctx; false says that it has ended them already.
func (d *dialer) keep() bool {
	kept := true
	for _, stop := range d.stop {
		kept = stop() && kept
	}
	return kept
}

// heardConn notes when bytes come.
type heardConn struct {
	net.Conn
	heard *atomic.Int64
}

// Read implements [net.Conn].
func (c heardConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.heard.Store(time.Now().UnixNano())
	}
	return n, err
}

// silent returns for how long nothing has come.
func (w *wire) silent(now time.Time) time.Duration {
	return now.Sub(time.Unix(0, w.heard.Load()))
}

// errLost says that the connection to a source is gone.
var errLost = errors.New("the link to the source is lost")
