package tail

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/events"
	"tidemark/internal/sitetest"
)

func TestPositions(t *testing.T) {
	t.Parallel()
	site := sitetest.Start(t, "east")
	p := NewPositions()
	if p.Needed("d", "east.n", everybody) != 0 {
		t.Error("something may be trimmed before it is known who needs it")
	}
	sitetest.Run(t, func(ctx context.Context) error {
		if err := p.Follow(ctx, site.Bus); !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	})
	<-p.Known()
	if p.Needed("d", "east.n", everybody) != Everything || len(p.Clients("d")) != 0 {
		t.Error("something is needed without clients")
	}
	commit := func(id events.DirectoryID, client string, state events.ClientState, entry uint32) {
		t.Helper()
		_, err := site.Bus.Publish(t.Context(), events.StreamPositions, &events.PositionCommitted{
			Directory: id, Client: client, State: state, Mark: events.Mark{Position: events.At(1, entry)},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	needed := func(want events.Position) {
		t.Helper()
		sitetest.Eventually(t, "needed from "+want.String(), func() bool { return p.Needed("d", "east.n", everybody) == want })
	}
	commit("d", "east.n", events.ClientConnected, 1) // the owner does not count
	commit("e", "west.n", events.ClientConnected, 2) // nor does another directory's client
	commit("d", "west.n", events.ClientConnected, 30)
	needed(events.At(1, 30))
	commit("d", "south.n", events.ClientSyncing, 20)
	needed(events.At(1, 20))
	commit("d", "south.n", events.ClientDisconnected, 20)
	needed(events.At(1, 30))
	commit("d", "west.n", events.ClientConnected, 40)
	needed(events.At(1, 40))
	commit("d", "west.n", events.ClientDisconnected, 40)
	needed(Everything)
	got := map[string]events.Position{}
	for _, c := range p.Clients("d") {
		got[c.Client] = c.Mark.Position
	}
	want := map[string]events.Position{"east.n": events.At(1, 1), "west.n": events.At(1, 40), "south.n": events.At(1, 20)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func everybody(events.PositionCommitted) bool { return true }

// said is a fold to which a client has said these things, one after the other.
func said(facts ...events.PositionCommitted) *Positions {
	p := NewPositions()
	close(p.known)
	for i, f := range facts {
		f.Directory = "d"
		p.Note(uint64(i)+1, f)
	}
	return p
}

func word(client string, state events.ClientState, entry uint32) events.PositionCommitted {
	return events.PositionCommitted{Client: client, State: state, Mark: events.Mark{Position: events.At(1, entry)}}
}

func letIn(client string, entry uint32) events.PositionCommitted {
	f := word(client, events.ClientConnected, entry)
	f.Registered = true
	return f
}

// TestClientStates says what a client's words and its owner's make of it.
func TestClientStates(t *testing.T) {
	const connected, out, removed = events.ClientConnected, events.ClientDisconnected, events.ClientRemoved
	for _, c := range []struct {
		name      string
		words     []events.PositionCommitted
		state     events.ClientState // empty: it is not listed
		needed    events.Position
		overruled bool
	}{
		{"journal 12: registered", []events.PositionCommitted{letIn("w", 3)}, connected, events.At(1, 3), false},
		{"it has committed", []events.PositionCommitted{letIn("w", 3), word("w", connected, 9)}, connected, events.At(1, 9), false},
		{"journal 13: registered again, further back", []events.PositionCommitted{letIn("w", 9), letIn("w", 3)}, connected, events.At(1, 3), false},
		{"journal 15: disconnected", []events.PositionCommitted{letIn("w", 3), word("w", out, 3)}, out, Everything, false},
		{"disconnected, and goes on regardless", []events.PositionCommitted{letIn("w", 3), word("w", out, 3), word("w", connected, 4)}, out, Everything, true},
		{"and says that it syncs", []events.PositionCommitted{word("w", out, 3), word("w", events.ClientSyncing, 4)}, out, Everything, true},
		{"the stream says it again", []events.PositionCommitted{word("w", out, 3), word("w", connected, 4), word("w", out, 4)}, out, Everything, false},
		{"disconnected, let in again", []events.PositionCommitted{word("w", out, 3), letIn("w", 5)}, connected, events.At(1, 5), false},
		{"and has committed", []events.PositionCommitted{word("w", out, 3), letIn("w", 5), word("w", connected, 6)}, connected, events.At(1, 6), false},
		{"journal 16: removed", []events.PositionCommitted{letIn("w", 3), word("w", removed, 3)}, "", Everything, false},
		{"removed, and goes on regardless", []events.PositionCommitted{word("w", removed, 3), word("w", connected, 4)}, "", Everything, true},
		{"removed, let in again", []events.PositionCommitted{word("w", removed, 3), letIn("w", 5)}, connected, events.At(1, 5), false},
		{"disconnected by itself after it was removed", []events.PositionCommitted{word("w", removed, 3), word("w", out, 3)}, "", Everything, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := said(c.words...)
			if got := p.Needed("d", "o", everybody); got != c.needed {
				t.Errorf("needed from %v, want %v", got, c.needed)
			}
			var state events.ClientState
			for _, f := range p.Clients("d") {
				state = f.State
			}
			if state != c.state || (len(p.Disconnected("d")) == 1) != (c.state == out) || (len(p.Overruled("d")) == 1) != c.overruled {
				t.Errorf("state %q, disconnected %v, overruled %v", state, p.Disconnected("d"), p.Overruled("d"))
			}
		})
	}
}

// TestLateWords: what the owner knows already is not undone by what was said before and
// is read later; who is being let in holds the journal whatever is said meanwhile.
func TestLateWords(t *testing.T) {
	p := said()
	p.Note(5, letIn2("w", 5))
	p.Note(3, letIn2("w", 90))
	p.Note(5, letIn2("w", 80))
	if got := p.Needed("d", "o", everybody); got != events.At(1, 5) {
		t.Errorf("needed from %v", got)
	}
	first, second := p.Hold("d", "x", events.At(1, 2)), p.Hold("d", "x", events.At(1, 4))
	if got := p.Needed("d", "o", everybody); got != events.At(1, 2) || len(p.Clients("d")) != 1 {
		t.Errorf("needed from %v by %v", got, p.Clients("d"))
	}
	out := word("x", events.ClientDisconnected, 2)
	out.Directory = "d"
	p.Note(6, out)
	second()
	second()
	if got := p.Needed("d", "o", everybody); got != events.At(1, 2) {
		t.Errorf("who is let in is not waited for: %v", got)
	}
	first()
	if got := p.Needed("d", "o", everybody); got != events.At(1, 5) {
		t.Errorf("held for good: %v", got)
	}
}

func letIn2(client string, entry uint32) events.PositionCommitted {
	f := letIn(client, entry)
	f.Directory = "d"
	return f
}

// journal 22: any number of clients is listed, by name.
func TestManyClients(t *testing.T) {
	var words []events.PositionCommitted
	for i := range uint32(512) {
		words = append(words, letIn(fmt.Sprintf("w%03d", 511-i), 10+i))
	}
	p := said(words...)
	all := p.Clients("d")
	for i, f := range all {
		if want := fmt.Sprintf("w%03d", i); f.Client != want {
			t.Fatalf("client %d is %s", i, f.Client)
		}
	}
	if len(all) != 512 || p.Needed("d", "o", everybody) != events.At(1, 10) {
		t.Errorf("%d clients, needed from %v", len(all), p.Needed("d", "o", everybody))
	}
}

// TestForgottenState: a fold that begins anew knows of a client only its last word. When
// the owner has said again what it decided, that is still it.
func TestForgottenState(t *testing.T) {
	t.Parallel()
	site := sitetest.Start(t, "east")
	say := func(f events.PositionCommitted) {
		t.Helper()
		f.Directory = "d"
		if _, err := site.Bus.Publish(t.Context(), events.StreamPositions, &f); err != nil {
			t.Fatal(err)
		}
	}
	follow := func() *Positions {
		p := NewPositions()
		sitetest.Run(t, func(ctx context.Context) error {
			if err := p.Follow(ctx, site.Bus); !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		})
		<-p.Known()
		return p
	}
	p := follow()
	say(word("w", events.ClientDisconnected, 1))
	sitetest.Eventually(t, "disconnected", func() bool { return len(p.Disconnected("d")) == 1 }) // the stream keeps the last word only
	say(word("w", events.ClientConnected, 2))
	sitetest.Eventually(t, "overruled", func() bool { return len(p.Overruled("d")) == 1 })
	say(p.Overruled("d")[0])
	sitetest.Eventually(t, "said again", func() bool { return len(p.Overruled("d")) == 0 })
	if again := follow(); cmp.Diff(again.Disconnected("d"), []string{"w"}) != "" || again.Needed("d", "o", everybody) != Everything {
		t.Errorf("disconnected after a restart: %v", again.Disconnected("d"))
	}
}
