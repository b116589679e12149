package notifier_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
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
	silence  = time.Second
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

// directories 80, 89, 92.
func TestLiveness(t *testing.T) {
	f := newFixture(t)
	rolls, err := f.bus.Conn().SubscribeSync(events.RollCallSubject)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.bus.Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	s, stop := f.start()
	if _, err := rolls.NextMsg(patience); err != nil {
		t.Errorf("no roll call: %v", err)
	}
	stopBeats := f.beats("a", "1")
	f.beats("b", "1")
	f.eventually("both are added", func() bool { return len(f.instances()) == 2 && len(s.Report().Instances) == 2 })
	stopBeats()
	f.eventually("a is silent", func() bool { return slices.Contains(f.instances(), "-a1 silent") })
	f.beat("a", "2", false)
	f.eventually("a is back", func() bool { return slices.Contains(f.instances(), "+a2") })
	f.beat("a", "2", true)
	f.eventually("a has left", func() bool { return slices.Contains(f.instances(), "-a2 left") })
	if r := s.Report().Instances; len(r) != 1 || r[0].Node != "b" {
		t.Errorf("alive: %+v", r)
	}
	// A restart knows b, and says nothing new about it.
	before := f.instances()
	stop()
	f.start()
	f.beat("c", "1", false)
	f.eventually("c is added", func() bool { return slices.Contains(f.instances(), "+c1") })
	if got := f.instances(); !slices.Equal(got, append(before, "+c1")) {
		t.Errorf("after a restart: %q, before %q", got, before)
	}
}

