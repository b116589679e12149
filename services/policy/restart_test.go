package policy_test

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/services/policy"
)

// A restart of policy and notifier sends nothing again. directories 92, 131.
func TestRestartSendsNothingAgain(t *testing.T) {
	w := newWorld(t, "east")
	_, stopPolicy := w.startPolicy()
	_, stopNotifier := w.startNotifier()
	h := newFakeHolder()
	w.both("node-1", "inc-1", h)
	call[api.Pool](w, api.PoolCreate, api.Pool{Pool: "vms"})
	for i := range 5 {
		name := dir("vms", fmt.Sprintf("/d%d", i))
		call[api.Directory](w, api.DirectoryCreate, name)
		w.awaitState(name, "mapped", events.Master)
	}
	before := call[[]api.Directory](w, api.DirectoryList, api.PoolFilter{})
	asked := h.log()
	lengths := w.lengths()

	stopPolicy()
	stopNotifier()
	w.startPolicy()
	w.startNotifier()
	after := call[[]api.Directory](w, api.DirectoryList, api.PoolFilter{})
	if !reflect.DeepEqual(before, after) {
		t.Errorf("before %+v\nafter  %+v", before, after)
	}
	// One more directory proves that both are at work again.
	call[api.Directory](w, api.DirectoryCreate, dir("vms", "/after"))
	w.awaitState(dir("vms", "/after"), "mapped", events.Master)
	if got := h.log(); len(got) != len(asked)+1 {
		t.Errorf("asked again: %q", got[len(asked):])
	}
	lengths[events.StreamDirectories] += 2
	lengths[events.StreamNotifications] += 2
	if got := w.lengths(); !reflect.DeepEqual(got, lengths) {
		t.Errorf("streams hold %v facts, want %v", got, lengths)
	}
}

func (w *world) lengths() map[string]int {
	n := map[string]int{}
	for _, s := range []string{events.StreamDirectories, events.StreamNotifications, events.StreamInstances} {
		n[s] = len(w.facts(s))
	}
	return n
}

// A node starts again: its directories are acquired again, under an epoch of their own.
func TestNodeStartsAgain(t *testing.T) {
	w := newWorld(t, "east")
	w.startPolicy()
	w.startNotifier()
	h := newFakeHolder()
	stop := w.both("node-1", "inc-1", h)
	call[api.Pool](w, api.PoolCreate, api.Pool{Pool: "vms"})
	name := dir("vms", "/db")
	call[api.Directory](w, api.DirectoryCreate, name)
	w.awaitState(name, "mapped", events.Master)
	stop()
	w.awaitState(name, "stalled", events.Master)
	w.both("node-1", "inc-2", h)
	d := w.awaitState(name, "mapped", events.Master)
	if d.Epoch != 2 || len(h.log()) != 2 {
		t.Errorf("after the restart: %+v, asked %q", d, h.log())
	}
}

// A node is taken for dead: it is fenced and another takes over, with a higher epoch. It
// goes on, finds that, lets go of everything, and comes back only then, as a new
// incarnation. directories 81, 101, 134, 143.
func TestSilentNode(t *testing.T) {
	w := newWorld(t, "east")
	w.startPolicy()
	w.startNotifier()
	a, b := newFakeHolder(), newFakeHolder()
	w.both("a", "inc-a", a)
	w.eventually("a is known", func() bool { return w.count(events.StreamInstances, "instance_added") == 2 })
	call[api.Pool](w, api.PoolCreate, api.Pool{Pool: "vms"})
	name := dir("vms", "/db")
	d := call[api.Directory](w, api.DirectoryCreate, name)
	if d.Node != "a" {
		t.Fatalf("created: %+v", d)
	}
	letGo := make(chan struct{})
	a.set(nil, func(*events.ReleaseRequested) (bool, error) { <-letGo; return true, nil })
	w.both("b", "inc-b", b)
	w.eventually("b is known", func() bool { return w.count(events.StreamInstances, "instance_added") == 4 })
	// What the notifier would say, had it not heard a for too long: the agent itself
	// goes on, as a stopped process does when it is continued.
	w.publish(events.StreamInstances, &events.InstanceRemoved{Node: "a", Service: events.ServiceJournal, Incarnation: "inc-a", Reason: "silent"})
	w.eventually("b holds it", func() bool { d = w.state(name); return d.Node == "b" && d.Epoch == 2 })
	w.eventually("a lets go", func() bool {
		return reflect.DeepEqual(a.log(), []string{"acquire /db master -", "release /db master"})
	})
	if n := w.count(events.StreamInstances, "instance_added"); n != 4 {
		t.Errorf("a was added again before it had let go: %d were added", n)
	}
	close(letGo)
	w.eventually("a is back", func() bool { return w.count(events.StreamInstances, "instance_added") == 5 })
	back := w.facts(events.StreamInstances)
	if f := back[len(back)-1].(*events.InstanceAdded); f.Node != "a" || f.Incarnation == "inc-a" {
		t.Errorf("it came back as %+v", f)
	}
	w.awaitState(name, "mapped", events.Master)
	if got := b.log(); len(got) != 1 {
		t.Errorf("b was asked %q", got)
	}
	if got := w.count(events.StreamDirectories, "directory_fenced"); got != 1 {
		t.Errorf("fenced %d times", got)
	}
}

