package policy_test

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/sitetest"
)

// elsewhere is another site: what it says of its copy of any directory.
type elsewhere struct {
	*world
	mu        sync.Mutex
	directory api.Directory
	status    api.Status
}

func newElsewhere(t *testing.T) *elsewhere {
	e := &elsewhere{world: newWorld(t, "elsewhere"), directory: api.Directory{ID: "1", Role: events.Slave}, status: api.Status{Stream: "open"}}
	e.answer(func(context.Context, events.DirectoryName) (api.Directory, error) {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.directory, nil
	})
	e.stands(e.directory.ID, func() api.Status {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.status
	})
	return e
}

func (e *elsewhere) set(change func(*api.Directory, *api.Status)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change(&e.directory, &e.status)
}

// stands answers for the holder of a directory.
func (w *world) stands(id events.DirectoryID, status func() api.Status) {
	w.t.Helper()
	stop, err := api.Serve(context.Background(), w.bus.Conn(), w.log,
		api.On(api.HolderSubject(id, api.DirectoryStatus), func(context.Context, api.Nothing) (api.Status, error) { return status(), nil }))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(stop)
}

func markAt(tag events.Tag, entry uint32, chain events.Chain) events.Mark {
	return events.Mark{Position: events.At(tag, entry), Chain: chain}
}

// An orderly promotion asks the pool's other sites: it is refused while one of them is
// primary, is being promoted, or cannot be asked.
func TestPromotionNeedsConsent(t *testing.T) {
	w, _ := startAll(t, "west")
	other := newElsewhere(t)
	w.peer("vms", other.world)
	name := dir("vms", "/db")
	d := call[api.Directory](w, api.MirrorAdd, name)
	here := markAt(5, 7, 1)
	w.stands(d.ID, func() api.Status { return api.Status{Stream: "open", Position: here} })
	refused := func(code fault.Code, words ...string) {
		t.Helper()
		w.refused(code, api.MirrorPromote, api.Promote{DirectoryName: name}, words...)
		if d := w.state(name); d.Promoting || d.Role != events.Slave {
			t.Errorf("after a refusal: %+v", d)
		}
	}
	other.set(func(d *api.Directory, _ *api.Status) { d.Role = events.Master })
	refused(fault.Busy, "elsewhere is primary", "--force")
	other.set(func(d *api.Directory, _ *api.Status) { d.Role, d.Promoting = events.Slave, true })
	refused(fault.Busy, "elsewhere is being promoted")
	// journal 211; catalogue 3.4's weak point: the last demotion is another one than the
	// one that arrived here.
	other.set(func(d *api.Directory, s *api.Status) { d.Promoting, s.Position = false, markAt(6, 1, 2) })
	refused(fault.Busy, "elsewhere has more of its history", "6.1", "5.7")
	other.set(func(_ *api.Directory, s *api.Status) { s.Position = markAt(5, 7, 2) })
	refused(fault.SplitBrain, "have parted before position 5.7")
	other.set(func(_ *api.Directory, s *api.Status) { *s = api.Status{State: "error", Error: "no disk"} })
	refused(fault.Busy, "cannot be asked", "no disk")
	other.set(func(_ *api.Directory, s *api.Status) { *s = api.Status{Stream: "open", Position: markAt(5, 6, 3)} }) // behind
	if d := call[api.Directory](w, api.MirrorPromote, api.Promote{DirectoryName: name}); d.Role != events.Master {
		t.Errorf("promoted: %+v", d)
	}
	w.refused(fault.Busy, api.MirrorPromote, api.Promote{DirectoryName: name}, "already primary")
	call[api.Directory](w, api.MirrorDemote, name)
	other.server.Stop()
	refused(fault.Busy, "cannot be asked", "--force")
	if d := call[api.Directory](w, api.MirrorPromote, api.Promote{DirectoryName: name, Force: true}); d.Role != events.Master {
		t.Errorf("promoted by force: %+v", d)
	}
}

// What another site has and this one lacks is waited for a moment.
func TestPromotionWaitsForTheDemotion(t *testing.T) {
	w, _ := startAll(t, "west")
	other := newElsewhere(t)
	w.peer("vms", other.world)
	other.set(func(_ *api.Directory, s *api.Status) { s.Position = markAt(6, 1, 2) })
	d := call[api.Directory](w, api.MirrorAdd, dir("vms", "/db"))
	var asked int
	var mu sync.Mutex
	w.stands(d.ID, func() api.Status {
		mu.Lock()
		defer mu.Unlock()
		if asked++; asked < 5 {
			return api.Status{Stream: "open", Position: markAt(5, 7, 1)}
		}
		return api.Status{Stream: "open", Position: markAt(6, 1, 2)}
	})
	if d := call[api.Directory](w, api.MirrorPromote, api.Promote{DirectoryName: dir("vms", "/db")}); d.Role != events.Master {
		t.Errorf("promoted: %+v", d)
	}
}

