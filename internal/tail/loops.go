package tail

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tidemark/events"
)

// syncLoop syncs the log when somebody waits for it, and otherwise a while after the first
// message that is not safe. One sync serves everybody who came before it.
func (t *Tail) syncLoop(ctx context.Context) error {
	var took time.Duration
	for {
		if err := t.awaitSyncDue(ctx, took); err != nil {
			return nil //nolint:nilerr // the end of ctx is how the loop ends
		}
		t.mu.Lock()
		target, seq := t.marks.Logged, t.lastSeq
		t.mu.Unlock()
		began := time.Now()
		err := t.cfg.Log.Sync(ctx)
		took = time.Since(began)
		if err != nil {
			if ctx.Err() != nil {
				return nil //nolint:nilerr // the end of ctx is how it ends
			}
			return fmt.Errorf("sync journal: %w", err)
		}
		if t.cfg.NoteSafe {
			if err := t.cfg.Replica.NoteSafe(target, seq); err != nil {
				return err
			}
		}
		t.becameSafe(target, seq)
	}
}

// syncAge returns how long a message may stay unsafe when nobody flushes, after a sync that
// took so long: followers apply nothing before it is safe, so soon, but not so often that
// syncing takes more than a tenth of the time, or half of it where the disk is slow.
func syncAge(took time.Duration) time.Duration {
	return min(max(syncRest*took, SyncAgeMin), max(SyncAgeMax, took))
}

// syncAge returns how long a message may stay unsafe here when nobody flushes. It is called
// under the lock. What comes gathered has waited for a sync at its source already, and waits
// only as long again as the last sync took, unless there is a backlog to be worked off.
func (t *Tail) syncAge(took time.Duration) time.Duration {
	if t.cfg.Gathered && t.unapplied < backlogBytes {
		return took
	}
	return syncAge(took)
}

