package notifier_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/natsd"
	"tidemark/internal/site"
	"tidemark/internal/sitetest"
	"tidemark/services/notifier"
)

const (
	patience = sitetest.Patience
	// silence is what notifiers take for death: many heartbeats, because a busy machine delays
	// them.
	silence = 4 * time.Second
)

// fixture is a NATS server, without a notifier at first.
type fixture struct {
	t      *testing.T
	server *natsd.Server
	bus    *bus.Bus
	log    *slog.Logger

	mu    sync.Mutex // protects what follows
	read  map[string]uint64
	known map[string][]events.Fact
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	server, err := natsd.Start(t.Context(), natsd.Config{
		Name: "test", Dir: t.TempDir(), Listen: "127.0.0.1:0", Sync: natsd.SyncNever, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	f := &fixture{t: t, server: server, log: log, read: map[string]uint64{}, known: map[string][]events.Fact{}}
	f.bus = f.connect()
	if err := f.bus.EnsureStreams(t.Context(), events.SiteStreams()); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) connect() *bus.Bus {
	f.t.Helper()
	b, err := bus.Connect(bus.Config{Name: "test", URL: f.server.URL(), Log: f.log})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(b.Close)
	return b
}

func (f *fixture) start() (s *notifier.Service, stop func()) {
	f.t.Helper()
	s = notifier.New(notifier.Deps{
		Bus: f.connect(), Node: site.Node{Name: "n"}, Log: f.log, Metrics: prometheus.NewRegistry(), Silence: silence,
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-done:
				if err != nil {
					f.t.Error(err)
				}
			case <-time.After(patience):
				f.t.Error("the notifier does not end")
			}
		})
	}
	f.t.Cleanup(stop)
	select {
	case <-s.Ready():
	case <-time.After(patience):
		f.t.Fatal("the notifier is not ready")
	}
	return s, stop
}

// beats sends heartbeats of an incarnation until the returned function is called.
func (f *fixture) beats(node, incarnation string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			f.beat(node, incarnation, false)
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	stop = func() { cancel(); <-done }
	f.t.Cleanup(stop)
	return stop
}

func (f *fixture) beat(node, incarnation string, leaving bool) {
	err := f.bus.Send(&events.Heartbeat{Node: node, Service: events.ServiceJournal, Incarnation: incarnation, Leaving: leaving})
	if err != nil {
		f.t.Error(err)
	}
}

func (f *fixture) publish(stream string, facts ...events.Fact) {
	f.t.Helper()
	for _, fact := range facts {
		if _, err := f.bus.Publish(context.Background(), stream, fact); err != nil {
			f.t.Fatal(err)
		}
	}
}

func (f *fixture) facts(stream string) []events.Fact {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	state, err := f.bus.State(context.Background(), stream)
	if err != nil {
		f.t.Fatal(err)
	}
	// Only what is new is read: each read makes a consumer at the server.
	err = f.bus.ReadTo(context.Background(), stream, f.read[stream]+1, state.Last, func(m bus.Message) error {
		f.read[stream] = m.Sequence
		if fact, err := events.Unmarshal(m.Data); err == nil {
			f.known[stream] = append(f.known[stream], fact)
		}
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return slices.Clone(f.known[stream])
}

// instances returns INSTANCES in short.
func (f *fixture) instances() []string {
	f.t.Helper()
	var short []string
	for _, fact := range f.facts(events.StreamInstances) {
		switch fact := fact.(type) {
		case *events.InstanceAdded:
			short = append(short, "+"+fact.Node+fact.Incarnation)
		case *events.InstanceRemoved:
			short = append(short, "-"+fact.Node+fact.Incarnation+" "+fact.Reason)
		}
	}
	return short
}

// acks returns the operations acknowledged, with their codes.
func (f *fixture) acks() []string {
	f.t.Helper()
	var short []string
	for _, fact := range f.facts(events.StreamNotifications) {
		switch fact := fact.(type) {
		case *events.AcquireAcknowledged:
			short = append(short, fact.Operation+":"+fact.Code)
		case *events.ReleaseAcknowledged:
			short = append(short, fmt.Sprintf("%s:%s:%t", fact.Operation, fact.Code, fact.Quiesced))
		}
	}
	return short
}

func (f *fixture) eventually(what string, condition func() bool) {
	f.t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		if time.Now().After(deadline) {
			f.t.Fatalf("in vain: %s", what)
		}
		<-tick.C
	}
}

func acquire(operation, directory, incarnation string) *events.AcquireRequested {
	return &events.AcquireRequested{Assignment: events.Assignment{
		Operation: operation, Directory: events.DirectoryID(directory), Node: "a", Incarnation: incarnation, Role: events.Master, Epoch: 1,
	}}
}

func release(operation, directory, incarnation string) *events.ReleaseRequested {
	return &events.ReleaseRequested{Assignment: acquire(operation, directory, incarnation).Assignment}
}

// desk answers control requests of node a, as told.
type desk struct {
	mu    sync.Mutex
	asked []string
}

func (d *desk) log() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.asked)
}

// listen answers each request with what reply returns; nil is no answer.
func (f *fixture) listen(reply func(n int, fact events.Fact) []byte) *desk {
	f.t.Helper()
	d := &desk{}
	sub, err := f.bus.Conn().Subscribe(events.ControlSubject("a", events.ServiceJournal), func(m *nats.Msg) {
		fact, err := events.Unmarshal(m.Data)
		if err != nil {
			f.t.Error(err)
			return
		}
		operation := ""
		switch fact := fact.(type) {
		case *events.AcquireRequested:
			operation = fact.Operation
		case *events.ReleaseRequested:
			operation = fact.Operation
		}
		d.mu.Lock()
		d.asked = append(d.asked, operation)
		n := len(d.asked)
		d.mu.Unlock()
		if body := reply(n, fact); body != nil {
			_ = m.Respond(body) // the test may be over
		}
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = sub.Unsubscribe() })
	if err := f.bus.Conn().Flush(); err != nil {
		f.t.Fatal(err)
	}
	return d
}

func success(_ int, fact events.Fact) []byte {
	var ack events.Fact
	switch fact := fact.(type) {
	case *events.AcquireRequested:
		ack = &events.AcquireAcknowledged{Assignment: fact.Assignment}
	case *events.ReleaseRequested:
		ack = &events.ReleaseAcknowledged{Assignment: fact.Assignment, Quiesced: true}
	}
	body, err := events.Marshal(ack)
	if err != nil {
		panic(err)
	}
	return body
}
