package policy_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/instance"
	"tidemark/internal/natsd"
	"tidemark/internal/site"
	"tidemark/internal/sitetest"
	"tidemark/services/notifier"
	"tidemark/services/policy"
)

// scale is how large a site a measurement runs.
type scale struct{ directories, nodes, commands int }

// scaleOfTest is the whole size with TIDEMARK_NUMBERS, and a small one without.
func scaleOfTest() scale {
	if os.Getenv("TIDEMARK_NUMBERS") != "" {
		return scale{10_000, 50, 100}
	}
	return scale{400, 8, 10}
}

// scaled is a site on disk whose streams are synced as serve syncs them, with nodes that
// answer at once.
type scaled struct {
	*world
	size     scale
	registry *prometheus.Registry
	policy   func() // stops it
	nodes    []func()
	holders  []*fakeHolder
}

func newScaled(t *testing.T, size scale) *scaled {
	server, err := natsd.Start(t.Context(), natsd.Config{Name: "west", Dir: t.TempDir(), Listen: "127.0.0.1:0", Sync: natsd.SyncFiles, Log: testLog()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	w := &world{t: t, server: server, log: testLog(), read: map[string]uint64{}, known: map[string][]events.Fact{}}
	w.bus = w.connect()
	if err := w.bus.EnsureStreams(t.Context(), events.SiteStreams()); err != nil {
		t.Fatal(err)
	}
	who, err := site.Identify(t.Context(), w.bus, "west")
	if err != nil {
		t.Fatal(err)
	}
	w.node = site.Node{Site: who, Name: "node-1", Incarnation: "inc-1", URL: server.URL()}
	return &scaled{world: w, size: size}
}

// synced connects as a service of serve does.
func (s *scaled) synced() *bus.Bus {
	s.t.Helper()
	b, err := bus.Connect(bus.Config{
		Name: "test", Syncer: s.server, Dial: s.server.Dial, Options: []nats.Option{s.server.InProcess()}, Log: s.log,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(b.Close)
	return b
}

// runPolicy starts a policy and says how long it took to be ready.
func (s *scaled) runPolicy() time.Duration {
	s.t.Helper()
	s.registry = prometheus.NewRegistry()
	p := policy.New(policy.Deps{Bus: s.synced(), Node: s.node, Log: s.log, Metrics: s.registry})
	start := time.Now()
	s.policy = s.run("policy", p.Run)
	s.ready("policy", p.Ready())
	return time.Since(start)
}

func (s *scaled) runNotifier() {
	s.t.Helper()
	n := notifier.New(notifier.Deps{Bus: s.synced(), Node: s.node, Log: s.log, Silence: time.Minute})
	s.run("notifier", n.Run)
	s.ready("notifier", n.Ready())
}

func (s *scaled) runNodes() {
	s.t.Helper()
	b := s.synced()
	for i := range s.size.nodes {
		h := newFakeHolder()
		node := s.node
		node.Name, node.Incarnation = fmt.Sprintf("n%02d", i), "inc-1"
		s.holders = append(s.holders, h)
		s.nodes = append(s.nodes, s.run("agent", func(ctx context.Context) error {
			return instance.Run(ctx, b, node, events.ServiceReplayer, h, s.log)
		}))
	}
}

// track fills the log with directories that are followed.
func (s *scaled) track() {
	s.t.Helper()
	s.publish(events.StreamPools, &events.PoolCreated{Pool: "vms"})
	s.publish(events.StreamPools, &events.MirrorEnabled{Pool: "vms"})
	s.publish(events.StreamPools, &events.PeerAdded{
		Pool: "vms", Peer: "beef", Site: "elsewhere", URL: "nats://127.0.0.1:1", Direction: events.ReceiveAndSend,
	})
	for i := range s.size.directories {
		s.publish(events.StreamDirectories, &events.DirectoryTracked{
			Directory: events.DirectoryID(fmt.Sprintf("%016x", i)), Pool: "vms", Path: fmt.Sprintf("/d%d", i),
		})
	}
}

// loseNode ends a node and returns how long after the log says so the last of its
// directories is mapped to another, and how many there were.
func (s *scaled) loseNode(i int) (took time.Duration, moved int) {
	s.t.Helper()
	name := fmt.Sprintf("n%02d", i)
	before := len(s.facts(events.StreamDirectories))
	lost := len(s.heldAt(i))
	s.nodes[i]()
	s.eventually("the dead node's directories are mapped elsewhere", func() bool {
		return s.count(events.StreamDirectories, "directory_mapped") >= s.size.directories+lost
	})
	var gone, last events.Instant
	for _, f := range s.facts(events.StreamInstances) {
		if f, ok := f.(*events.InstanceRemoved); ok && f.Node == name {
			gone = f.At
		}
	}
	for _, f := range s.facts(events.StreamDirectories)[before:] {
		if f, ok := f.(*events.DirectoryMapped); ok {
			last = max(last, f.At)
			moved++
		}
	}
	return last.Sub(gone), moved
}

func (s *scaled) heldAt(i int) []events.DirectoryID {
	h := s.holders[i]
	h.mu.Lock()
	defer h.mu.Unlock()
	var ids []events.DirectoryID
	for id := range h.held {
		ids = append(ids, id)
	}
	return ids
}

// command returns the median time of a command while nodes come and go.
func (s *scaled) commandTimes(subject string, during func()) time.Duration {
	s.t.Helper()
	var load sync.WaitGroup
	load.Go(during)
	defer load.Wait()
	var took []time.Duration
	for i := range s.size.commands {
		start := time.Now()
		if _, err := try[any](s.world, subject, dir("vms", fmt.Sprintf("/new%d", i))); err != nil {
			s.t.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took[len(took)/2]
}

func (s *scaled) allMapped() {
	s.t.Helper()
	deadline := time.Now().Add(5 * time.Minute)
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for gauge(s.t, s.registry, "mapped") != s.size.directories {
		if time.Now().After(deadline) {
			s.t.Fatalf("%d of %d are mapped", gauge(s.t, s.registry, "mapped"), s.size.directories)
		}
		<-tick.C
	}
}

// A site of many nodes and directories: what a death, a restart and a command take. With
// TIDEMARK_NUMBERS it is 10,000 directories over 50 nodes, and the figures are demanded.
func TestScaleNumbers(t *testing.T) {
	size := scaleOfTest()
	s := newScaled(t, size)
	s.track()
	s.runPolicy()
	s.runNotifier()
	start := time.Now()
	s.runNodes()
	s.allMapped()
	t.Logf("%d directories over %d nodes: mapped and acquired in %s", size.directories, size.nodes, time.Since(start))

	took, moved := s.loseNode(1)
	t.Logf("a node of %d directories died: mapped elsewhere within %s", moved, took)
	s.demand(took, 2*time.Second, "a dead node's directories are mapped elsewhere")
	s.allMapped()

	add := s.commandTimes(api.MirrorAdd, func() { s.nodes[2]() })
	t.Logf("an add took %s (median of %d) while another node died", add, size.commands)
	s.demand(add, 50*time.Millisecond, "an add")
	remove := s.commandTimes(api.MirrorRemove, func() { s.nodes[3]() })
	t.Logf("a remove took %s (median of %d) while another node died", remove, size.commands)
	s.demand(remove, 50*time.Millisecond, "a remove")
	s.allMapped()

	s.policy()
	restart := s.runPolicy()
	t.Logf("policy was ready %s after it was started again", restart)
	s.demand(restart, 3*time.Second, "a restart")
	s.allMapped()
}

func (s *scaled) demand(got, most time.Duration, what string) {
	s.t.Helper()
	sitetest.Within(s.t, what, got, most)
}