// A holder that meets the question while it ends, as when a demotion hands the directory over,
// is no reason to refuse: who follows it is asked.
func TestPromotionAsksWhoFollows(t *testing.T) {
	w, _ := startAll(t, "west")
	other := newElsewhere(t)
	w.peer("vms", other.world)
	other.set(func(d *api.Directory, _ *api.Status) { d.ID = "handed-over" })
	var asked atomic.Int64
	stop, err := api.Serve(context.Background(), other.bus.Conn(), other.log,
		api.On(api.HolderSubject("handed-over", api.DirectoryStatus), func(context.Context, api.Nothing) (api.Status, error) {
			if asked.Add(1) == 1 {
				return api.Status{}, fault.New(fault.NotReady, "stopping")
			}
			return api.Status{Stream: "open"}, nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	call[api.Directory](w, api.MirrorAdd, dir("vms", "/db"))
	if d := call[api.Directory](w, api.MirrorPromote, api.Promote{DirectoryName: dir("vms", "/db")}); d.Role != events.Master || asked.Load() != 2 {
		t.Errorf("promoted: %+v, asked %d times", d, asked.Load())
	}
}

// A site that is out of reach costs a promotion with force nothing, and one without two
// seconds.
func TestPromotionWithABlackHole(t *testing.T) {
	hole, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hole.Close() })
	w, _ := startAll(t, "west")
	call[api.Pool](w, api.PoolCreate, api.Pool{Pool: "vms"})
	call[api.Pool](w, api.MirrorEnable, api.Pool{Pool: "vms"})
	for _, peer := range []string{"beef", "cafe"} {
		w.publish(events.StreamPools, &events.PeerAdded{Pool: "vms", Peer: peer, Site: peer, URL: "nats://" + hole.Addr().String()})
	}
	name := dir("vms", "/db")
	call[api.Directory](w, api.MirrorAdd, name)
	start := time.Now()
	w.refused(fault.Busy, api.MirrorPromote, api.Promote{DirectoryName: name}, "cannot be asked")
	sitetest.Prompt(t, "a refusal", start, 4*time.Second)
	start = time.Now()
	call[api.Directory](w, api.MirrorPromote, api.Promote{DirectoryName: name, Force: true})
	sitetest.Prompt(t, "a promotion by force", start, time.Second)
}

// Two sites are promoted in order at the same moment, each by two policies: at most one
// of them is.
func TestSimultaneousPromotions(t *testing.T) {
	sites := []*world{newWorld(t, "east"), newWorld(t, "west")}
	name := dir("vms", "/db")
	for i, w := range sites {
		w.startPolicy()
		w.startPolicy()
		w.startNotifier()
		w.both("node-1", "inc-1", newFakeHolder())
		w.peer("vms", sites[1-i])
		d := call[api.Directory](w, api.MirrorAdd, name)
		w.awaitState(name, "mapped", events.Slave)
		w.stands(d.ID, func() api.Status { return api.Status{Stream: "open", Position: markAt(5, 7, 1)} })
	}
	// A busy machine may not answer within the two seconds that a site is given.
	reasons := []string{"is being promoted at this moment", "is primary of it", "may be primary and cannot be asked"}
	successes := 0
	for round := range 15 {
		errs := make([]error, len(sites))
		var both sync.WaitGroup
		for i, w := range sites {
			both.Go(func() {
				<-time.After(time.Duration(i*round) * time.Millisecond)
				_, errs[i] = try[api.Directory](w, api.MirrorPromote, api.Promote{DirectoryName: name})
			})
		}
		both.Wait()
		if errs[0] == nil && errs[1] == nil {
			t.Fatalf("round %d: both sites are primary", round)
		}
		for i, err := range errs {
			switch {
			case err == nil:
				successes++
				call[api.Directory](sites[i], api.MirrorDemote, name)
			case fault.CodeOf(err) != fault.Busy || !slices.ContainsFunc(reasons, func(r string) bool { return strings.Contains(err.Error(), r) }):
				t.Errorf("round %d: %v", round, err)
			}
		}
	}
	// A proposal that was refused does not stand in the way of the next one.
	sites[1].eventually("promoted", func() bool {
		_, err := try[api.Directory](sites[1], api.MirrorPromote, api.Promote{DirectoryName: name})
		if err != nil && !strings.Contains(err.Error(), reasons[2]) {
			t.Fatal(err)
		}
		return err == nil
	})
	t.Logf("%d of 15 rounds had a winner", successes)
}