// Heartbeats that make no sense change nothing.
func TestImplausibleHeartbeats(t *testing.T) {
	f := newFixture(t)
	f.start()
	body, err := events.Marshal(&events.Heartbeat{Node: "a", Service: "journal", Incarnation: "1"})
	if err != nil {
		t.Fatal(err)
	}
	for subject, body := range map[string][]byte{
		"tidemark.heartbeat.b.journal": body, // of another
		"tidemark.heartbeat.c.journal": []byte("garbage"),
		"tidemark.heartbeat.d.journal": nil,
	} {
		if err := f.bus.Conn().Publish(subject, body); err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range []*events.Heartbeat{
		{Node: "..", Service: "journal", Incarnation: "1"}, {Node: "a", Service: "a/b", Incarnation: "1"}, {Node: "a", Service: "journal"},
	} {
		if err := f.bus.Send(bad); err != nil {
			t.Fatal(err)
		}
	}
	f.beat("z", "1", false)
	f.eventually("the good one is heard", func() bool { return len(f.instances()) > 0 })
	if got := f.instances(); !slices.Equal(got, []string{"+z1"}) {
		t.Errorf("got %q", got)
	}
}

// In order within a directory, side by side otherwise. directories 74, 118.
func TestDelivery(t *testing.T) {
	f := newFixture(t)
	f.start()
	f.beats("a", "1")
	f.listen(func(n int, fact events.Fact) []byte {
		if a, ok := fact.(*events.AcquireRequested); ok && a.Operation == "d1" {
			return nil
		}
		return success(n, fact)
	})
	f.eventually("a is added", func() bool { return len(f.instances()) == 1 })
	f.publish(events.StreamNotifications, acquire("d1", "d", "1"), release("d2", "d", "1"), acquire("e1", "e", "1"), release("e2", "e", "1"))
	f.eventually("e is served", func() bool { return slices.Equal(f.acks(), []string{"e1:", "e2::true"}) })
	f.publish(events.StreamInstances, &events.InstanceRemoved{Node: "a", Service: events.ServiceJournal, Incarnation: "1", Reason: "silent"})
	f.eventually("d1 is given up", func() bool { return slices.Contains(f.acks(), "d1:fenced") })
	f.eventually("d2 is answered", func() bool { return len(f.acks()) == 4 })
}

// Silence, garbage and foreign answers are no answers: the same operation is sent again.
// directories 132, 134.
func TestRetries(t *testing.T) {
	f := newFixture(t)
	f.start()
	f.beats("a", "1")
	f.eventually("a is added", func() bool { return len(f.instances()) == 1 })
	f.publish(events.StreamNotifications, acquire("op", "d", "1")) // nobody listens yet
	d := f.listen(func(n int, fact events.Fact) []byte {
		switch n {
		case 1:
			return []byte("garbage")
		case 2:
			return success(n, acquire("op", "d", "0")) // the agent of another incarnation
		case 3:
			return success(n, release("op", "d", "1"))
		}
		return success(n, fact)
	})
	f.eventually("it is acknowledged", func() bool { return slices.Equal(f.acks(), []string{"op:"}) })
	if got := d.log(); !slices.Equal(got, []string{"op", "op", "op", "op"}) {
		t.Errorf("asked %q", got)
	}
	// Listeners were told of the first and the second of the three, and of one in the log
	// that came too late.
	f.publish(events.StreamNotifications, &events.AcquireAcknowledged{Assignment: acquire("op", "d", "1").Assignment, Code: "internal"})
	f.eventually("rejected answers are told of", func() bool {
		var rejected []string
		for _, fact := range f.facts(events.StreamLifecycle) {
			if turn, ok := fact.(*events.LifecycleNoted); ok && turn.What == events.AcknowledgementRejected {
				rejected = append(rejected, turn.Detail)
			}
		}
		return len(rejected) == 3 && strings.Contains(rejected[0], "answer 1") && strings.Contains(rejected[1], "answer 2") &&
			strings.Contains(rejected[2], "answered already")
	})
	if got := f.acks(); !slices.Equal(got, []string{"op:", "op:internal"}) {
		t.Errorf("acknowledged %q", got)
	}
}

// Nobody is asked who is gone: the notifier answers. directories 100, 108.
func TestGone(t *testing.T) {
	f := newFixture(t)
	d := f.listen(success)
	f.publish(events.StreamInstances, &events.InstanceAdded{Node: "a", Service: events.ServiceJournal, Incarnation: "2"})
	f.publish(events.StreamNotifications, acquire("old", "d", "1"), release("older", "d", "0"), acquire("new", "d", "2"))
	f.publish(events.StreamNotifications, &events.AcquireRequested{Assignment: events.Assignment{Operation: "x", Directory: "e", Node: "unknown", Role: events.Slave}})
	s, _ := f.start()
	f.eventually("all are answered", func() bool { return len(f.acks()) == 4 && len(s.Report().Waiting) == 0 })
	got := f.acks()
	slices.Sort(got)
	if want := []string{"new:", "old:fenced", "older:fenced:false", "x:fenced"}; !slices.Equal(got, want) {
		t.Errorf("acknowledged %q, want %q", got, want)
	}
	if got := d.log(); !slices.Equal(got, []string{"new"}) {
		t.Errorf("asked %q", got)
	}
}

// A restart sends what is not acknowledged, and nothing else. directories 131.
func TestRestart(t *testing.T) {
	f := newFixture(t)
	d := f.listen(func(n int, fact events.Fact) []byte {
		if a, ok := fact.(*events.AcquireRequested); ok && a.Operation == "slow" && n <= 2 {
			return nil
		}
		return success(n, fact)
	})
	f.beats("a", "1")
	_, stop := f.start()
	f.eventually("a is added", func() bool { return len(f.instances()) == 1 })
	f.publish(events.StreamNotifications, acquire("quick", "d", "1"))
	f.eventually("the quick one is done", func() bool { return len(f.acks()) == 1 })
	f.publish(events.StreamNotifications, acquire("slow", "e", "1"))
	f.eventually("the slow one is asked", func() bool { return len(d.log()) == 2 })
	stop()
	f.start()
	f.eventually("the slow one is done", func() bool { return len(f.acks()) == 2 })
	if got := d.log(); !slices.Equal(got, []string{"quick", "slow", "slow"}) {
		t.Errorf("asked %q", got)
	}
}

// Two notifiers: each request is acknowledged once, each instance added once.
func TestTwoNotifiers(t *testing.T) {
	f := newFixture(t)
	f.start()
	f.start()
	f.listen(success)
	f.beats("a", "1")
	f.beats("b", "1")
	f.eventually("both are added", func() bool { return len(f.instances()) >= 2 })
	const requests = 30
	for i := range requests {
		f.publish(events.StreamNotifications, acquire(fmt.Sprint(i), fmt.Sprint("d", i%7), "1"))
	}
	f.eventually("all are acknowledged", func() bool { return len(f.acks()) >= requests })
	f.beat("b", "1", true)
	f.eventually("b has left", func() bool { return slices.Contains(f.instances(), "-b1 left") })
	acks := f.acks()
	slices.Sort(acks)
	if len(slices.Compact(acks)) != requests || len(f.acks()) != requests {
		t.Errorf("%d acknowledgements for %d requests", len(f.acks()), requests)
	}
	added := 0
	for _, i := range f.instances() {
		if i == "+a1" {
			added++
		}
	}
	if added != 1 {
		t.Errorf("a was added %d times: %q", added, f.instances())
	}
}
