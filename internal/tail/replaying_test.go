package tail

import (
	"testing"
	"testing/synctest"
	"time"

	"tidemark/events"
)

// A restart that replays takes no checkpoint because of age, and one soon after.
func TestNoCheckpointByAgeWhileReplaying(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tail := &Tail{hurry: make(chan struct{}, 1)}
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
		{true, replayBytes - 1, false},
		{true, replayBytes, true},
	} {
		tail := &Tail{replaying: c.replaying, hurry: make(chan struct{}, 1), checkpointDue: make(chan struct{}, 1)}
		it := item{message: &events.Batch{End: events.Mark{Bytes: c.bytes}}}
		tail.queue = []item{it}
		tail.applied([]item{it})
		if got := len(tail.hurry) == 1; got != c.hurry {
			t.Errorf("replaying %v, %d bytes: hurry is %v", c.replaying, c.bytes, got)
		}
	}
}
