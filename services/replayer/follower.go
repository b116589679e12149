package replayer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/holder"
	"tidemark/internal/replica"
	"tidemark/internal/tail"
)

// Back-off between tries to follow, doubling from the first to the last: replay is to go on
// soon after a link is back. reopenLast is the last between tries to open this node's own
// copy; retryStuck is how often a directory asks again that only an operator can help.
const (
	retryFirst = 250 * time.Millisecond
	retryLast  = 750 * time.Millisecond
	reopenLast = 5 * time.Second
	retryStuck = 10 * time.Second
)

// follower is one directory that this node was told to follow.
type follower struct {
	service *Service
	id      events.DirectoryID // at this site
	name    events.DirectoryName
	asked   request // the newest resync that is in force
	log     *slog.Logger
	tenure  *holder.Tenure
	cancel  context.CancelFunc
	// disconnected is set once the owner's journal waits for this copy no more.
	disconnected atomic.Bool
	keepAll      atomic.Bool   // keep what was received before letting go
	rate         *rate         // of what is taken from sources
	verifying    atomic.Bool   // a comparison is under way
	opened       chan struct{} // closed when the node's own copy was opened
	ended        chan struct{} // closed when run has returned
	closeErr     error         // why the copy was not closed in order; known once ended

	mu      sync.Mutex // over what is between here and the next empty line
	own     *ownCopy   // nil while it is not open
	state   State
	err     error
	source  *source    // nil while there is none
	last    *source    // the one that was followed last
	left    tail.Marks // how far the copy had come when it was closed
	head    *events.HeadAdvanced
	level   time.Time // when this copy was last seen to be level with its source
	began   time.Time
	headAt  time.Time // when the primary was heard last, perhaps by an earlier process; or when the following began
	raised  alarms
	headOf  string     // whose site's head it is
	split   *api.Split // how this copy's history and its source's have parted; nil: they have not
	splitAt time.Time  // when that was seen last
	noted   State      // the state of which listeners were told last that only an operator can help
	// splitFrom is the site that listeners were told last of a split brain with; recalled is set
	// once it was looked what an earlier process told them.
	splitFrom string
	recalled  bool
	progress  *meter               // of what is being copied, nil while nothing is
	reading   bool                 // the source's journal is read, after what had to be copied
	unread    *events.HeadAdvanced // the newest head of the source that is followed now
	verified  *verified            // nil: never since this process started
	tally     tally

	// hold names what held the source's layers together when they were copied last; zero:
	// nothing is known of it. Only follow uses it.
	hold uint64

	// kept is what was kept last of a source's journal; only following uses it.
	kept place
	// taking is set while a message was received and is being taken in.
	taking atomic.Bool

	// aheadSince is since when the source's heads name a tag whose claim has not come;
	// only hear uses it.
	aheadSince time.Time
	missed     atomic.Bool // such a claim did not come in time
}

func newFollower(s *Service, r *events.AcquireRequested) *follower {
	name := events.DirectoryName{Pool: r.Pool, Path: r.Path}
	return &follower{
		service: s,
		id:      r.Directory,
		name:    name,
		asked:   request{r.Resync, r.KeepRefused, r.Elsewhere},
		log:     s.deps.Log.With("directory", name.String()),
		tenure:  s.shared.Tenure(r.Assignment),
		opened:  make(chan struct{}),
		ended:   make(chan struct{}),
		state:   Stopped,
		rate:    newRate(0),
		headAt:  time.Now(),
		began:   time.Now(),
	}
}

// run follows until ctx ends. A copy that fails is opened again from its last
// checkpoint; one that never opened ends the follower, and policy asks again.
func (f *follower) run(ctx context.Context) {
	defer close(f.ended)
	stop, err := f.answerStatus(ctx)
	if err != nil {
		f.enter(Errored, err)
		return
	}
	defer stop()
	var keeping sync.WaitGroup
	defer keeping.Wait()
	keepCtx, end := context.WithCancel(ctx)
	defer end()
	keeping.Go(func() { f.keepRate(keepCtx) })
	keeping.Go(func() { f.watch(keepCtx) })
	keeping.Go(func() { f.measure(keepCtx) })
	wait := retryFirst
	for ctx.Err() == nil {
		err := f.live(ctx)
		f.mu.Lock()
		if f.own != nil {
			f.left = f.own.tail.Marks()
		}
		f.own, f.source = nil, nil
		f.mu.Unlock()
		if ctx.Err() != nil {
			f.closed(err)
			break
		}
		if errors.Is(err, errRewound) || errors.Is(err, errReplaced) {
			f.enter(Stopped, nil)
			continue
		}
		if f.outdated(err) {
			f.log.Warn("this node's copy is no longer, or not yet, one of the site's journal; a new one is prepared", "reason", err)
			if f.resyncBroken(ctx, err) || ctx.Err() != nil {
				f.enter(Stopped, nil)
				continue
			}
		}
		err = f.remedied(err)
		f.enter(Errored, err)
		if f.tenure.Over() {
			f.fenced(ctx, err)
			break
		}
		if errors.Is(err, errStartOver) || errors.Is(err, replica.ErrAstray) {
			f.log.Warn("the first sync starts over", "error", err)
			if err := replica.Destroy(f.service.deps.FS, f.folder()); err == nil {
				f.enter(Stopped, nil)
				continue
			}
		}
		f.log.Error("this node's copy failed", "error", err)
		f.failed(err)
		f.note(events.Failed, err.Error())
		if errors.Is(err, tail.ErrLostTail) || errors.Is(err, bus.ErrRolledBack) {
			f.note(events.LostTail, err.Error())
		}
		if f.resyncBroken(ctx, err) {
			f.enter(Stopped, nil)
			continue
		}
		if !f.everOpened() || ctx.Err() != nil {
			break
		}
		pause(ctx, wait)
		wait = min(2*wait, reopenLast)
		f.enter(Stopped, err)
	}
	f.enter(Stopped, nil)
}

