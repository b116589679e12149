package instance_test

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/instance"
	"tidemark/internal/natsd"
	"tidemark/internal/site"
	"tidemark/internal/sitetest"
)

const patience = sitetest.Patience

// holder runs what it is told to, and remembers the order.
type holder struct {
	mu      sync.Mutex
	order   []string
	running int
	most    int
	during  func(ctx context.Context, operation string) error // nil: success
}

func (h *holder) run(ctx context.Context, a events.Assignment) error {
	h.mu.Lock()
	h.order = append(h.order, a.Operation)
	h.running++
	h.most = max(h.most, h.running)
	f := h.during
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.running--
	}()
	if f == nil {
		return nil
	}
	return f(ctx, a.Operation)
}

func (h *holder) Acquire(ctx context.Context, r *events.AcquireRequested) (events.Mark, error) {
	return events.Mark{Position: events.At(2, 7)}, h.run(ctx, r.Assignment)
}

func (h *holder) Release(ctx context.Context, r *events.ReleaseRequested) (events.Mark, bool, error) {
	return events.Mark{Position: events.At(2, 9)}, true, h.run(ctx, r.Assignment)
}

func (h *holder) ran() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.order)
}

type fixture struct {
	t     *testing.T
	bus   *bus.Bus
	beats *nats.Subscription
	stop  func() // ends the agent and waits for it
}

func start(t *testing.T, h instance.Holder) *fixture {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	server, err := natsd.Start(t.Context(), natsd.Config{
		Name: "test", Dir: t.TempDir(), Listen: "127.0.0.1:0", Sync: natsd.SyncNever, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	b, err := bus.Connect(bus.Config{Name: "test", URL: server.URL(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	if err := b.EnsureStreams(t.Context(), events.SiteStreams()); err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, bus: b}
	if f.beats, err = b.Conn().SubscribeSync("tidemark.heartbeat.>"); err != nil {
		t.Fatal(err)
	}
	if err := b.Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	node := site.Node{Name: "a", Incarnation: "1", DataID: "d1"}
	go func() { done <- instance.Run(ctx, b, node, events.ServiceJournal, h, log) }()
	var once sync.Once
	f.stop = func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-done:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(patience):
				t.Error("the agent does not end")
			}
		})
	}
	t.Cleanup(f.stop)
	f.beat()
	return f
}

// beat returns the next heartbeat.
func (f *fixture) beat() *events.Heartbeat {
	f.t.Helper()
	m, err := f.beats.NextMsg(patience)
	if err != nil {
		f.t.Fatal(err)
	}
	fact, err := events.Unmarshal(m.Data)
	if err != nil {
		f.t.Fatal(err)
	}
	return fact.(*events.Heartbeat)
}

func (f *fixture) send(body []byte) events.Fact {
	f.t.Helper()
	m, err := f.bus.Conn().Request(events.ControlSubject("a", events.ServiceJournal), body, patience)
	if err != nil {
		f.t.Fatal(err)
	}
	fact, err := events.Unmarshal(m.Data)
	if err != nil {
		f.t.Fatal(err)
	}
	return fact
}

func (f *fixture) ask(fact events.Fact) events.Fact {
	f.t.Helper()
	body, err := events.Marshal(fact)
	if err != nil {
		f.t.Fatal(err)
	}
	return f.send(body)
}

func acquire(operation, directory string) *events.AcquireRequested {
	return &events.AcquireRequested{Assignment: events.Assignment{
		Operation: operation, Directory: events.DirectoryID(directory), Node: "a", Incarnation: "1", Role: events.Master, Epoch: 3,
	}}
}

func (f *fixture) eventually(condition func() bool) {
	f.t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !condition() {
		if time.Now().After(deadline) {
			f.t.Fatal("in vain")
		}
		<-tick.C
	}
}
