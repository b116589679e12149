package policy_test

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
	"tidemark/internal/instance"
	"tidemark/internal/natsd"
	"tidemark/internal/site"
	"tidemark/internal/sitetest"
	"tidemark/services/notifier"
	"tidemark/services/policy"
)

// patience bounds every wait of a test.
const patience = sitetest.Patience

// silence is what the notifiers of tests take for death: several heartbeats, because a busy
// machine delays them.
const silence = 4 * time.Second

func testLog() *slog.Logger {
	if os.Getenv("TIDEMARK_TEST_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.DiscardHandler)
}

// world is a site with its NATS. Services are started and stopped one by one.
type world struct {
	t      *testing.T
	server *natsd.Server
	bus    *bus.Bus
	node   site.Node
	log    *slog.Logger

	mu    sync.Mutex // protects what follows
	read  map[string]uint64
	known map[string][]events.Fact
}

func newWorld(t *testing.T, name string) *world { return newLoggedWorld(t, name, testLog()) }

func newLoggedWorld(t *testing.T, name string, log *slog.Logger) *world {
	t.Helper()
	server, err := natsd.Start(t.Context(), natsd.Config{
		Name: name, Dir: t.TempDir(), Listen: "127.0.0.1:0", Sync: natsd.SyncNever, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	w := &world{t: t, server: server, log: log, read: map[string]uint64{}, known: map[string][]events.Fact{}}
	w.bus = w.connect()
	t.Cleanup(func() { // all that runs has ended by then
		if w.bus.Conn().IsConnected() { // else the test ended the server
			sitetest.DemandOneHolder(t, w.bus.Conn())
		}
	})
	if err := w.bus.EnsureStreams(t.Context(), events.SiteStreams()); err != nil {
		t.Fatal(err)
	}
	who, err := site.Identify(t.Context(), w.bus, name)
	if err != nil {
		t.Fatal(err)
	}
	w.node = site.Node{Site: who, Name: "node-1", Incarnation: "inc-1", URL: server.URL()}
	return w
}

func (w *world) connect() *bus.Bus {
	w.t.Helper()
	b, err := bus.Connect(bus.Config{Name: "test", URL: w.server.URL(), Log: w.log})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(b.Close)
	return b
}

// run starts something that ends with its context, and returns what ends it and waits.
func (w *world) run(what string, f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-done:
				if err != nil && !errors.Is(err, context.Canceled) {
					w.t.Errorf("%s: %v", what, err)
				}
			case <-time.After(patience):
				w.t.Errorf("%s does not end", what)
			}
		})
	}
	w.t.Cleanup(stop)
	return stop
}

func (w *world) startPolicy() (*policy.Service, func()) {
	w.t.Helper()
	p := policy.New(policy.Deps{Bus: w.connect(), Node: w.node, Log: w.log})
	stop := w.run("policy", p.Run)
	w.ready("policy", p.Ready())
	return p, stop
}

func (w *world) startNotifier() (*notifier.Service, func()) {
	w.t.Helper()
	n := notifier.New(notifier.Deps{Bus: w.connect(), Node: w.node, Log: w.log, Silence: silence})
	stop := w.run("notifier", n.Run)
	w.ready("notifier", n.Ready())
	return n, stop
}

func (w *world) ready(what string, ready <-chan struct{}) {
	w.t.Helper()
	select {
	case <-ready:
	case <-time.After(patience):
		w.t.Fatalf("%s is not ready", what)
	}
}

// startAgent runs the agent of a service with a fake holder.
func (w *world) startAgent(node, incarnation, service string, h *fakeHolder) (stop func()) {
	n := w.node
	n.Name, n.Incarnation = node, incarnation
	b := w.connect()
	return w.run("agent", func(ctx context.Context) error { return instance.Run(ctx, b, n, service, h, w.log) })
}

// both runs the two services of a node that hold directories.
func (w *world) both(node, incarnation string, h *fakeHolder) (stop func()) {
	journal := w.startAgent(node, incarnation, events.ServiceJournal, h)
	replayer := w.startAgent(node, incarnation, events.ServiceReplayer, h)
	return func() { journal(); replayer() }
}

// startAll runs everything that a site of one node has.
func startAll(t *testing.T, name string) (*world, *fakeHolder) {
	t.Helper()
	w := newWorld(t, name)
	w.startPolicy()
	w.startNotifier()
	h := newFakeHolder()
	w.both("node-1", "inc-1", h)
	w.eventually("both services are known", func() bool { return len(call[api.Site](w, api.SiteInfo, api.Nothing{}).Instances) == 2 })
	return w, h
}

func (w *world) eventually(what string, f func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		if time.Now().After(deadline) {
			w.t.Fatalf("in vain: %s", what)
		}
		<-tick.C
	}
}

func try[R any](w *world, subject string, request any) (R, error) {
	ctx, cancel := context.WithTimeout(context.Background(), sitetest.Patience)
	defer cancel()
	return api.Call[R](ctx, w.bus.Conn(), subject, request)
}

func call[R any](w *world, subject string, request any) R {
	w.t.Helper()
	r, err := try[R](w, subject, request)
	if err != nil {
		w.t.Fatalf("%s: %v", subject, err)
	}
	return r
}

