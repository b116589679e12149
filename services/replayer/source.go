package replayer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
	"tidemark/internal/holder"
)

// askTime bounds one question to another site.
const askTime = 5 * time.Second

// source is a site whose journal of a directory is followed, and our connections to it.
type source struct {
	peer events.PeerAdded
	// talk carries questions and heads, bulk the journal and objects: what is large must
	// not keep the heads from coming.
	talk, bulk *wire
	directory  events.DirectoryID // at the source
	candidate                     // as it stood when it was chosen
	promoted   atomic.Bool        // it has become primary since then
	// from is where its journal goes on that was followed before; zero if that is not known.
	from  place
	begin holder.SyncBeginReply
	// begun is set if begin was answered while it was asked how the source stands.
	begun   bool
	journal *bus.Log
	rate    *rate // nil: no bound
}

// findSource asks the pool's peers for the directory and connects to its primary.
// While there is none, it connects to another follower: that may hold more of the
// history than this site, above all the demotion of the last primary. Of several primaries
// it connects to one whose history this copy's is of, if there is one; else the copy gives up
// claims for one for which that is enough (errRewound).
func (f *follower) findSource(ctx context.Context, own *ownCopy) (*source, error) {
	src, err := f.look(ctx, own)
	var parted []string // the UUIDs of those that cannot be followed
	var why error
	var claims *claimsError // what can be given up for one of them
	for ; err == nil && (src.primary || why == nil); src, err = f.look(ctx, own, parted...) {
		peer := src.peer.Peer
		if src, err = src.unless(f.join(ctx, own, src)); err == nil {
			return src, nil
		}
		if claims == nil {
			errors.As(err, &claims)
		}
		if _, _, isStuck := stuck(err); !isStuck && claims == nil {
			return nil, err
		}
		if why == nil {
			why = err
		}
		parted = append(parted, peer)
	}
	src.close()
	switch {
	case claims != nil:
		return nil, f.rewind(ctx, own, claims.behind)
	case why != nil:
		return nil, why
	}
	return nil, err
}

// unless returns the source, or closes it because of an error.
func (s *source) unless(err error) (*source, error) {
	if err == nil {
		return s, nil
	}
	s.close()
	return nil, fmt.Errorf("site %s at %s: %w", s.peer.Site, s.peer.URL, err)
}

// look connects to the site that is best followed, but to none of some. The one that was
// followed last is asked to go on at once, if there is a copy that may.
func (f *follower) look(ctx context.Context, own *ownCopy, not ...string) (*source, error) {
	if err := f.mirrored(); err != nil {
		return nil, err
	}
	peers := slices.DeleteFunc(f.service.clients.Peers.Receivable(f.name.Pool), func(p events.PeerAdded) bool {
		return slices.Contains(not, p.Peer)
	})
	if len(peers) == 0 {
		return nil, fault.New(fault.NotReady, "pool %s has no peer to follow", f.name.Pool)
	}
	found, err := f.askAll(ctx, own, peers)
	if found == nil {
		return nil, err
	}
	return found, nil
}

// errSwitchedOff says that an operator turned mirroring of the pool off at this site.
var errSwitchedOff = errors.New("mirroring is off at this site")

// mirrored returns an error while the pool is not mirrored here.
func (f *follower) mirrored() error {
	if f.service.clients.Peers.Enabled(f.name.Pool) {
		return nil
	}
	return fault.New(fault.NotReady, "%w: tidemark mirror enable %s", errSwitchedOff, f.name.Pool)
}

// othersTime is how long the other peers are waited for when one has answered that is no
// primary.
const othersTime = time.Second

