package site_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
	"tidemark/internal/natsd"
	"tidemark/internal/site"
)

// server runs a NATS server with the streams of a site that nobody has founded.
func server(t *testing.T) *natsd.Server {
	t.Helper()
	s, err := natsd.Start(t.Context(), natsd.Config{
		Name: "test", Dir: t.TempDir(), Listen: "127.0.0.1:0", Sync: natsd.SyncFiles, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	if err := process(t, s, s).EnsureStreams(t.Context(), events.SiteStreams()); err != nil {
		t.Fatal(err)
	}
	return s
}

// process is a connection of its own.
func process(t *testing.T, s *natsd.Server, syncer bus.Syncer) *bus.Bus {
	t.Helper()
	b, err := bus.Connect(bus.Config{Name: "test", Syncer: syncer, Log: slog.New(slog.DiscardHandler), Options: []nats.Option{s.InProcess()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// TestFounding lets several processes found the site at once: all are of the same one.
func TestFounding(t *testing.T) {
	for round := range 10 {
		s := server(t)
		const processes = 4
		got := make([]site.Site, processes)
		var all sync.WaitGroup
		begin := make(chan struct{})
		for i := range processes {
			b := process(t, s, s)
			all.Go(func() {
				<-begin
				var err error
				if got[i], err = site.Identify(t.Context(), b, ""); err != nil {
					t.Error(err)
				}
			})
		}
		close(begin)
		all.Wait()
		for _, who := range got {
			if who != got[0] || who.UUID == "" || who.Name == "" || who.Number == 0 || who.Number > events.MaxSiteNumber {
				t.Fatalf("round %d: %+v", round, got)
			}
		}
		if st, err := process(t, s, s).State(t.Context(), events.StreamPools); err != nil || st.Last != 1 {
			t.Fatalf("round %d: founded %d times, %v", round, st.Last, err)
		}
	}
}

func TestNames(t *testing.T) {
	s := server(t)
	b := process(t, s, s)
	if _, err := site.Current(t.Context(), b); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("a site that nobody founded: %v", err)
	}
	founded, err := site.Identify(t.Context(), b, "east")
	if err != nil || founded.Name != "east" {
		t.Fatalf("%+v, %v", founded, err)
	}
	for _, name := range []string{"", "east"} {
		if got, err := site.Identify(t.Context(), b, name); err != nil || got != founded {
			t.Errorf("%q: %+v, %v", name, got, err)
		}
	}
	// Another name renames nothing: it is most likely the wrong site.
	_, err = site.Identify(t.Context(), b, "west")
	if fault.CodeOf(err) != fault.Usage || !strings.Contains(fmt.Sprint(err), `this site is called "east": leave --site out`) {
		t.Errorf("another name: %v", err)
	}
	if current, err := site.Current(t.Context(), b); err != nil || current != founded {
		t.Errorf("current %+v, %v", current, err)
	}
	if st, err := b.State(t.Context(), events.StreamPools); err != nil || st.Last != 1 {
		t.Errorf("%d facts, %v", st.Last, err)
	}
	for _, name := range []string{"a/b", "..", "a*", "\x00"} {
		if _, err := site.Identify(t.Context(), b, name); fault.CodeOf(err) != fault.Usage {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := site.Identify(t.Context(), process(t, server(t), nil), "x"); err != nil {
		t.Error(err)
	}
}

// TestUnreadableIdentity: a message that is no identity keeps no site from starting.
func TestUnreadableIdentity(t *testing.T) {
	s := server(t)
	b := process(t, s, s)
	subject := (&events.SiteNumbered{}).Subject()
	pool, err := events.Marshal(&events.PoolCreated{Pool: "p"})
	if err != nil {
		t.Fatal(err)
	}
	spoil := func(body []byte) {
		t.Helper()
		if _, err := b.Conn().RequestWithContext(t.Context(), subject, body); err != nil {
			t.Fatal(err)
		}
	}
	// Alone, it is an error that says where it lies: nobody knows what the site was.
	spoil([]byte("garbage"))
	_, err = site.Identify(t.Context(), b, "east")
	if err == nil || errors.Is(err, bus.ErrNotFound) || !strings.Contains(err.Error(), "message 1 of stream POOLS") {
		t.Errorf("nothing but garbage: %v", err)
	}
	want := site.Site{UUID: "feed", Name: "east", Number: 7}
	for _, who := range []site.Site{{UUID: "feed", Name: "east", Number: 3}, want} {
		fact := &events.SiteNumbered{Site: who.UUID, Name: who.Name, Number: who.Number}
		if _, err := b.Publish(t.Context(), events.StreamPools, fact); err != nil {
			t.Fatal(err)
		}
	}
	for _, body := range [][]byte{[]byte("garbage"), pool, nil} {
		spoil(body)
		if got, err := site.Identify(t.Context(), b, ""); err != nil || got != want {
			t.Errorf("after %q: %+v, %v", body, got, err)
		}
	}
}

// TestFoundingDoesNotUndoANumber: a process that starts while the number changes leaves
// the change alone.
func TestFoundingDoesNotUndoANumber(t *testing.T) {
	s := server(t)
	a, b := process(t, s, s), process(t, s, s)
	founded, err := site.Identify(t.Context(), a, "east")
	if err != nil {
		t.Fatal(err)
	}
	for round := range 20 {
		number := uint16(round + 1)
		var both sync.WaitGroup
		both.Go(func() {
			if _, err := site.Identify(t.Context(), a, "east"); err != nil {
				t.Error(err)
			}
		})
		both.Go(func() { renumber(t, b, number) })
		both.Wait()
		got, err := site.Current(t.Context(), a)
		want := site.Site{UUID: founded.UUID, Name: "east", Number: number}
		if err != nil || got != want {
			t.Fatalf("round %d: %+v, %v", round, got, err)
		}
	}
}

// renumber changes the number of the site, whatever its name is.
func renumber(t *testing.T, b *bus.Bus, number uint16) {
	for {
		st, err := b.State(t.Context(), events.StreamPools)
		if err != nil {
			t.Error(err)
			return
		}
		known, err := site.Current(t.Context(), b)
		if err != nil {
			t.Error(err)
			return
		}
		_, err = b.PublishAfter(t.Context(), events.StreamPools, st.Last, &events.SiteNumbered{Site: known.UUID, Name: known.Name, Number: number})
		if !errors.Is(err, bus.ErrOvertaken) {
			if err != nil {
				t.Error(err)
			}
			return
		}
	}
}

func TestRandomNumber(t *testing.T) {
	var taken []uint16
	for n := range uint16(events.MaxSiteNumber) {
		if n+1 != 77 {
			taken = append(taken, n+1)
		}
	}
	if n, err := site.RandomNumber(taken); n != 77 || err != nil {
		t.Errorf("the last free one: %d, %v", n, err)
	}
	if _, err := site.RandomNumber(append(taken, 77)); fault.CodeOf(err) != fault.NoSpace {
		t.Errorf("none is free: %v", err)
	}
	for range 100 {
		if n, err := site.RandomNumber(nil); err != nil || n == 0 || n > events.MaxSiteNumber {
			t.Fatalf("%d, %v", n, err)
		}
	}
}

func TestNewID(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id, err := site.NewID()
		if err != nil || len(id) != 16 || seen[id] {
			t.Fatalf("%q, %v", id, err)
		}
		seen[id] = true
	}
}

func TestGone(t *testing.T) {
	s := server(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := site.Identify(ended, process(t, s, s), "x"); err == nil {
		t.Error("identified for a caller that is gone")
	}
}