// fenced says that another node may have the directory now: nothing is followed, applied or
// said here any more. It is shown until the agent lets go of it, or it is acquired anew.
func (f *follower) fenced(ctx context.Context, err error) {
	f.enter(Errored, err)
	f.log.Error("fenced", "error", err)
	f.note(events.Fenced, err.Error())
	if f.everOpened() {
		<-ctx.Done()
	}
}

// closed notes that the copy could not be let go of in order. What its journal holds is
// replayed when it is opened again.
func (f *follower) closed(err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	f.closeErr = err
	f.log.Error("this node's copy was not closed in order", "error", err)
}

// live opens this node's copy, follows with it, and closes it.
func (f *follower) live(ctx context.Context) (err error) {
	own, err := f.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, own.conflicts.Close(), own.replica.Close()) }()
	return withTail(ctx, own.tail, func(ctx context.Context) error {
		if err := own.tail.Replay(ctx); err != nil {
			return err
		}
		return f.serve(ctx, own)
	})
}

// serve answers for the copy and follows with it until ctx ends; what was received is
// safe when it returns.
func (f *follower) serve(ctx context.Context, own *ownCopy) error {
	stop, err := api.Serve(ctx, f.service.deps.Bus.Conn(), f.log, f.handlers(own)...)
	if err != nil {
		return err
	}
	defer stop()
	// What was prepared beside the copy stays only if it is still wanted.
	if !f.resyncDue(own.replica) {
		if err := replica.Drop(f.service.deps.FS, f.folder()); err != nil {
			return err
		}
	}
	f.became(own)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, inner := errgroup.WithContext(ctx)
	group.Go(func() error { return own.tail.Heads(inner, func(m tail.Marks) { f.sendHead(own, m) }) })
	group.Go(func() error { return own.compaction.Run(inner) })
	group.Go(func() error { return own.replay(inner) })
	ended := f.followAll(inner, own)
	close(own.ended)
	cancel()
	return errors.Join(ended, group.Wait(), f.finish(context.WithoutCancel(ctx), own))
}

// sendHead tells this copy's own followers how far it reaches. What its journal holds is safe
// at its origin, also what the copy holds back: a delay is of this site alone. What is known of
// the origin is passed on.
func (f *follower) sendHead(own *ownCopy, marks tail.Marks) {
	now := time.Now()
	err := f.service.deps.Bus.Send(&events.HeadAdvanced{
		Directory: f.id, Logged: marks.Logged, Safe: marks.Safe, At: events.InstantOf(now),
		Origin: f.origin(own, now),
	})
	if err != nil {
		f.log.Debug("head not sent", "error", err)
	}
}

// folder is where this node's copy is.
func (f *follower) folder() string { return f.service.deps.Node.ReplicaDir(f.id) }

// followAll follows the directory's source, whichever site that is, until ctx ends. It
// returns an error only if the copy is of no use as it is open: errStartOver, errRewound,
// errReplaced.
func (f *follower) followAll(ctx context.Context, own *ownCopy) error {
	if f.resyncDue(own.replica) {
		resync := f.resyncHealthy
		if own.unsynced() {
			resync = f.resyncEmpty
		}
		if err := resync(ctx, own); err != nil || ctx.Err() != nil {
			return err
		}
	}
	if f.remainsDisconnected(own) {
		f.disconnect(ctx, own, errDisconnected)
		return nil
	}
	wait := retryFirst
	for ctx.Err() == nil {
		started := time.Now()
		err := f.follow(ctx, own)
		f.setSource(nil)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the end of ctx is how it ends
		}
		if errors.Is(err, errStartOver) || errors.Is(err, errRewound) || f.tenure.Over() {
			return err
		}
		if f.resyncDue(own.replica) && f.useless(err) {
			return fmt.Errorf("a resync was asked for: %w: %w", err, errStartOver)
		}
		if errors.Is(err, errDisconnected) {
			f.disconnect(ctx, own, err)
			return nil
		}
		if time.Since(started) > retryLast {
			wait = retryFirst
		}
		if !errors.Is(err, errLookAgain) {
			pause(ctx, jittered(f.classify(ctx, err, wait)))
			wait = min(2*wait, retryLast)
		}
		f.enter(Stopped, err)
	}
	return nil
}

// finish makes what was kept safe.
func (f *follower) finish(ctx context.Context, own *ownCopy) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if f.keepAll.Load() {
		if err := f.keepReceived(ctx, own); err != nil {
			return err
		}
	}
	return own.tail.Sync(ctx)
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