// refused asserts that a request fails with a code and a message that holds all words.
func (w *world) refused(code fault.Code, subject string, request any, words ...string) {
	w.t.Helper()
	_, err := try[any](w, subject, request)
	if fault.CodeOf(err) != code {
		w.t.Errorf("%s %+v: got %q (%v), want %q", subject, request, fault.CodeOf(err), err, code)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			w.t.Errorf("%s: %q does not say %q", subject, err, word)
		}
	}
}

func dir(pool, path string) events.DirectoryName {
	return events.DirectoryName{Pool: pool, Path: path}
}

// facts returns all facts of a stream.
func (w *world) facts(stream string) []events.Fact {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	state, err := w.bus.State(context.Background(), stream)
	if err != nil {
		w.t.Fatal(err)
	}
	// Only what is new is read: each read makes a consumer at the server.
	err = w.bus.ReadTo(context.Background(), stream, w.read[stream]+1, state.Last, func(m bus.Message) error {
		w.read[stream] = m.Sequence
		if fact, err := events.Unmarshal(m.Data); err == nil {
			w.known[stream] = append(w.known[stream], fact)
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return slices.Clone(w.known[stream])
}

func (w *world) count(stream, kind string) int {
	n := 0
	for _, f := range w.facts(stream) {
		if f.Kind() == kind {
			n++
		}
	}
	return n
}

func (w *world) publish(stream string, f events.Fact) {
	w.t.Helper()
	if _, err := w.bus.Publish(context.Background(), stream, f); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) state(name events.DirectoryName) api.Directory {
	w.t.Helper()
	return call[api.Directory](w, api.DirectoryResolve, name)
}

func (w *world) awaitState(name events.DirectoryName, state string, role events.Role) api.Directory {
	w.t.Helper()
	var d api.Directory
	w.eventually(name.String()+" is "+state+" as "+string(role), func() bool {
		d = w.state(name)
		return d.State == state && d.Role == role
	})
	return d
}

// pool creates a pool that mirrors, with a peer: a site that has nothing itself.
func (w *world) mirroredPool(pool string) {
	w.t.Helper()
	elsewhere := newWorld(w.t, "elsewhere")
	elsewhere.answer(func(context.Context, events.DirectoryName) (api.Directory, error) {
		return api.Directory{}, fault.New(fault.NotFound, "nothing here")
	})
	w.peer(pool, elsewhere)
}

// answer lets the site say what it is for a directory.
func (w *world) answer(resolve func(context.Context, events.DirectoryName) (api.Directory, error)) {
	w.t.Helper()
	stop, err := api.Serve(context.Background(), w.bus.Conn(), w.log, api.On(api.SharedResolve("vms"), resolve))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(stop)
}

// peer creates a pool that mirrors, with another site as its peer.
func (w *world) peer(pool string, other *world) {
	w.t.Helper()
	call[api.Pool](w, api.PoolCreate, api.Pool{Pool: pool})
	call[api.Pool](w, api.MirrorEnable, api.Pool{Pool: pool})
	w.publish(events.StreamPools, &events.PeerAdded{
		Pool: pool, Peer: "beef", Site: "elsewhere", URL: other.server.URL(), Direction: events.ReceiveAndSend,
	})
}

// fakeHolder answers as told, and remembers what it was asked.
type fakeHolder struct {
	mu       sync.Mutex
	asked    []string
	held     map[events.DirectoryID]events.Assignment
	acquire  func(*events.AcquireRequested) error // nil: success
	release  func(*events.ReleaseRequested) (bool, error)
	promoted []events.TagReason
}

func newFakeHolder() *fakeHolder {
	return &fakeHolder{held: map[events.DirectoryID]events.Assignment{}}
}

func (h *fakeHolder) Acquire(_ context.Context, r *events.AcquireRequested) (events.Mark, error) {
	h.mu.Lock()
	f := h.acquire
	h.asked = append(h.asked, "acquire "+r.Path+" "+string(r.Role)+" "+string(cmp.Or(r.Promote, "-")))
	h.promoted = append(h.promoted, r.Promote)
	h.mu.Unlock()
	if f != nil {
		if err := f(r); err != nil {
			return events.Mark{}, err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held[r.Directory] = r.Assignment
	return events.Mark{Position: events.At(1, 1)}, nil
}

func (h *fakeHolder) Release(_ context.Context, r *events.ReleaseRequested) (events.Mark, bool, error) {
	h.mu.Lock()
	f := h.release
	what := "release " + r.Path + " " + string(r.Role)
	if r.Demote {
		what += " demote"
	}
	if r.Remove {
		what += " remove"
	}
	h.asked = append(h.asked, what)
	h.mu.Unlock()
	quiesced := true
	if f != nil {
		var err error
		if quiesced, err = f(r); err != nil {
			return events.Mark{}, false, err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.held, r.Directory)
	return events.Mark{Position: events.At(1, 1)}, quiesced, nil
}

func (h *fakeHolder) set(acquire func(*events.AcquireRequested) error, release func(*events.ReleaseRequested) (bool, error)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.acquire, h.release = acquire, release
}

func (h *fakeHolder) log() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.asked...)
}
