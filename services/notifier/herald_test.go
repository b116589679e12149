package notifier_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"tidemark/events"
	"tidemark/internal/sitetest"
)

// derived returns the notes that name a cause, in short and sorted: streams are read side
// by side.
func (f *fixture) derived() []string {
	var all []string
	for _, fact := range f.facts(events.StreamLifecycle) {
		if turn, ok := fact.(*events.LifecycleNoted); ok && turn.Cause != nil {
			all = append(all, fmt.Sprintf("%s %s%s", turn.What, turn.Path, turn.With))
		}
	}
	slices.Sort(all)
	return all
}

func (f *fixture) awaitDerived(want ...string) {
	f.t.Helper()
	slices.Sort(want)
	var got []string
	sitetest.Eventually(f.t, "derived "+strings.Join(want, ", "), func() bool {
		got = f.derived()
		return len(got) >= len(want)
	})
	if !slices.Equal(got, want) {
		f.t.Errorf("derived %q, want %q", got, want)
	}
}

func created(i int) events.Fact {
	return &events.DirectoryCreated{Directory: events.DirectoryID(fmt.Sprintf("%016x", i)), Pool: "vms", Path: fmt.Sprintf("/%d", i)}
}

// TestHerald: what happened while no notifier ran is noted by the next one, and nothing
// is noted twice: not after a restart, not if the herald died before it kept what it had
// noted, not when LIFECYCLE has dropped its notes, and not if two of them run.
func TestHerald(t *testing.T) {
	f := newFixture(t)
	f.publish(events.StreamDirectories, created(1), created(2))
	// As one left it that died behind its first note.
	f.publish(events.StreamLifecycle, &events.LifecycleNoted{
		Directory: "0000000000000001", Pool: "vms", Path: "/1", What: events.Created,
		Cause: &events.Cause{Stream: events.StreamDirectories, Sequence: 1},
	})
	_, stop := f.start()
	f.awaitDerived("created /1", "created /2")
	f.publish(events.StreamInstances, &events.InstanceAdded{Node: "m", Service: "journal", Incarnation: "i"})
	f.awaitDerived("created /1", "created /2", "instance_joined journal")
	stop()

	f.start()
	f.start()
	want := []string{"created /1", "created /2", "instance_joined journal"}
	var more []events.Fact
	for i := 3; i < 40; i++ {
		more = append(more, created(i))
		want = append(want, fmt.Sprintf("created /%d", i))
	}
	f.publish(events.StreamDirectories, more...)
	// The silence of m is noticed by both.
	f.awaitDerived(append(want, "instance_lost journal")...)
}

// TestHeraldOfDroppedNotes: LIFECYCLE drops its oldest notes, and with them who noted
// what; that must not make old turns news again.
func TestHeraldOfDroppedNotes(t *testing.T) {
	f := newFixture(t)
	_, stop := f.start()
	f.publish(events.StreamDirectories, created(1), created(2))
	f.awaitDerived("created /1", "created /2")
	stop()
	log, err := f.bus.ExistingLog(context.Background(), events.StreamLifecycle)
	if err != nil {
		t.Fatal(err)
	}
	state, err := log.State(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Trim(context.Background(), state.Last+1); err != nil {
		t.Fatal(err)
	}
	f.start()
	f.publish(events.StreamDirectories, created(3))
	f.awaitDerived("created /1", "created /2", "created /3")
}
