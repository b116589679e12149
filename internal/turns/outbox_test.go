package turns_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/sitetest"
	"tidemark/internal/turns"
)

func turn(what events.Lifecycle, at int, with string) events.LifecycleNoted {
	return events.LifecycleNoted{
		Directory: "00000000000000aa", Pool: "vms", Path: "/db", Node: "n", What: what, With: with, At: events.Instant(at),
	}
}

// stored returns what LIFECYCLE holds, in short.
func stored(t *testing.T, s *sitetest.Site) []string {
	t.Helper()
	state, err := s.Bus.State(t.Context(), events.StreamLifecycle)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	err = s.Bus.ReadTo(t.Context(), events.StreamLifecycle, state.First, state.Last, func(m bus.Message) error {
		fact, err := events.Unmarshal(m.Data)
		if f, ok := fact.(*events.LifecycleNoted); ok {
			all = append(all, string(f.What)+f.With)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func note(o *turns.Outbox, all ...events.LifecycleNoted) {
	for _, n := range all {
		o.Note(n)
	}
}

// TestOutbox: a turn that lasts is noted once as it begins and once as it ends, whoever
// finds it so again; others each time.
func TestOutbox(t *testing.T) {
	s := sitetest.Start(t, "east")
	o := turns.NewOutbox(s.Bus, s.Log)
	note(o, turn(events.Opened, 1, ""), turn(events.Stalled, 2, ""), turn(events.Stalled, 3, ""))
	stop := o.Start(t.Context())
	note(o, turn(events.Opened, 4, ""), turn(events.Opened, 4, ""), turn(events.Lagging, 5, "west.a"), turn(events.Lagging, 6, "west.b"))
	stop()

	next := turns.NewOutbox(s.Bus, s.Log) // after a restart
	stop = next.Start(t.Context())
	if lasts, err := turns.Lasts(t.Context(), s.Bus, turn(events.Stalled, 0, "")); !lasts || err != nil {
		t.Errorf("stalled: %v, %v", lasts, err)
	}
	note(next, turn(events.Stalled, 7, ""), turn(events.Resumed, 8, ""), turn(events.Resumed, 9, ""), turn(events.CaughtUp, 10, "west.b"))
	select {
	case <-next.Note(turn(events.Stalled, 11, "")):
	case <-t.Context().Done():
	}
	stop()
	want := []string{
		"opened", "stalled", "opened", "laggingwest.a", "laggingwest.b", "resumed", "caught_upwest.b", "stalled",
	}
	if got := stored(t, s); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for with, want := range map[string]bool{"west.a": true, "west.b": false, "west.c": false} {
		if lasts, err := turns.Lasts(t.Context(), s.Bus, turn(events.Lagging, 0, with)); lasts != want || err != nil {
			t.Errorf("%s lags: %v, %v", with, lasts, err)
		}
	}
	if _, err := turns.Lasts(t.Context(), s.Bus, turn(events.Opened, 0, "")); err == nil {
		t.Error("an opening lasts")
	}
}

// A directory that nobody can open for a week must not push everything else out of the
// stream: the same failure is noted again after an hour, or after an opening.
func TestAFailureThatStaysIsNotedSeldom(t *testing.T) {
	s := sitetest.Start(t, "east")
	failed := func(minute int, node, why string) events.LifecycleNoted {
		f := turn(events.Failed, 0, "")
		f.At, f.Node, f.Detail = events.InstantOf(time.Unix(0, 0).Add(time.Duration(minute)*time.Minute)), node, why
		return f
	}
	for _, c := range []struct {
		turn events.LifecycleNoted
		kept bool
	}{
		{failed(1, "n", "disk full"), true},
		{failed(2, "n", "disk full"), false},
		{failed(3, "n", "no copy"), true},
		{failed(4, "m", "no copy"), true},
		{failed(5, "m", "no copy"), false},
		{failed(64, "m", "no copy"), true},
		{turn(events.Opened, 65, ""), true},
		{failed(66, "m", "no copy"), true},
	} {
		before := len(stored(t, s))
		o := turns.NewOutbox(s.Bus, s.Log) // whichever process says it
		stop := o.Start(t.Context())
		note(o, c.turn)
		stop()
		if kept := len(stored(t, s)) > before; kept != c.kept {
			t.Errorf("%s at %s of %s, %s: kept %v", c.turn.What, c.turn.At.Time(), c.turn.Node, c.turn.Detail, kept)
		}
	}
}

// TestOutboxOutlastsTheLog: what cannot be stored now is stored later, in order, and holds
// up nobody; a process that ends does not wait for ever.
func TestOutboxOutlastsTheLog(t *testing.T) {
	s := sitetest.Start(t, "east")
	if err := s.Bus.RemoveLog(t.Context(), events.StreamLifecycle); err != nil {
		t.Fatal(err)
	}
	o := turns.NewOutbox(s.Bus, s.Log)
	stop := o.Start(context.Background())
	o.Note(turn(events.Opened, 1, ""))
	done := o.Note(turn(events.Failed, 2, ""))
	select {
	case <-done:
		t.Fatal("stored in no stream")
	case <-time.After(300 * time.Millisecond): // it has tried
	}
	if err := s.Bus.EnsureStreams(t.Context(), events.SiteStreams()); err != nil {
		t.Fatal(err)
	}
	<-done
	if got := stored(t, s); !slices.Equal(got, []string{"opened", "failed"}) {
		t.Errorf("%q", got)
	}
	if err := s.Bus.RemoveLog(t.Context(), events.StreamLifecycle); err != nil {
		t.Fatal(err)
	}
	done = o.Note(turn(events.Closed, 3, ""))
	began := time.Now()
	stop()
	<-done
	sitetest.Prompt(t, "an end", began, 10*time.Second)
}