// awaitSyncDue returns when a sync is due.
func (t *Tail) awaitSyncDue(ctx context.Context, took time.Duration) error {
	var age <-chan time.Time
	for {
		t.mu.Lock()
		unsafe, wanted, limit := t.safeSeq < t.lastSeq, t.safeSeq < t.wanted, t.syncAge(took)
		t.mu.Unlock()
		if wanted {
			return ctx.Err()
		}
		if unsafe && age == nil {
			timer := time.NewTimer(limit)
			defer timer.Stop()
			age = timer.C
		}
		select {
		case <-age:
			return nil
		case <-t.syncWanted:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (t *Tail) becameSafe(mark events.Mark, seq uint64) {
	t.mu.Lock()
	t.marks.Safe, t.safeSeq = mark, seq
	var ready []waiter
	keep := t.waiters[:0]
	for _, w := range t.waiters {
		if w.seq <= seq {
			ready = append(ready, w)
		} else {
			keep = append(keep, w)
		}
	}
	t.waiters = keep
	signal(t.applyReady)
	t.announce()
	t.mu.Unlock()
	for _, w := range ready {
		w.done(nil)
	}
}

// applyLoop applies what is safe, in order.
func (t *Tail) applyLoop(ctx context.Context) error {
	var messages []events.JournalMessage
	for {
		next, err := t.applicable()
		switch {
		case err != nil:
			return err
		case len(next) == 0:
			select {
			case <-t.applyReady:
				continue
			case <-ctx.Done():
				return nil
			}
		}
		messages = messages[:0]
		for _, it := range next {
			messages = append(messages, it.message)
		}
		if err := t.cfg.Replica.ApplyRun(messages, next[len(next)-1].seq); err != nil {
			return fmt.Errorf("apply: %w", err)
		}
		if t.cfg.OnApplied != nil {
			for _, m := range messages {
				t.cfg.OnApplied(m)
			}
		}
		t.applied(next)
		clear(messages)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the end of ctx is how it ends
		}
	}
}

// applicable returns what is to be applied next, at once: nothing while that is not known
// or not safe.
func (t *Tail) applicable() ([]item, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	enough := stepsBytes
	if t.cfg.Stage && !t.replaying {
		enough = stepsBytesServing
	}
	n, err := nextSteps(t.queue, t.safeSeq, enough)
	return t.queue[:n:n], err
}

// applied takes the items at the head of the queue away.
func (t *Tail) applied(items []item) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(items)
	for _, it := range items {
		t.unapplied -= it.bytes
	}
	t.marks.Applied = items[n-1].message.Ends()
	clear(t.queue[:n])
	t.queue = t.queue[n:]
	signal(t.checkpointDue)
	bound := t.cfg.CheckpointBytes
	if t.replaying {
		bound *= replayTimes
	}
	if t.marks.Applied.Bytes-t.marks.Committed.Bytes >= bound {
		signal(t.hurry)
	}
	t.announce()
}

// Hurry asks for a checkpoint now: the log is full, and trimming it needs one.
func (t *Tail) Hurry() { signal(t.hurry) }

// checkpointLoop takes a checkpoint CheckpointAge after the first message applied since
// the last one (later while it is replayed), or sooner when there is much to save, or when
// nothing follows what there is, and trims the log: then, and
// whenever its clients have moved on. A full log takes no message, so a trim must not
// wait for one.
func (t *Tail) checkpointLoop(ctx context.Context) error {
	clients := time.NewTicker(clientsAge)
	defer clients.Stop()
	for {
		select {
		case <-t.checkpointDue:
		case <-clients.C:
			if t.trimmer.moved() {
				t.trim(ctx, t.Marks().Committed)
			}
			continue
		case <-ctx.Done():
			return nil
		}
		if t.awaitCheckpointDue(ctx) != nil {
			return nil // the end of ctx is how the loop ends
		}
		if err := t.checkpoint(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

// awaitCheckpointDue returns when what was applied just now is to be checkpointed.
func (t *Tail) awaitCheckpointDue(ctx context.Context) error {
	age, idle := time.NewTicker(t.cfg.CheckpointAge), time.NewTicker(idleAge)
	defer age.Stop()
	defer idle.Stop()
	before := t.Marks().Applied
	for {
		select {
		case <-idle.C:
			marks := t.Marks()
			quiet := marks.Applied == before && marks.Applied == marks.Logged
			if quiet && marks.Applied.Bytes-marks.Committed.Bytes >= t.cfg.CheckpointBytes/idlePart && !t.isReplaying() {
				return nil
			}
			before = marks.Applied
		case <-age.C:
			if t.isReplaying() {
				continue
			}
			return nil
		case <-t.hurry:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// checkpoint takes a checkpoint now and trims the log.
func (t *Tail) checkpoint(ctx context.Context) error {
	mark, err := t.cfg.Replica.Checkpoint(ctx)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	t.mu.Lock()
	if t.marks.Committed != mark {
		t.marks.Committed = mark
		t.announce()
	}
	untold := t.told != mark
	t.mu.Unlock()
	if untold {
		if err := t.tell(ctx, mark); err != nil {
			return err
		}
	}
	t.trim(ctx, mark)
	return nil
}

// tell hands a checkpoint's mark to OnCommit. If that fails it is tried again a checkpoint's
// age later, or when the tail ends, also if nothing was applied meanwhile.
func (t *Tail) tell(ctx context.Context, mark events.Mark) error {
	if t.cfg.OnCommit != nil {
		err := t.cfg.OnCommit(ctx, mark)
		if errors.Is(err, ErrFenced) {
			return err
		}
		if err != nil {
			t.cfg.Logger.Warn("commit position not published", "error", err)
			signal(t.checkpointDue)
			return nil
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.told = mark
	return nil
}

func (t *Tail) trim(ctx context.Context, committed events.Mark) {
	t.trimming.Lock()
	defer t.trimming.Unlock()
	if err := t.trimmer.trim(ctx, committed); err != nil && ctx.Err() == nil {
		t.trimmer.needed = 0 // look again
		t.cfg.Logger.Warn("journal not trimmed", "error", err)
	}
}
