package journal

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/holder"
	"tidemark/internal/replica"
	"tidemark/internal/sitetest"
	"tidemark/internal/vfs"
)

// lifeTurns listens to what is noted of directories.
func lifeTurns(t *testing.T, at *sitetest.Site) func(events.Lifecycle) []events.LifecycleNoted {
	t.Helper()
	var mu sync.Mutex
	var all []events.LifecycleNoted
	sub, err := at.Bus.Conn().Subscribe("tidemark.lifecycle.>", func(m *nats.Msg) {
		f, err := events.Unmarshal(m.Data)
		if err != nil {
			t.Error(err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, *f.(*events.LifecycleNoted))
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() })
	return func(what events.Lifecycle) []events.LifecycleNoted {
		mu.Lock()
		defer mu.Unlock()
		return slices.DeleteFunc(slices.Clone(all), func(n events.LifecycleNoted) bool { return n.What != what })
	}
}

// client lets a client in, or lets it say how far it has come.
func client(d *directory, name, site string, mark events.Mark) events.PositionCommitted {
	return events.PositionCommitted{
		Directory: d.id, Client: name, Site: site, Mark: mark,
		Role: events.Slave, State: events.ClientConnected, At: events.InstantOf(time.Now()),
	}
}

func register(t *testing.T, s *Service, d *directory, name string, mark events.Mark) {
	t.Helper()
	at := holder.Gate{Service: s.shared, Tail: d.life.tail}
	if err := at.Register(t.Context(), client(d, name, s.deps.Node.Site.UUID, mark)); err != nil {
		t.Fatal(err)
	}
}

func stateOf(s *Service, d *directory, name string) events.ClientState {
	for _, f := range s.clients.Of(d.id) {
		if f.Client == name {
			return f.State
		}
	}
	return ""
}

// journal 33, journal 64, journal 300: a client that stands still holds the journal until it is too far
// behind: an alarm comes first, then it is disconnected and named in heads, and the
// journal is trimmed; one that keeps up is not touched. It stays out, whatever it says,
// also after a restart of the owner.
func TestLaggyClientIsDisconnected(t *testing.T) {
	t.Parallel()
	at := sitetest.Start(t, "east")
	s := New(Deps{Bus: at.Bus, Node: at.Node, Log: at.Log, JournalBytesMax: 96 << 20, Lag: LagLimits{grace: 300 * time.Millisecond}})
	stop := sitetest.Run(t, s.Run)
	<-s.Ready()
	d := acquire(t, s)
	noted := lifeTurns(t, at)
	create(t, d, "disk0", 64<<20)
	begin := d.life.tail.Marks().Logged
	register(t, s, d, "east.slow", begin)
	dev := open(t, s, "vms/prod/disk0")
	data := pattern(1, 1<<20)
	for i := range uint64(160) { // more than the journal holds: the writer is never refused
		write(t, dev, data, i%60<<20, false)
		register(t, s, d, "east.fast", d.life.tail.Marks().Logged)
		if i == 30 && stateOf(s, d, "east.slow") != events.ClientConnected {
			t.Fatal("disconnected long before the limit")
		}
	}
	sitetest.Eventually(t, "disconnected", func() bool { return stateOf(s, d, "east.slow") == events.ClientDisconnected })
	if got := stateOf(s, d, "east.fast"); got != events.ClientConnected {
		t.Errorf("the other client is %q", got)
	}
	sitetest.Eventually(t, "both are noted", func() bool {
		return len(noted(events.Lagging)) > 0 && len(noted(events.Disconnected)) > 0
	})
	alarms, ends := noted(events.Lagging), noted(events.Disconnected)
	if len(alarms) != 1 || len(ends) != 1 || !strings.HasPrefix(alarms[0].Detail, "east.slow is ") || ends[0].Mark != begin {
		t.Errorf("alarms %+v, ends %+v", alarms, ends)
	}
	sitetest.Eventually(t, "trimmed past the client", func() bool {
		begins, err := d.life.tail.Begins(t.Context())
		return err == nil && begins > begin.Position
	})
	headNames(t, at, d, "east.slow")
	// It does not know yet, and goes on.
	if _, err := at.Bus.Publish(t.Context(), events.StreamPositions, ptr(client(d, "east.slow", at.Node.Site.UUID, begin))); err != nil {
		t.Fatal(err)
	}
	sitetest.Eventually(t, "the stream says again what was decided", func() bool {
		m, err := at.Bus.Last(t.Context(), events.StreamPositions, events.PositionSubject(d.id, "east.slow"))
		return err == nil && bytes.Contains(m.Data, []byte("disconnected"))
	})
	stop()
	s, _ = start(t, at)
	d = acquire(t, s)
	if got := stateOf(s, d, "east.slow"); got != events.ClientDisconnected {
		t.Errorf("after a restart it is %q", got)
	}
	// journal 299: when it is let in again it is waited for again.
	register(t, s, d, "east.slow", d.life.tail.Marks().Committed)
	if got := stateOf(s, d, "east.slow"); got != events.ClientConnected {
		t.Errorf("let in again it is %q", got)
	}
}

func ptr[T any](v T) *T { return &v }

// headNames demands a head that names a client as disconnected.
func headNames(t *testing.T, at *sitetest.Site, d *directory, name string) {
	t.Helper()
	sub, err := at.Bus.Conn().SubscribeSync(events.HeadSubject(d.id))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	m, err := sub.NextMsg(30 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	f, err := events.Unmarshal(m.Data)
	if err != nil {
		t.Fatal(err)
	}
	if got := f.(*events.HeadAdvanced).Disconnected; !slices.Equal(got, []string{name}) {
		t.Errorf("a head names %v", got)
	}
}

// A client that stood at the head for long is not late the moment that something comes;
// one that leaves it lying is.
func TestAgeCountsFromWhatIsLacking(t *testing.T) {
	t.Parallel()
	at, s, d, _ := owning(t, 1<<20)
	f := client(d, "east.idle", at.Node.Site.UUID, d.life.tail.Marks().Logged)
	f.At = events.InstantOf(time.Now().Add(-30 * day))
	care := newClientCare(d.life)
	ahead := time.Duration(0)
	care.now = func() time.Time { return time.Now().Add(ahead) }
	idle := func() time.Duration {
		t.Helper()
		lag, err := care.lag(t.Context(), f)
		if err != nil || lag.cut {
			t.Fatal(lag.cut, err)
		}
		return lag.idle
	}
	if got := idle(); got != 0 {
		t.Errorf("with nothing to commit it is idle for %v", got)
	}
	write(t, open(t, s, "vms/prod/disk0"), pattern(1, 512), 0, true)
	if got := idle(); got > time.Minute {
		t.Errorf("idle for %v since just now", got)
	}
	ahead = 8 * day
	if got := idle(); got < 8*day || got > 9*day {
		t.Errorf("idle for %v", got)
	}
	if turn, _ := care.limits.decide(lagged{PositionCommitted: f, idle: idle()}, true); turn != lagDisconnect {
		t.Errorf("turn %d", turn)
	}
	f.Mark.Chain++
	if got := idle(); got < 30*day {
		t.Errorf("of another history, and idle for %v", got)
	}
}

// journal 11, journal 14, journal 15, journal 16, journal 17, journal 66, journal 299: what a command may do to clients.
func TestDisconnectAndUnregister(t *testing.T) {
	t.Parallel()
	at, s, d, _ := owning(t, 1<<20)
	disconnect := func(name string) ([]string, fault.Code) {
		done, err := s.clients.Disconnect(t.Context(), at.Bus, d.id, name)
		var names []string
		for _, f := range done {
			names = append(names, f.Client)
		}
		return names, fault.CodeOf(err)
	}
	if names, code := disconnect(""); len(names) != 0 || code != fault.NotFound {
		t.Errorf("nobody: %v, %q", names, code)
	}
	mark := d.life.tail.Marks().Logged
	for _, name := range []string{"east.a", "east.b", "east.c"} {
		register(t, s, d, name, mark)
	}
	for _, c := range []struct {
		name  string
		names []string
		code  fault.Code
	}{
		{"east.x", nil, fault.NotFound},
		{s.clients.Self(), nil, fault.Usage},
		{"east.b", []string{"east.b"}, ""},
		{"east.b", nil, ""}, // again
		{"", []string{"east.a", "east.c"}, ""},
	} {
		if names, code := disconnect(c.name); !slices.Equal(names, c.names) || code != c.code {
			t.Errorf("disconnect %q: %v, %q", c.name, names, code)
		}
	}
	if got := s.clients.Disconnected(d.id); !slices.Equal(got, []string{"east.a", "east.b", "east.c"}) {
		t.Errorf("disconnected: %v", got)
	}
	if err := s.clients.Unregister(t.Context(), at.Bus, d.id, "east.a"); err != nil || stateOf(s, d, "east.a") != "" {
		t.Errorf("unregister: %v", err)
	}
	for _, name := range []string{"east.a", "east.x"} {
		if err := s.clients.Unregister(t.Context(), at.Bus, d.id, name); fault.CodeOf(err) != fault.NotFound {
			t.Errorf("unregister %s, who is none: %v", name, err)
		}
	}
	if _, code := disconnect("east.a"); code != fault.NotFound {
		t.Errorf("disconnect of who is none any more: %q", code)
	}
	register(t, s, d, "east.a", mark)
	if got := stateOf(s, d, "east.a"); got != events.ClientConnected {
		t.Errorf("registered again: %q", got)
	}
}

// A client of a site that is no peer any more is removed.
func TestStrangersAreRemoved(t *testing.T) {
	t.Parallel()
	at := sitetest.Start(t, "east")
	s, _ := start(t, at)
	d := acquire(t, s)
	peer := &events.PeerAdded{Pool: "vms", Peer: "west-uuid"}
	if _, err := at.Bus.Publish(t.Context(), events.StreamPools, peer); err != nil {
		t.Fatal(err)
	}
	sitetest.Eventually(t, "the peer is known", func() bool { return s.clients.Peers.Has("vms", "west-uuid") })
	if err := s.clients.Register(t.Context(), at.Bus, client(d, "west.n", "west-uuid", d.life.tail.Marks().Logged)); err != nil {
		t.Fatal(err)
	}
	care := newClientCare(d.life)
	if err := care.look(t.Context()); err != nil || stateOf(s, d, "west.n") != events.ClientConnected {
		t.Fatalf("a peer's client is %q, %v", stateOf(s, d, "west.n"), err)
	}
	if _, err := at.Bus.Publish(t.Context(), events.StreamPools, &events.PeerRemoved{Pool: "vms", Peer: "west-uuid"}); err != nil {
		t.Fatal(err)
	}
	sitetest.Eventually(t, "its client is removed", func() bool { return stateOf(s, d, "west.n") == "" })
}

// A journal that lost what it had acknowledged is noted, and said with positions.
func TestLostTailIsNoted(t *testing.T) {
	t.Parallel()
	at, s, d, stop := owning(t, 1<<20)
	write(t, open(t, s, "vms/prod/disk0"), pattern(1, 512), 0, true)
	name := d.life.log.Name()
	stop()
	lost := d.life.tail.Marks().Committed.Position
	if err := at.Bus.RemoveLog(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	noted := lifeTurns(t, at)
	s, _ = start(t, at)
	s.start(&events.AcquireRequested{Assignment: events.Assignment{Directory: d.id, Role: events.Master, Epoch: 1}, Pool: "vms", Path: "/prod"})
	sitetest.Eventually(t, "noted", func() bool { return len(noted(events.LostTail)) > 0 })
	got := noted(events.LostTail)[0]
	for _, part := range []string{lost.String(), "is empty", "journal reset", "promote"} {
		if !strings.Contains(got.Detail, part) {
			t.Errorf("%q is not said: %s", part, got.Detail)
		}
	}
}

// What was lost can be given up: the directory goes on from its last checkpoint, in a tag
// that was never given out, and waits for no client.
func TestLostTailIsGivenUp(t *testing.T) {
	t.Parallel()
	at, s, d, stop := owning(t, 1<<20)
	write(t, open(t, s, "vms/prod/disk0"), pattern(1, 4096), 0, true)
	stop()
	name, tag := d.life.log.Name(), d.life.claim.Load().Tag
	if err := at.Bus.RemoveLog(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	for _, lost := range []bool{true, false} { // a journal that was reset is an ordinary one
		s, stop = start(t, at)
		d = s.start(&events.AcquireRequested{Assignment: events.Assignment{Directory: d.id, Role: events.Master, Epoch: 1}, Pool: "vms", Path: "/prod"})
		sitetest.Eventually(t, "reset or open", func() bool {
			if state, _ := d.condition(); state == Ready {
				return true
			}
			_, err := call[api.Nothing](t, at, d, api.JournalReset, api.Nothing{})
			return err == nil
		})
		sitetest.Eventually(t, "open again", func() bool { state, _ := d.condition(); return state == Ready })
		if now := d.life.claim.Load(); now.Tag <= tag || (now.Reason == events.TagLost) != lost {
			t.Errorf("tag %d (%s) was given out after %d", now.Tag, now.Reason, tag)
		} else {
			tag = now.Tag
		}
		dev := open(t, s, "vms/prod/disk0")
		if got := read(t, dev, 0, 4096); !bytes.Equal(got, pattern(1, 4096)) {
			t.Error("what was checkpointed is not there")
		}
		write(t, dev, pattern(2, 4096), 4096, true)
		stop()
	}
}

// Whoever dies after it gave up what was lost says so all the same when it opens, or demotes,
// the directory again: what is in its images is told from what others have by that.
func TestLostTailIsGivenUpBeforeAKill(t *testing.T) {
	t.Parallel()
	for _, demote := range []bool{false, true} {
		at := sitetest.Start(t, "east")
		s, stop := start(t, at)
		d := acquire(t, s)
		create(t, d, "disk0", 1<<20)
		stop()
		if err := at.Bus.RemoveLog(t.Context(), d.life.log.Name()); err != nil {
			t.Fatal(err)
		}
		s, stop = start(t, at)
		again := &events.AcquireRequested{Assignment: events.Assignment{Directory: d.id, Role: events.Master, Epoch: 1}, Pool: "vms", Path: "/prod"}
		if err := newDirectory(s, again).giveUpLost(t.Context()); err != nil {
			t.Fatal(err)
		}
		if demote {
			if _, err := newDirectory(s, again).demote(t.Context()); err != nil {
				t.Fatal(err)
			}
		} else if _, err := s.Acquire(t.Context(), again); err != nil {
			t.Fatal(err)
		}
		stop()
		r, err := replica.Open(vfs.OS(), at.Node.ReplicaDir(d.id))
		if err != nil {
			t.Fatal(err)
		}
		tags := r.Tags()
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if len(tags) < 2 || tags[1].Reason != events.TagLost {
			t.Errorf("demoted %v: the tags are %+v", demote, tags)
		}
	}
}