// Requests to an incarnation that died are answered in its place. directories 100.
func TestDeadIncarnation(t *testing.T) {
	w := newWorld(t, "east")
	w.startPolicy()
	w.startNotifier()
	h := newFakeHolder()
	hang := make(chan struct{})
	h.set(func(*events.AcquireRequested) error { <-hang; return nil }, nil)
	journal := w.startAgent("node-1", "inc-1", events.ServiceJournal, h)
	call[api.Pool](w, api.PoolCreate, api.Pool{Pool: "vms"})
	name := dir("vms", "/db")
	go func() { _, _ = try[api.Directory](w, api.DirectoryCreate, name) }()
	w.eventually("the acquire hangs", func() bool { return len(h.log()) == 1 })
	w.publish(events.StreamInstances, &events.InstanceRemoved{Node: "node-1", Service: events.ServiceJournal, Incarnation: "inc-1", Reason: "silent"})
	w.eventually("the notifier answers", func() bool {
		for _, f := range w.facts(events.StreamNotifications) {
			if ack, ok := f.(*events.AcquireAcknowledged); ok {
				return ack.Code == string(fault.Fenced) && ack.Incarnation == "inc-1"
			}
		}
		return false
	})
	close(hang)
	journal()
	w.startAgent("node-1", "inc-2", events.ServiceJournal, h)
	w.awaitState(name, "mapped", events.Master)
}

// Two policies at once: every command takes effect once, and nothing is asked twice.
func TestTwoPolicies(t *testing.T) {
	w, h := startAll(t, "east")
	w.startPolicy()
	call[api.Pool](w, api.PoolCreate, api.Pool{Pool: "vms"})
	const directories, writers = 10, 4
	results := make(chan error, directories*writers)
	for i := range directories {
		for range writers {
			go func() {
				_, err := try[api.Directory](w, api.DirectoryCreate, dir("vms", fmt.Sprintf("/d%d", i)))
				results <- err
			}()
		}
	}
	created := 0
	for range directories * writers {
		switch err := <-results; fault.CodeOf(err) {
		case "":
			created++
		case fault.Exists:
		default:
			t.Error(err)
		}
	}
	if created != directories {
		t.Errorf("%d creations succeeded, want %d", created, directories)
	}
	for i := range directories {
		w.awaitState(dir("vms", fmt.Sprintf("/d%d", i)), "mapped", events.Master)
	}
	for i := range directories {
		acquires := 0
		for _, asked := range h.log() {
			if strings.HasPrefix(asked, fmt.Sprintf("acquire /d%d ", i)) {
				acquires++
			}
		}
		if acquires != 1 {
			t.Errorf("/d%d was acquired %d times", i, acquires)
		}
	}
	if n := w.count(events.StreamDirectories, "directory_mapped"); n != directories {
		t.Errorf("%d mappings, want %d", n, directories)
	}
	// Reads at either are as new as the last answer of the other.
	for i := range 20 {
		pool := fmt.Sprintf("pool-%d", i)
		call[api.Pool](w, api.PoolCreate, api.Pool{Pool: pool})
		w.refused(fault.Exists, api.PoolCreate, api.Pool{Pool: pool})
		call[[]api.Directory](w, api.DirectoryList, api.PoolFilter{Pool: pool})
	}
}

// No live node: the command succeeds, the directory waits. directories 83, 86, 106.
func TestStalled(t *testing.T) {
	w := newWorld(t, "west")
	w.startPolicy()
	w.startNotifier()
	w.mirroredPool("vms")
	name := dir("vms", "/db")
	if d := call[api.Directory](w, api.MirrorAdd, name); d.State != "stalled" {
		t.Errorf("added: %+v", d)
	}
	w.refused(fault.NotReady, api.MirrorPromote, api.Promote{DirectoryName: name}, "journal")
	call[api.Nothing](w, api.MirrorRemove, name)
	w.refused(fault.NotFound, api.DirectoryResolve, name)
	call[api.Directory](w, api.MirrorAdd, name)
	w.both("node-1", "inc-1", newFakeHolder())
	w.awaitState(name, "mapped", events.Slave)
}

// Garbage in the streams is skipped; it stops nobody. directories 134.
func TestGarbageInStreams(t *testing.T) {
	w, _ := startAll(t, "east")
	for _, subject := range []string{"tidemark.pool.x", "tidemark.directory.x", "tidemark.instance.x", "tidemark.notify.x", "tidemark.ack.x", "tidemark.heartbeat.x.y"} {
		for _, body := range []string{"", "garbage", "\x93\x02\xa3odd\x80", "\xdd\xff\xff\xff\xff"} {
			if err := w.bus.Conn().Publish(subject, []byte(body)); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.publish(events.StreamDirectories, &events.DirectoryCreated{Directory: "a.b>*", Pool: "vms", Path: "../.."})
	w.publish(events.StreamDirectories, &events.DirectoryMapped{Directory: "unknown", Pool: "vms", Epoch: 7})
	w.publish(events.StreamNotifications, &events.AcquireRequested{Assignment: events.Assignment{Operation: "x", Directory: "unknown", Node: "nobody"}})
	w.publish(events.StreamPools, &events.PeerAdded{Pool: "nowhere"})
	call[api.Pool](w, api.PoolCreate, api.Pool{Pool: "vms"})
	call[api.Directory](w, api.DirectoryCreate, dir("vms", "/db"))
	w.awaitState(dir("vms", "/db"), "mapped", events.Master)
	// Everything reads the same garbage again after a restart.
	p := policy.New(policy.Deps{Bus: w.connect(), Node: w.node, Log: w.log})
	w.run("policy", p.Run)
	w.ready("policy", p.Ready())
}

// The log does not answer while a command is made: the command fails in time, and the
// services go on when it is back.
func TestCancelledRequest(t *testing.T) {
	w, _ := startAll(t, "east")
	ctx, cancel := context.WithTimeout(context.Background(), time.Nanosecond)
	defer cancel()
	_, err := api.Call[api.Pool](ctx, w.bus.Conn(), api.PoolCreate, api.Pool{Pool: "vms"})
	if fault.CodeOf(err) != fault.Timeout {
		t.Errorf("got %v", err)
	}
}
