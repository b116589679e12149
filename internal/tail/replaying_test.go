package tail

import (
	"testing"
	"testing/synctest"
	"time"

	"tidemark/events"
)

// bounded is a configuration with the usual bounds of checkpoints.
var bounded = Config{CheckpointAge: CheckpointAge, CheckpointBytes: CheckpointBytes}

// What nothing follows is checkpointed at once, if it is much.
func TestIdleCheckpoint(t *testing.T) {
	const much = CheckpointBytes / idlePart
	for _, c := range []struct {
		name            string
		applied, logged uint64 // bytes
		sooner          bool
	}{
		{"much and nothing behind it", much, much, true},
		{"little", much - 1, much - 1, false},
		{"more to come", much, much + 1, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			tail := &Tail{cfg: bounded, hurry: make(chan struct{}, 1)}
			tail.marks.Applied.Bytes, tail.marks.Logged.Bytes = c.applied, c.logged
			began := time.Now()
			if err := tail.awaitCheckpointDue(t.Context()); err != nil {
				t.Fatal(err)
			}
			if sooner := time.Since(began) < CheckpointAge; sooner != c.sooner {
				t.Errorf("%s: a checkpoint after %v", c.name, time.Since(began))
			}
		})
	}
}

// A restart that replays takes no checkpoint because of age, and one soon after.
func TestNoCheckpointByAgeWhileReplaying(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tail := &Tail{cfg: bounded, hurry: make(chan struct{}, 1)}
		tail.setReplaying(true)
		due := make(chan error, 1)
		go func() { due <- tail.awaitCheckpointDue(t.Context()) }()
		time.Sleep(10 * CheckpointAge)
		synctest.Wait()
		select {
		case err := <-due:
			t.Fatalf("while replaying: %v", err)
		default:
		}
		tail.setReplaying(false)
		replayed := time.Now()
		if err := <-due; err != nil || time.Since(replayed) > CheckpointAge {
			t.Errorf("%v after %v", err, time.Since(replayed))
		}
	})
}

// How much may be applied without a checkpoint is bounded while a restart replays, too.
func TestCheckpointBounds(t *testing.T) {
	for _, c := range []struct {
		replaying bool
		bytes     uint64
		hurry     bool
	}{
		{false, CheckpointBytes - 1, false},
		{false, CheckpointBytes, true},
		{true, CheckpointBytes, false},
		{true, replayTimes*CheckpointBytes - 1, false},
		{true, replayTimes * CheckpointBytes, true},
	} {
		tail := &Tail{cfg: bounded, replaying: c.replaying, hurry: make(chan struct{}, 1), checkpointDue: make(chan struct{}, 1)}
		it := item{message: &events.Batch{End: events.Mark{Bytes: c.bytes}}}
		tail.queue = []item{it}
		tail.applied([]item{it})
		if got := len(tail.hurry) == 1; got != c.hurry {
			t.Errorf("replaying %v, %d bytes: hurry is %v", c.replaying, c.bytes, got)
		}
	}
}

// What a restart replays is read once it is applied, and all of it when the restart has
// drained; what is logged behind it is read at once, as ever.
func TestReplayStagesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.history(0)
	if err := r.replayed(); err != nil {
		t.Fatal(err)
	}
	r.append(r.batch(0, written(3, 100)), 2)
	r.open(func(cfg *Config) { cfg.Stage = true })
	r.syncer.gate.Lock()
	r.run()
	if err := r.tail.Replay(r.ctx()); err != nil {
		t.Fatal(err)
	}
	if got := r.reads(3); got != 0 {
		t.Errorf("what is replayed and not applied reads as %d", got)
	}
	r.put(r.batch(0, written(4, 100)))
	if got := r.reads(4); got != 4 {
		t.Errorf("what is logged behind it reads as %d", got)
	}
	r.syncer.gate.Unlock()
	r.drain()
	if got := r.reads(3); got != 3 {
		t.Errorf("what was replayed reads as %d", got)
	}
}
