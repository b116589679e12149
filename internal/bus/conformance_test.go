package bus_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/natsd"
)

const subject = "test.log"

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func start(t testing.TB, dir, listen string) *natsd.Server {
	t.Helper()
	s, err := natsd.Start(t.Context(), natsd.Config{Name: "test", Dir: dir, Listen: listen, Sync: natsd.SyncFiles, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func connect(t testing.TB, cfg bus.Config) *bus.Bus {
	t.Helper()
	cfg.Name, cfg.Log = "test", quiet()
	b, err := bus.Connect(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func inProcess(t testing.TB, s *natsd.Server) *bus.Bus {
	return connect(t, bus.Config{Syncer: s, Dial: s.Dial, Options: []nats.Option{s.InProcess()}})
}

// overTCP connects as another process does: it asks the server's own to sync.
func overTCP(t testing.TB, s *natsd.Server) *bus.Bus {
	b := connect(t, bus.Config{URL: s.URL()})
	b.SetSyncer(bus.NewRemoteSyncer(b.Conn()))
	return b
}

// asGuest connects as one that may pull nothing.
func asGuest(t testing.TB, s *natsd.Server) *bus.Bus {
	b := connect(t, bus.Config{URL: s.URL(), Guest: true})
	b.SetSyncer(bus.NewRemoteSyncer(b.Conn()))
	return b
}

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// TestConformance runs the suite over all ways to a server.
func TestConformance(t *testing.T) {
	for name, connect := range map[string]func(testing.TB, *natsd.Server) *bus.Bus{"in process": inProcess, "TCP": overTCP, "guest": asGuest} {
		t.Run(name, func(t *testing.T) {
			s := start(t, t.TempDir(), "127.0.0.1:0")
			own := inProcess(t, s)
			stop, err := api.Serve(t.Context(), own.Conn(), quiet(), s.Handlers()...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(stop)
			conform(t, connect(t, s))
		})
	}
}

// conform is what every bus must do.
func conform(t *testing.T, b *bus.Bus) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, *bus.Bus)
	}{
		{"append and read", appendAndRead},
		{"fence", fence},
		{"lost answer", lostAnswer},
		{"full", full},
		{"too large", tooLarge},
		{"deleted", deleted},
		{"trimmed", trimmed},
		{"follow goes on", followGoesOn},
		{"follow ends", followEnds},
		{"publish", publish},
		{"publish all", publishAll},
		{"fold", fold},
		{"fold of an empty stream", foldEmpty},
		{"watch", watch},
		{"stream settings", streamSettings},
		{"nothing there", nothingThere},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, b) })
	}
}

var logs atomic.Int64

// newLog opens a log of its own for each test.
func newLog(t *testing.T, b *bus.Bus, maxBytes int64) (*bus.Log, string) {
	t.Helper()
	n := logs.Add(1)
	own := fmt.Sprintf("%s.%d", subject, n)
	l, err := b.OpenLog(within(t), events.Stream{Name: fmt.Sprintf("JOURNAL_%d", n), Subjects: []string{own}, MaxBytes: maxBytes})
	if err != nil {
		t.Fatal(err)
	}
	return l, own
}

func text(i uint64) []byte { return fmt.Appendf(nil, "message %d", i) }

// fill appends messages up to a sequence.
func fill(t *testing.T, l *bus.Log, subject string, from, to uint64) {
	t.Helper()
	for i := from; i <= to; i++ {
		if seq, err := l.Append(within(t), subject, text(i), i-1); err != nil || seq != i {
			t.Errorf("append %d: %d, %v", i, seq, err)
			return
		}
	}
}

// expect returns a reader that demands the messages from a sequence on.
func expect(t *testing.T, next uint64) func(bus.Message) error {
	return func(m bus.Message) error {
		if m.Sequence != next || string(m.Data) != string(text(next)) {
			t.Errorf("got message %d %q, want %d", m.Sequence, m.Data, next)
		}
		next++
		return nil
	}
}
