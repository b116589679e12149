package policy_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/instance"
	"tidemark/internal/sitetest"
)

// bothOver runs the two services of a node over a link of their own.
func (w *world) bothOver(link *sitetest.Link, node, incarnation string, h *fakeHolder) {
	w.t.Helper()
	for _, service := range []string{events.ServiceJournal, events.ServiceReplayer} {
		b, err := bus.Connect(bus.Config{Name: "test", URL: link.URL, Log: w.log})
		if err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(b.Close)
		n := w.node
		n.Name, n.Incarnation = node, incarnation
		w.run("agent", func(ctx context.Context) error { return instance.Run(ctx, b, n, service, h, w.log) })
	}
}

// bound sets how many bytes POSITIONS may have; -1 is no bound.
func (w *world) bound(bytes int64) {
	w.t.Helper()
	js, err := jetstream.New(w.bus.Conn())
	if err != nil {
		w.t.Fatal(err)
	}
	stream, err := js.Stream(w.t.Context(), events.StreamPositions)
	if err != nil {
		w.t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxBytes = bytes
	if _, err := js.UpdateStream(w.t.Context(), cfg); err != nil {
		w.t.Fatal(err)
	}
}

// shown counts the directories by state and node.
func (w *world) shown() map[string]int {
	w.t.Helper()
	n := map[string]int{}
	for _, d := range call[[]api.Directory](w, api.DirectoryList, api.PoolFilter{}) {
		n[d.State+" "+d.Node]++
	}
	return n
}

// directories 80, 81, 141, 143: one of four nodes is cut off. While the log does not take the
// fences its directories are fencing, recorded to it, and nobody is asked for anything; then
// they are given on with a higher epoch. The link comes back: the node lets go of all of them,
// and lives under another name.
func TestNodeIsCutOff(t *testing.T) {
	const each, nodes = 9, 4
	w := newWorld(t, "east")
	w.startPolicy()
	w.startNotifier()
	link := sitetest.NewLink(t, w.server.URL())
	cut := newFakeHolder()
	w.bothOver(link, "d", "inc-d", cut)
	for _, node := range []string{"a", "b", "c"} {
		w.both(node, "inc-"+node, newFakeHolder())
	}
	w.eventually("all are known", func() bool { return w.count(events.StreamInstances, "instance_added") == 2*nodes })
	call[api.Pool](w, api.PoolCreate, api.Pool{Pool: "vms"})
	for i := range each * nodes {
		id := events.DirectoryID(fmt.Sprintf("%016x", i))
		w.publish(events.StreamDirectories, &events.DirectoryTracked{Directory: id, Pool: "vms", Path: fmt.Sprintf("/%d", i)})
	}
	w.eventually("each has its part", func() bool { return w.shown()["mapped d"] == each && w.shown()["mapped a"] == each })

	tried, err := w.bus.Conn().SubscribeSync(events.FenceSubject("*"))
	if err != nil {
		t.Fatal(err)
	}
	w.bound(1) // full: it takes nothing
	link.Cut()
	w.eventually("they are fencing", func() bool { return w.shown()["fencing d"] == each })
	before := len(w.facts(events.StreamNotifications))
	for range 3 * each { // each is tried again
		if _, err := tried.NextMsg(patience); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.shown(); got["fencing d"] != each || got["mapped a"]+got["mapped b"]+got["mapped c"] != 3*each {
		t.Errorf("while the log takes no fence: %v", got)
	}
	if now := len(w.facts(events.StreamNotifications)); now != before {
		t.Errorf("%d requests while the log takes no fence", now-before)
	}
	w.bound(-1)
	w.eventually("they are given on", func() bool {
		got := w.shown()
		return got["mapped a"]+got["mapped b"]+got["mapped c"] == each*nodes
	})
	for _, d := range call[[]api.Directory](w, api.DirectoryList, api.PoolFilter{}) {
		if d.Epoch > 2 {
			t.Errorf("mapped more than once: %+v", d)
		}
	}
	link.Heal()
	w.eventually("the node is back", func() bool { return w.count(events.StreamInstances, "instance_added") == 2*nodes+2 })
	released := 0
	for _, what := range cut.log() {
		if strings.HasPrefix(what, "release") {
			released++
		}
	}
	if released != each {
		t.Errorf("it let go of %d directories, of %d: %q", released, each, cut.log())
	}
}

// directories 91: a node that answers nothing delays neither that another is found dead, nor
// what becomes of its directories.
func TestHungNodeDelaysNobody(t *testing.T) {
	w := newWorld(t, "east")
	w.startPolicy()
	w.startNotifier()
	hung, hang := newFakeHolder(), make(chan struct{})
	defer close(hang)
	hung.set(func(*events.AcquireRequested) error { <-hang; return nil }, nil)
	w.both("a", "inc-a", hung)
	w.eventually("a is known", func() bool { return w.count(events.StreamInstances, "instance_added") == 2 })
	call[api.Pool](w, api.PoolCreate, api.Pool{Pool: "vms"})
	track := func(i int) {
		w.publish(events.StreamDirectories, &events.DirectoryTracked{
			Directory: events.DirectoryID(fmt.Sprintf("%016x", i)), Pool: "vms", Path: fmt.Sprintf("/%d", i),
		})
	}
	track(1)
	w.eventually("a hangs", func() bool { return len(hung.log()) == 1 })
	link := sitetest.NewLink(t, w.server.URL())
	w.bothOver(link, "b", "inc-b", newFakeHolder())
	w.both("c", "inc-c", newFakeHolder())
	w.eventually("all are known", func() bool { return w.count(events.StreamInstances, "instance_added") == 6 })
	track(2)
	w.eventually("b has one", func() bool { return w.shown()["mapped b"] == 1 })
	link.BlackHole()
	w.eventually("c has it", func() bool { return w.shown()["mapped c"] == 1 })
}

// The policy dies after the fence and before it could say so: the next one finds the fence,
// and goes on. Two policies fence once.
func TestFenceIsFound(t *testing.T) {
	w := newWorld(t, "east")
	_, stop := w.startPolicy()
	w.startNotifier()
	end := w.startAgent("a", "inc-a", events.ServiceReplayer, newFakeHolder())
	w.eventually("a is known", func() bool { return w.count(events.StreamInstances, "instance_added") == 1 })
	call[api.Pool](w, api.PoolCreate, api.Pool{Pool: "vms"})
	const id events.DirectoryID = "0123456789abcdef"
	w.publish(events.StreamDirectories, &events.DirectoryTracked{Directory: id, Pool: "vms", Path: "/d"})
	w.eventually("a has it", func() bool { return w.shown()["mapped a"] == 1 })
	stop()
	end()
	w.eventually("a is gone", func() bool { return w.count(events.StreamInstances, "instance_removed") == 1 })
	w.publish(events.StreamPositions, &events.PositionsFenced{Directory: id, Epoch: 1})
	before, err := w.bus.Last(t.Context(), events.StreamPositions, events.FenceSubject(id))
	if err != nil {
		t.Fatal(err)
	}
	w.startPolicy()
	w.startPolicy()
	w.startAgent("b", "inc-b", events.ServiceReplayer, newFakeHolder())
	w.eventually("b has it", func() bool { return w.shown()["mapped b"] == 1 })
	after, err := w.bus.Last(t.Context(), events.StreamPositions, events.FenceSubject(id))
	if err != nil || after.Sequence != before.Sequence {
		t.Errorf("fenced again: message %d after %d, %v", after.Sequence, before.Sequence, err)
	}
	if n := w.count(events.StreamDirectories, "directory_fenced"); n != 1 {
		t.Errorf("%d times called fenced", n)
	}
}
