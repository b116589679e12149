package tail

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/replica"
)

// Bounds of a tail; see [Config].
const (
	// UnappliedBytesMax bounds the memory of logged messages that are not applied yet.
	UnappliedBytesMax = 64 << 20
	// SyncAge is how long a logged message may stay unsafe when nobody flushes.
	SyncAge = 50 * time.Millisecond
	// CheckpointAge is how long an applied message may stay without a checkpoint, and
	// CheckpointBytes how much may. Together they bound what a restart replays. A
	// checkpoint competes with the log for the disk, and blocks that are written again
	// before it cost nothing: often is not better.
	CheckpointAge   = 5 * time.Second
	CheckpointBytes = 512 << 20
	// clientsAge is how often the clients of a quiet log are looked at for trimming.
	clientsAge = time.Second
)

// Config says what a tail connects.
type Config struct {
	Replica *replica.Replica
	Log     *bus.Log
	Logger  *slog.Logger
	// Stage makes logged writes visible to readers at once: for an owner, whose clients
	// must see what was acknowledged. A follower shows only what is applied.
	Stage bool
	// OnApplied is called after a message was applied, in order, before its memory may
	// be used again. It may be nil.
	OnApplied func(m events.JournalMessage)
	// OnCommit is called after each checkpoint. It may be nil.
	OnCommit func(ctx context.Context, committed events.Mark) error
	// TrimBelow returns the greatest position that no consumer needs any more. It may
	// be nil: nothing is trimmed.
	TrimBelow func() events.Position
}

// Tail is the way of one directory's messages from the log to the replica.
type Tail struct {
	cfg Config
	// trimming is held from the moment that a trim asks what may go until that is gone.
	trimming sync.Mutex
	trimmer  trimmer

	mu    sync.Mutex
	queue []item // logged and not yet applied, in log order
	marks Marks
	// lastSeq and safeSeq are the log sequences of marks.Logged and marks.Safe.
	lastSeq, safeSeq uint64
	// unapplied is the bytes in queue; reserved those that Room has promised. crowded is
	// set when somebody found no room.
	unapplied, reserved int
	crowded             bool
	// wanted is the sequence that somebody waits to be safe.
	wanted  uint64
	waiters []waiter
	failure error

	// Each is signalled, never blocking, when the state it is named for changed.
	syncWanted, applyReady, checkpointDue, hurry chan struct{}
	// changed is closed when room or marks change; nil while nobody waits for that.
	changed chan struct{}
}

// Marks are the stations of a directory's messages, each at or behind the one before.
type Marks struct {
	Logged, Safe, Applied, Committed events.Mark
}

type item struct {
	message events.JournalMessage
	seq     uint64
	bytes   int
}

// waiter is told when a sequence is safe.
type waiter struct {
	seq  uint64
	done func(error)
}

// New returns a tail that stands at the replica's last checkpoint. seq is the log's
// sequence there.
func New(cfg Config) *Tail {
	committed, seq := cfg.Replica.Committed()
	t := &Tail{
		cfg:           cfg,
		marks:         Marks{committed, committed, committed, committed},
		lastSeq:       seq,
		safeSeq:       seq,
		syncWanted:    make(chan struct{}, 1),
		applyReady:    make(chan struct{}, 1),
		checkpointDue: make(chan struct{}, 1),
		hurry:         make(chan struct{}, 1),
	}
	t.trimmer = trimmer{log: cfg.Log, below: cfg.TrimBelow}
	return t
}

// Rebase makes the tail stand at the replica's checkpoint again, after a first sync has
// begun there. Nothing may be queued.
func (t *Tail) Rebase() {
	committed, seq := t.cfg.Replica.Committed()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.marks = Marks{committed, committed, committed, committed}
	t.lastSeq, t.safeSeq, t.wanted = seq, seq, seq
	t.announce()
}

// Run syncs, applies and checkpoints until ctx ends or a step fails. When ctx ends what
// is applied is checkpointed once more.
func (t *Tail) Run(ctx context.Context) error {
	group, inner := errgroup.WithContext(ctx)
	group.Go(func() error { return t.syncLoop(inner) })
	group.Go(func() error { return t.applyLoop(inner) })
	group.Go(func() error { return t.checkpointLoop(inner) })
	err := group.Wait()
	if ctx.Err() != nil && err == nil {
		err = t.checkpoint(context.WithoutCancel(ctx))
	}
	if err == nil {
		err = context.Cause(ctx)
	}
	t.fail(err)
	return err
}

// Logged hands over a message that the log has acknowledged under a sequence: the one
// after [Tail.LastSequence]. bytes is the memory that it holds, which the tail owns until
// it is applied.
func (t *Tail) Logged(m events.JournalMessage, seq uint64, bytes int) {
	if batch, ok := m.(*events.Batch); ok && t.cfg.Stage {
		t.cfg.Replica.Stage(batch)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.queue = append(t.queue, item{m, seq, bytes})
	t.unapplied += bytes
	if t.safeSeq == t.lastSeq { // else its time is running already
		signal(t.syncWanted)
	}
	// Nobody waits for this mark: waking them for each message would be in vain.
	t.marks.Logged, t.lastSeq = m.Ends(), seq
}

// LastSequence returns the log's sequence of the last message handed over.
func (t *Tail) LastSequence() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lastSeq
}

// Marks returns how far each station has come.
func (t *Tail) Marks() Marks {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.marks
}

// Changed returns a channel that is closed when a mark other than Logged moves or the
// tail fails.
func (t *Tail) Changed() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.change()
}

// change returns what announce closes next. It is called under the lock.
func (t *Tail) change() <-chan struct{} {
	if t.changed == nil {
		t.changed = make(chan struct{})
	}
	return t.changed
}

// WhenSafe calls done once everything logged so far is safe, or the tail has failed.
func (t *Tail) WhenSafe(done func(error)) {
	t.mu.Lock()
	if t.safeSeq >= t.lastSeq { // whatever has become of the tail
		t.mu.Unlock()
		done(nil)
		return
	}
	if t.failure == nil {
		t.waiters = append(t.waiters, waiter{t.lastSeq, done})
		t.wanted = t.lastSeq
		signal(t.syncWanted)
		t.mu.Unlock()
		return
	}
	err := t.failure
	t.mu.Unlock()
	done(err)
}

// Sync returns when everything logged so far is safe.
func (t *Tail) Sync(ctx context.Context) error {
	done := make(chan error, 1)
	t.WhenSafe(func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Drain returns when everything logged so far is safe and applied.
func (t *Tail) Drain(ctx context.Context) error {
	target := t.Marks().Logged
	if err := t.Sync(ctx); err != nil {
		return err
	}
	return t.wait(ctx, func() bool { return t.marks.Applied.Position >= target.Position || len(t.queue) == 0 })
}

// wait returns when ok, which is called under the lock, is true.
func (t *Tail) wait(ctx context.Context, ok func() bool) error {
	for {
		t.mu.Lock()
		satisfied, failure, changed := t.failure == nil && ok(), t.failure, t.change()
		t.mu.Unlock()
		switch {
		case failure != nil:
			return failure
		case satisfied:
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// announce wakes all who wait for a change. It is called under the lock.
func (t *Tail) announce() {
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
}

// fail ends the tail: every waiter, present and future, gets the error.
func (t *Tail) fail(err error) {
	if err == nil {
		err = context.Canceled
	}
	t.mu.Lock()
	if t.failure == nil {
		t.failure = err
	}
	err = t.failure
	waiters := t.waiters
	t.waiters = nil
	t.announce()
	t.mu.Unlock()
	for _, w := range waiters {
		w.done(err)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
