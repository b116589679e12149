package tail

import (
	"cmp"
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
	// SyncAgeMin and SyncAgeMax bound how long a logged message may stay unsafe when nobody
	// flushes, until the sync that makes it safe begins: syncRest times as long as the last
	// sync took.
	SyncAgeMin = 10 * time.Millisecond
	SyncAgeMax = 25 * time.Millisecond
	syncRest   = 9
	// backlogBytes not applied are a backlog: working it off counts, not how soon each
	// message is applied. About 20 ms of it are worked off between two syncs.
	backlogBytes = 4 << 20
	// CheckpointAge is how long an applied message may stay without a checkpoint, and
	// CheckpointBytes how much may, where [Config] does not say otherwise. Together they bound
	// what a restart replays. A checkpoint competes with the log for the disk, and blocks that
	// are written again before it cost nothing: often is not better.
	CheckpointAge   = 5 * time.Second
	CheckpointBytes = 512 << 20
	// A part of CheckpointBytes is worth a checkpoint at once when nothing has followed for
	// idleAge: a backlog is worked off, or a client has paused, and the disk is idle.
	idlePart = 16
	idleAge  = 200 * time.Millisecond
	// replayTimes CheckpointBytes may while a restart replays: nobody is served before it is
	// done, and to write the image back takes longer than to apply.
	replayTimes = 4
	// clientsAge is how often the clients of a quiet log are looked at for trimming.
	clientsAge = time.Second
)

// Config says what a tail connects.
type Config struct {
	Replica *replica.Replica
	Log     *bus.Log
	Logger  *slog.Logger
	// Stage makes logged writes visible to readers at once: for an owner, whose clients
	// must see what was acknowledged. A follower shows only what is applied, and what a
	// restart replays shows only then, too: await [Tail.Drain] before anybody reads.
	Stage bool
	// NoteSafe: the replica notes how far the log is safe, so that a log which ends before
	// that is noticed, whatever was checkpointed. Not for a log that may lose what it
	// calls safe.
	NoteSafe bool
	// Gathered: messages come as often as their source syncs them, so there is no need to
	// wait for more of them before a sync. For a follower.
	Gathered bool
	// CheckpointAge and CheckpointBytes bound what is applied and in no checkpoint; 0: the
	// constants of these names.
	CheckpointAge   time.Duration
	CheckpointBytes uint64
	// OnApplied is called with each message after it was applied, and perhaps others behind
	// it, in order, before its memory may be used again. It may be nil.
	OnApplied func(m events.JournalMessage)
	// OnCommit is called after each checkpoint, before the log is trimmed. [ErrFenced] ends
	// the tail: it applies and trims nothing more. It may be nil.
	OnCommit func(ctx context.Context, committed events.Mark) error
	// TrimBelow returns the greatest position that no consumer needs any more. It may
	// be nil: nothing is trimmed.
	TrimBelow func() events.Position
	// Delay returns how long after it was written a message is applied, zero for at once,
	// and a channel that is closed when that may have changed. It may be nil: never a
	// delay. See held.go.
	Delay func() (delay time.Duration, changed <-chan struct{})
}

// Tail is the way of one directory's messages from the log to the replica.
type Tail struct {
	cfg Config
	// trimming is held from the moment that a trim asks what may go until that is gone.
	trimming sync.Mutex
	trimmer  trimmer
	// unstaged is the run that the log ends in, which readers do not see yet. Only
	// Logged uses it.
	unstaged []*events.Batch

	mu    sync.Mutex
	queue []item // logged and not yet applied, in log order
	marks Marks
	// lastSeq and safeSeq are the log sequences of marks.Logged and marks.Safe.
	lastSeq, safeSeq uint64
	// unapplied is the bytes in queue; reserved those that Room has promised.
	unapplied, reserved int
	// line is those who wait for room, the first of whom is served next: else a large
	// request would never find any while small ones come.
	line      []*roomWaiter
	replaying bool
	// replayed is closed when Replay has ended; what may have been applied before the
	// replica was opened lies at or before the sequence replayTo.
	replayed chan struct{}
	replayTo uint64
	holding  holding
	told     events.Mark // the last committed mark that OnCommit took
	// wanted is the sequence that somebody waits to be safe.
	wanted  uint64
	waiters []waiter
	failure error

	// Each is signalled, never blocking, when the state it is named for changed.
	syncWanted, applyReady, checkpointDue, hurry, heldMore chan struct{}
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

// New returns a tail that stands at the replica's last checkpoint.
func New(cfg Config) *Tail {
	cfg.CheckpointAge = cmp.Or(cfg.CheckpointAge, CheckpointAge)
	cfg.CheckpointBytes = cmp.Or(cfg.CheckpointBytes, CheckpointBytes)
	committed, seq := cfg.Replica.Committed()
	t := &Tail{
		cfg:           cfg,
		marks:         Marks{committed, committed, committed, committed},
		told:          committed,
		lastSeq:       seq,
		safeSeq:       seq,
		syncWanted:    make(chan struct{}, 1),
		applyReady:    make(chan struct{}, 1),
		checkpointDue: make(chan struct{}, 1),
		hurry:         make(chan struct{}, 1),
		heldMore:      make(chan struct{}, 1),
		replayed:      make(chan struct{}),
	}
	if noted, ok := cfg.Replica.NotedDue(); ok && cfg.Delay != nil {
		t.holding = holding{on: true, next: seq + 1, due: noted}
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
	t.told = committed
	t.lastSeq, t.safeSeq, t.wanted = seq, seq, seq
	t.holding.next, t.holding.due = seq+1, seq
	t.announce()
}

// Run syncs, applies and checkpoints until ctx ends or a step fails, and returns ctx's cause
// or what failed, as everybody does who waits. When ctx ends what is applied is checkpointed
// once more.
func (t *Tail) Run(ctx context.Context) error {
	if t.cfg.Delay == nil { // then nothing is noted before it is applied
		if err := t.cfg.Replica.ForgetDue(); err != nil {
			t.fail(err)
			return err
		}
	}
	group, inner := errgroup.WithContext(ctx)
	if t.cfg.Delay != nil {
		group.Go(func() error { return t.holdLoop(inner) })
	}
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
// it is applied; while messages are held back it keeps none of it. It is called by one at
// a time.
func (t *Tail) Logged(m events.JournalMessage, seq uint64, bytes int) {
	if t.cfg.Stage {
		t.stage(m)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.holding.on {
		signal(t.heldMore)
	} else {
		t.queue = append(t.queue, item{m, seq, bytes})
		t.unapplied += bytes
	}
	if t.safeSeq == t.lastSeq { // else its time is running already
		signal(t.syncWanted)
	}
	// Nobody waits for this mark: waking them for each message would be in vain.
	t.marks.Logged, t.lastSeq = m.Ends(), seq
}

// stage makes a message visible to readers; one that belongs to a run that spans messages
// not before the run is complete. One that breaks off is never seen. What a restart replays
// is seen when it is applied: nobody reads before that.
func (t *Tail) stage(m events.JournalMessage) {
	batch, ok := m.(*events.Batch)
	if n := len(t.unstaged); n > 0 && !continues(t.unstaged[n-1], m) {
		t.unstaged = nil
	}
	switch {
	case !ok:
		return
	case batch.Open():
		t.unstaged = append(t.unstaged, batch)
		return
	}
	run := append(t.unstaged, batch)
	t.unstaged = nil
	if t.isReplaying() {
		return
	}
	for _, part := range run {
		t.cfg.Replica.Stage(part)
	}
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
