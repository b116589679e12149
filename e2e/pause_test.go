package e2e_test

import (
	"path/filepath"
	"strings"
	"testing"

	"tidemark/events"
	"tidemark/internal/sitetest"
)

// nodes is a site whose log, policy and notifier are one process, and whose nodes, which
// follow directories, are one each.
type nodes struct {
	*site
	parts map[string]*process // by node
}

func newNodes(t *testing.T, name string, names ...string) *nodes {
	t.Helper()
	s := newSite(t, name)
	n := &nodes{s, map[string]*process{}}
	s.process = s.serve("log", "--services", "journal,policy,notifier", "--nats-listen", s.nats, "--nbd", "unix:"+s.socket, "--http", s.http)
	s.awaitReady(t)
	for _, node := range names {
		n.parts[node] = s.serveAt(filepath.Join(s.dir, node), node, "--node", node, "--services", "replayer",
			"--nats-url", s.url(), "--nbd", "unix:"+n.socketOf(node), "--http", "")
		n.parts[node].awaitReady(t)
	}
	return n
}

func (n *nodes) socketOf(node string) string { return filepath.Join(n.dir, node+"-nbd") }

// place is what dirmap says of a directory.
type place struct {
	State string `json:"state"`
	Node  string `json:"node"` // empty while nobody has it
	Epoch uint64 `json:"epoch"`
}

// awaitAt waits until a directory is mapped to another node than one, and returns where.
func (n *nodes) awaitAt(dir, not string) place {
	n.t.Helper()
	var p place
	await(n.t, patience, dir+" is followed elsewhere than at "+not, func() (err error) {
		p, err = try[place](n.site, "mirror", "dirmap", dir)
		if err != nil {
			return err
		}
		return unless(p.State == "mapped" && p.Node != "" && p.Node != not, "it is %+v", p)
	})
	return p
}

// incarnations returns those of a node's replayer that INSTANCES has, oldest first.
func (n *nodes) incarnations(node string) (added []string) {
	n.t.Helper()
	for line := range strings.Lines(n.must("events", "--stream", events.StreamInstances)) {
		if e := decodeLine(n.t, line); e.Kind == "instance_added" && e.Event["node"] == node {
			incarnation, _ := e.Event["incarnation"].(string)
			added = append(added, incarnation)
		}
	}
	return added
}

// TestPausedNode stops the node that follows a directory (SIGSTOP), under writes, for longer
// than the silence that is allowed: the directory is fenced and followed by the other node,
// in a higher epoch. The node goes on (SIGCONT), finds itself fenced, says nothing more of
// it, and rejoins as a new incarnation. It is then the only node left, and follows the
// directory again, to the last byte.
//
// directories 80, 81, 82, 141, 143.
func TestPausedNode(t *testing.T) {
	t.Parallel()
	east := startSite(t, "east")
	west := newNodes(t, "west", "w2", "w3")
	peers(t, "vms", east, west.site)
	east.createImage("vms/prod/a", "16MiB")
	west.must("mirror", "add", "vms/prod")
	first := west.awaitAt("vms/prod", "")
	awaitLevel(t, east, west.site, "vms/prod")
	l := newLoad(t, 16<<20, "vms/prod/a")
	w := l.start(east)
	w.awaitWrites(100)

	west.parts[first.Node].pause()
	second := west.awaitAt("vms/prod", first.Node)
	if second.Epoch <= first.Epoch {
		t.Errorf("mapped to %+v, and then to %+v", first, second)
	}
	west.awaitState("vms/prod", "replaying")
	before := west.incarnations(first.Node)
	west.parts[first.Node].resume()
	await(t, patience, "the fenced node is back", func() error {
		now := west.incarnations(first.Node)
		return unless(len(now) > len(before) && now[len(now)-1] != before[0], "%v, and before %v", now, before)
	})
	w.awaitWrites(100)
	w.end()
	awaitLevel(t, east, west.site, "vms/prod")
	second = west.awaitAt("vms/prod", "") // on a machine that is too busy it was moved once more
	west.site.socket = west.socketOf(second.Node)
	l.demandComplete(west.site)
	sitetest.DemandOneHolder(t, west.jetStream().Conn())

	west.parts[second.Node].kill()
	third := west.awaitAt("vms/prod", second.Node)
	if third.Epoch <= second.Epoch {
		t.Errorf("mapped to %+v, and then to %+v", second, third)
	}
	awaitLevel(t, east, west.site, "vms/prod")
	west.site.socket = west.socketOf(third.Node)
	l.demandComplete(west.site)
	sitetest.DemandOneHolder(t, west.jetStream().Conn())
}