// askAll asks all peers at a time, so that one that is out of reach holds up nothing. It
// returns the first primary that answers, else another that has the directory, else why
// there is none.
func (f *follower) askAll(ctx context.Context, own *ownCopy, peers []events.PeerAdded) (found *source, err error) {
	ctx, cancel := context.WithCancel(ctx)
	type answer struct {
		source *source
		err    error
	}
	answers := make(chan answer, len(peers))
	var asking sync.WaitGroup
	for _, peer := range peers {
		asking.Go(func() {
			src, err := f.ask(ctx, own, peer)
			if err != nil {
				err = fmt.Errorf("site %s at %s: %w", peer.Site, peer.URL, err)
			}
			answers <- answer{src, err}
		})
	}
	defer func() {
		cancel()
		asking.Wait()
		close(answers)
		for late := range answers {
			late.source.close()
		}
	}()
	var enough <-chan time.Time
	for range peers {
		select {
		case a := <-answers:
			err = errors.Join(err, a.err)
			if a.source == nil {
				continue
			}
			found, a.source = better(found, a.source)
			a.source.close()
			if found.primary {
				return found, nil
			}
			if enough == nil {
				enough = time.After(othersTime)
			}
		case <-enough:
			return found, nil
		}
	}
	return found, err
}

// better returns which of two sources is to be followed, and the other one.
func better(a, b *source) (follow, leave *source) {
	if a == nil || b.beats(a.candidate) {
		return b, a
	}
	return a, b
}

// ask connects to a peer that has the directory.
func (f *follower) ask(ctx context.Context, own *ownCopy, peer events.PeerAdded) (*source, error) {
	src := &source{peer: peer, rate: f.rate}
	group, inner := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		src.bulk, err = f.dial(inner, ", data", peer)
		if err == nil {
			f.expect(inner, src)
		}
		return err
	})
	group.Go(func() (err error) {
		if src.talk, err = f.dial(inner, "", peer); err != nil {
			return err
		}
		inner, cancel := (&source{talk: src.talk}).during(inner, askTime) // bulk is being dialled
		defer cancel()
		again := make(chan *resumed, 1)
		go func() { again <- f.resume(inner, own, src) }()
		err = src.appraise(inner, f.name)
		if err != nil {
			cancel()
		}
		if r := <-again; err == nil && r != nil && r.directory == src.directory {
			src.begun, src.begin = true, r.begin
		}
		return err
	})
	if err := group.Wait(); err != nil {
		src.close()
		return nil, err
	}
	return src, nil
}

// during returns a context that ends after limit, or when the connection to the source does:
// what was asked over it is not answered then.
func (s *source) during(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := s.while(ctx)
	ctx, stop := context.WithTimeout(ctx, limit)
	return ctx, func() { stop(); cancel() }
}

// while returns a context that ends when the connections to the source do.
func (s *source) while(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	end := cancel
	for _, w := range []*wire{s.talk, s.bulk} {
		if w != nil && w.ended != nil {
			stop, after := context.AfterFunc(w.ended, cancel), end
			end = func() { stop(); after() }
		}
	}
	return ctx, end
}

// askSource asks the source's holder of the directory. An answer that does not come in time
// never will: it is lost when the source ends, and starts again, before it was sent.
func askSource[Reply any](ctx context.Context, s *source, kind string, request any) (Reply, error) {
	ctx, cancel := s.during(ctx, askTime)
	defer cancel()
	return api.Call[Reply](ctx, s.talk.Conn(), api.HolderSubject(s.directory, kind), request)
}

// report tells the source how far its client has come.
func (s *source) report(ctx context.Context, position events.PositionCommitted) error {
	_, err := askSource[api.PositionReportReply](ctx, s, api.PositionReport, api.PositionReportRequest{Position: position})
	return err
}

// close ends the connections; a source that is none has none.
func (s *source) close() {
	if s == nil {
		return
	}
	for _, w := range []*wire{s.talk, s.bulk} {
		if w != nil {
			w.Close()
		}
	}
}

// travelled returns how many bytes have come from the source, and gone to it.
func (s *source) travelled() (bytes uint64) {
	for _, w := range []*wire{s.talk, s.bulk} {
		stats := w.Conn().Stats()
		bytes += stats.InBytes + stats.OutBytes
	}
	return bytes
}
