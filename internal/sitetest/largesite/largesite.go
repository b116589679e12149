// Package largesite makes a site of many directories and nodes for tests, in the test's own process.
package largesite

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/holder"
	"tidemark/internal/instance"
	"tidemark/internal/site"
	"tidemark/internal/sitetest"
)

// Site is a site with many directories, all held by nodes that are simulated: they answer
// like nodes and hold nothing.
type Site struct {
	Pool  string
	site  *sitetest.Site
	nodes int

	mu        sync.Mutex
	standings map[string][]api.Standing // by node
}

// publishers is how many facts are published at a time: each waits to be synced.
const publishers = 32

// New fills a site with directories that follow site "west", spread over nodes.
func New(t testing.TB, s *sitetest.Site, directories, nodes int) *Site {
	t.Helper()
	l := &Site{Pool: "vms", site: s, nodes: nodes, standings: map[string][]api.Standing{}}
	publish := func(stream string, f events.Fact) {
		if _, err := s.Bus.Publish(t.Context(), stream, f); err != nil {
			t.Errorf("publish %s: %v", f.Kind(), err)
		}
	}
	publish(events.StreamPools, &events.PoolCreated{Pool: l.Pool})
	for n := range nodes {
		for _, service := range []string{events.ServiceJournal, events.ServiceReplayer} {
			publish(events.StreamInstances, &events.InstanceAdded{
				Node: nodeName(n), Service: service, Incarnation: "one", At: events.InstantOf(time.Now()),
			})
		}
	}
	slots := make(chan struct{}, publishers)
	var publishing sync.WaitGroup
	for i := range directories {
		name, node := events.DirectoryName{Pool: l.Pool, Path: fmt.Sprintf("/d%05d", i)}, nodeName(i%nodes)
		id := events.DirectoryID(fmt.Sprintf("%016x", i))
		l.standings[node] = append(l.standings[node], standingOf(id, name, node))
		slots <- struct{}{}
		publishing.Go(func() {
			defer func() { <-slots }()
			a := events.Assignment{Operation: "o" + string(id), Directory: id, Node: node, Incarnation: "one", Role: events.Slave, Epoch: 1}
			publish(events.StreamDirectories, &events.DirectoryTracked{Directory: id, Pool: name.Pool, Path: name.Path})
			publish(events.StreamDirectories, &events.DirectoryMapped{Directory: id, Pool: name.Pool, Node: node, Role: events.Slave, Epoch: 1})
			publish(events.StreamNotifications, &events.AcquireRequested{Assignment: a, Pool: name.Pool, Path: name.Path})
			publish(events.StreamNotifications, &events.AcquireAcknowledged{Assignment: a})
		})
	}
	publishing.Wait()
	for n := range nodes {
		l.run(t, nodeName(n))
	}
	return l
}

func nodeName(n int) string { return fmt.Sprintf("node%02d", n) }

func standingOf(id events.DirectoryID, name events.DirectoryName, node string) api.Standing {
	at := events.Mark{Position: events.At(4097, 12345), Entries: 12345, Bytes: 1 << 30}
	return api.Standing{Status: api.Status{
		ID: id, Name: name.String(), Node: node, Role: events.Slave, State: "replaying", Primary: "west", Owner: "west",
		Tag: 4097, Position: at, Safe: at, Applied: at, Committed: at, Clients: []api.Client{}, Durability: "sync",
		Stream: events.JournalStream(name, id), Bytes: 1 << 20, BytesLimit: 16 << 30, Ahead: &api.Ahead{},
	}}
}

// run simulates a node until the test ends.
func (l *Site) run(t testing.TB, node string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	var stops []func()
	for _, service := range []string{events.ServiceJournal, events.ServiceReplayer} {
		stop, err := api.Serve(ctx, l.site.Bus.Conn(), l.site.Log, holder.Reporting(node, service, func() []api.Standing {
			return l.of(node, service)
		}))
		if err != nil {
			t.Fatal(err)
		}
		stops = append(stops, stop)
		running.Go(func() {
			self := site.Node{Site: l.site.Node.Site, Name: node, Incarnation: "one"}
			if err := instance.Run(ctx, l.site.Bus, self, service, simulated{}, l.site.Log); err != nil {
				t.Errorf("node %s: %v", node, err)
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		running.Wait()
		for _, stop := range stops {
			stop()
		}
	})
}

func (l *Site) of(node, service string) []api.Standing {
	l.mu.Lock()
	defer l.mu.Unlock()
	if service != events.ServiceReplayer {
		return nil
	}
	return append([]api.Standing{}, l.standings[node]...)
}

// Change changes what the holder of directory i says of it from now on.
func (l *Site) Change(i int, change func(*api.Standing)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(&l.standings[nodeName(i%l.nodes)][i/l.nodes])
}

// simulated is a holder that does what it is told at once.
type simulated struct{}

func (simulated) Acquire(context.Context, *events.AcquireRequested) (events.Mark, error) {
	return events.Mark{}, nil
}

func (simulated) Release(context.Context, *events.ReleaseRequested) (events.Mark, bool, error) {
	return events.Mark{}, true, nil
}
