package bus_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
)

// TestServerRestart: a server that goes and comes back on its address and store is
// waited for; readers and writers go on where they were.
func TestServerRestart(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, "127.0.0.1:0")
	listen := strings.TrimPrefix(s.URL(), "nats://")
	b := connect(t, bus.Config{URL: s.URL()})
	l, subject := newLog(t, b, 0)
	fill(t, l, subject, 1, 10)
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	seen, followed := make(chan uint64, 100), make(chan error, 1)
	check := expect(t, 1)
	go func() {
		followed <- l.Follow(ctx, 1, func(m bus.Message) error {
			seen <- m.Sequence
			return check(m)
		})
	}()
	awaitSequence(t, seen, 10)
	s.Stop()
	appended := make(chan error, 1)
	go func() {
		seq, err := l.Append(ctx, subject, text(11), 10)
		if err == nil && seq != 11 {
			err = fmt.Errorf("sequence %d", seq)
		}
		appended <- err
	}()
	impatient, done := context.WithTimeout(ctx, 300*time.Millisecond)
	defer done()
	if _, err := l.Append(impatient, subject, []byte("x"), 10); !errors.Is(err, bus.ErrUndecided) {
		t.Errorf("while the server is away: %v", err)
	}
	start(t, dir, listen)
	if err := <-appended; err != nil {
		t.Fatalf("append over the restart: %v", err)
	}
	fill(t, l, subject, 12, 20)
	awaitSequence(t, seen, 20)
	cancel()
	if err := <-followed; !errors.Is(err, context.Canceled) {
		t.Errorf("follow: %v", err)
	}
}

// journal 35: who watches facts learns after a lost connection what was said meanwhile.
func TestWatchOverRestart(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, "127.0.0.1:0")
	listen := strings.TrimPrefix(s.URL(), "nats://")
	b := connect(t, bus.Config{URL: s.URL()})
	control(t, b)
	say := func(through *bus.Bus, entry uint32) {
		t.Helper()
		f := &events.PositionCommitted{Directory: "d", Client: "w", Mark: events.Mark{Position: events.At(1, entry)}}
		if _, err := through.Publish(within(t), events.StreamPositions, f); err != nil {
			t.Fatal(err)
		}
	}
	say(b, 1)
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	seen, watched := make(chan uint64, 100), make(chan error, 1)
	go func() {
		watched <- b.Watch(ctx, events.StreamPositions, "tidemark.position.>", func() {}, func(_ uint64, f events.Fact) error {
			seen <- uint64(f.(*events.PositionCommitted).Mark.Position.Entry())
			return nil
		})
	}()
	awaitSequence(t, seen, 1)
	s.Stop()
	s = start(t, dir, listen)
	say(inProcess(t, s), 2) // perhaps before the watcher is back
	awaitSequence(t, seen, 2)
	say(inProcess(t, s), 3)
	awaitSequence(t, seen, 3)
	cancel()
	if err := <-watched; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func awaitSequence(t *testing.T, seen <-chan uint64, want uint64) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	for {
		select {
		case got := <-seen:
			if got == want {
				return
			}
		case <-deadline:
			t.Fatalf("message %d never came", want)
		}
	}
}

// TestRottenMessage flips one byte of a block file while the server is down. JetStream
// passes over what it cannot read; a reader is told.
func TestRottenMessage(t *testing.T) {
	const last = 40
	for _, c := range []struct {
		name   string
		rotten uint64
		index  bool // the server's index survives
	}{
		{"in the middle", 20, true},
		{"the last one", last, true},
		{"the first one", 1, true},
		{"in the middle, without the index", 20, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			s := start(t, dir, "127.0.0.1:0")
			b := inProcess(t, s)
			l, subject := newLog(t, b, 0)
			fill(t, l, subject, 1, last)
			b.Close()
			s.Stop()
			rot(t, dir, l.Name(), text(c.rotten), c.index)
			l, err := inProcess(t, start(t, dir, "127.0.0.1:0")).ExistingLog(t.Context(), l.Name())
			if err != nil {
				t.Fatal(err)
			}
			check := expect(t, 1)
			err = l.ReadTo(within(t), 1, last, func(m bus.Message) error {
				if m.Sequence >= c.rotten {
					t.Errorf("message %d was given", m.Sequence)
				}
				return check(m)
			})
			var gap *bus.GapError
			if !errors.As(err, &gap) || gap.Want != c.rotten {
				t.Errorf("got %v", err)
			}
		})
	}
}

