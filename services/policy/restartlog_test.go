package policy_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
)

// raw returns the messages of the streams that policy and notifier fold, byte for byte.
func (w *world) raw() map[string][][]byte {
	w.t.Helper()
	logs := map[string][][]byte{}
	for _, stream := range []string{events.StreamPools, events.StreamDirectories, events.StreamInstances, events.StreamNotifications} {
		state, err := w.bus.State(context.Background(), stream)
		if err != nil {
			w.t.Fatal(err)
		}
		logs[stream] = [][]byte{}
		err = w.bus.ReadTo(context.Background(), stream, state.First, state.Last, func(m bus.Message) error {
			logs[stream] = append(logs[stream], slices.Clone(m.Data))
			return nil
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
	return logs
}

// grown returns how many messages each stream has got since, and fails if those before
// are others.
func (w *world) grown(before map[string][][]byte) map[string]int {
	w.t.Helper()
	grown := map[string]int{}
	for stream, now := range w.raw() {
		if len(now) < len(before[stream]) || !slices.EqualFunc(now[:len(before[stream])], before[stream], bytes.Equal) {
			w.t.Fatalf("%s is another log", stream)
		}
		if n := len(now) - len(before[stream]); n > 0 {
			grown[stream] = n
		}
	}
	return grown
}

// Policy and notifier keep nothing but the log: started anew, in the midst of an acquire and
// of a release, they add nothing to it but the answers that were outstanding.
// directories 92, 131, 136.
func TestRestartAddsNothingToTheLog(t *testing.T) {
	w := newWorld(t, "east")
	_, stopPolicy := w.startPolicy()
	_, stopNotifier := w.startNotifier()
	h := newFakeHolder()
	w.both("node-1", "inc-1", h)
	call[api.Pool](w, api.PoolCreate, api.Pool{Pool: "vms"})
	for i := range 5 {
		call[api.Directory](w, api.DirectoryCreate, dir("vms", fmt.Sprintf("/d%d", i)))
		w.awaitState(dir("vms", fmt.Sprintf("/d%d", i)), "mapped", events.Master)
	}
	hang := make(chan struct{})
	h.set(
		func(*events.AcquireRequested) error { <-hang; return nil },
		func(*events.ReleaseRequested) (bool, error) { <-hang; return true, nil },
	)
	asked := len(h.log())
	go func() { _, _ = try[api.Directory](w, api.DirectoryCreate, dir("vms", "/slow")) }()
	go func() { _, _ = try[api.Directory](w, api.MirrorDemote, dir("vms", "/d0")) }()
	w.eventually("an acquire and a release hang", func() bool { return len(h.log()) == asked+2 })
	stopPolicy()
	stopNotifier()
	before := w.raw()

	w.startPolicy()
	w.startNotifier()
	// A request from outside is answered by policy, and a new node is heard by the notifier:
	// both have folded everything, and been at work since.
	call[[]api.Directory](w, api.DirectoryList, api.PoolFilter{})
	w.both("node-2", "inc-2", newFakeHolder())
	w.eventually("the new node is in the log", func() bool { return w.grown(before)[events.StreamInstances] == 2 })
	if got := w.grown(before); len(got) != 1 {
		t.Errorf("the log has grown by %v", got)
	}
	if got := h.log(); len(got) != asked+2 {
		t.Errorf("asked again: %q", got[asked+2:])
	}
	close(hang)
	w.awaitState(dir("vms", "/slow"), "mapped", events.Master)
	w.awaitState(dir("vms", "/d0"), "mapped", events.Slave)
	// Two answers; and of the demotion a mapping, an acquire and its answer.
	if got := w.grown(before); got[events.StreamDirectories] != 1 || got[events.StreamNotifications] != 4 || len(got) != 3 {
		t.Errorf("in the end the log has grown by %v", got)
	}
}