// rot flips a byte of a message in a stream's block files.
func rot(t *testing.T, dir, stream string, data []byte, index bool) {
	t.Helper()
	folder := filepath.Join(dir, "jetstream", "TIDEMARK", "streams", stream, "msgs")
	name := filepath.Join(folder, "1.blk")
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(content, data)
	if at < 0 {
		t.Fatalf("%q is not in %s", data, name)
	}
	content[at] ^= 0x20
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if !index {
		if err := os.Remove(filepath.Join(folder, "index.db")); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNobodySyncs: a remote syncer whose server's process is away does not call
// anything safe; when the process is back, it is asked again.
func TestNobodySyncs(t *testing.T) {
	s := start(t, t.TempDir(), "127.0.0.1:0")
	b := connect(t, bus.Config{Options: []nats.Option{s.InProcess()}})
	l, subject := newLog(t, b, 0)
	fill(t, l, subject, 1, 1)
	b.SetSyncer(bus.NewRemoteSyncer(b.Conn()))
	impatient, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if l.Sync(impatient) == nil {
		t.Error("synced")
	}
	if l.Trim(impatient, 1) == nil {
		t.Error("trimmed")
	}
	synced := make(chan error, 1)
	go func() { synced <- l.Sync(within(t)) }()
	stop, err := api.Serve(t.Context(), b.Conn(), quiet(), s.Handlers()...)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if err := <-synced; err != nil {
		t.Errorf("the process is back: %v", err)
	}
}

// TestFailedSync: a sync that was tried and failed is an error at once.
func TestFailedSync(t *testing.T) {
	s := start(t, t.TempDir(), "127.0.0.1:0")
	b := inProcess(t, s)
	var asked atomic.Int64
	stop, err := api.Serve(t.Context(), b.Conn(), quiet(), api.On(api.LogSync,
		func(context.Context, api.LogSyncRequest) (api.Nothing, error) {
			asked.Add(1)
			return api.Nothing{}, errors.New("broken disk")
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if err := bus.NewRemoteSyncer(b.Conn()).Sync(within(t), "JOURNAL"); err == nil || !strings.Contains(err.Error(), "broken disk") {
		t.Errorf("got %v", err)
	}
	if asked.Load() != 1 {
		t.Errorf("asked %d times", asked.Load())
	}
}

// TestSyncMeetsTheEndOfItsServer: a process that is stopping refuses; the one that follows it
// is asked.
func TestSyncMeetsTheEndOfItsServer(t *testing.T) {
	s := start(t, t.TempDir(), "127.0.0.1:0")
	b := inProcess(t, s)
	var asked atomic.Int64
	stop, err := api.Serve(t.Context(), b.Conn(), quiet(), api.On(api.LogSync,
		func(context.Context, api.LogSyncRequest) (api.Nothing, error) {
			if asked.Add(1) == 1 {
				return api.Nothing{}, fault.New(fault.NotReady, "stopping")
			}
			return api.Nothing{}, nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if err := bus.NewRemoteSyncer(b.Conn()).Sync(within(t), "JOURNAL"); err != nil || asked.Load() != 2 {
		t.Errorf("asked %d times: %v", asked.Load(), err)
	}
}

// TestUnsynced: the syncer of a log that syncs itself only looks at the caller.
func TestUnsynced(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	if err := (bus.Unsynced{}).Sync(ended, "x"); err != nil {
		t.Error(err)
	}
	cancel()
	if (bus.Unsynced{}).Sync(ended, "x") == nil || (bus.Unsynced{}).Trimmed(ended, "x") == nil {
		t.Error("nil for a caller that is gone")
	}
}

func TestConnectFails(t *testing.T) {
	if b, err := bus.Connect(bus.Config{URL: "nats://127.0.0.1:1", Log: quiet()}); err == nil {
		b.Close()
		t.Error("connected to nobody")
	}
}
