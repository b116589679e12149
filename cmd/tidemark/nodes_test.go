package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tidemark/internal/api"
	"tidemark/internal/sitetest"
)

// directory shows one directory as the map has it.
func (s siteUnderTest) directory(t *testing.T, name string) api.Directory {
	t.Helper()
	return shownJSON[api.Directory](t, s, "mirror", "dirmap", name)
}

// daemons lists the nodes, by name.
func (s siteUnderTest) daemons(t *testing.T) map[string]daemon {
	t.Helper()
	nodes := map[string]daemon{}
	for _, d := range shownJSON[[]daemon](t, s, "mirror", "daemons") {
		nodes[d.Node] = d
	}
	return nodes
}

// shares adds up what the nodes of a pool have, by their names, and demands that what is not
// live has been marked.
func (s siteUnderTest) shares(t *testing.T, pool string) (nodes map[string]share, sum int) {
	t.Helper()
	nodes = map[string]share{}
	for _, n := range shownJSON[[]share](t, s, "mirror", "distribution", pool) {
		nodes[n.Node] = n
		sum += n.Directories
	}
	return nodes, sum
}

// directories 88: a node that starts before its site's NATS comes to be by itself, with nothing
// to do; directories 146: until a node reports there is none.
func TestNodeBeforeItsSite(t *testing.T) {
	address := freeAddress(t)
	early := launchServe(t, "--data", t.TempDir(), "--node", "n1", "--nats-url", "nats://"+address)
	sitetest.Eventually(t, "it waits", func() bool { return strings.Contains(early.log.String(), "waiting for NATS") })
	site := siteUnderTest{startServe(t, "--data", t.TempDir(), "--site", "east", "--services", "policy,notifier", "--nats-listen", address)}
	sitetest.Eventually(t, "the node is there", func() bool {
		n, ok := site.daemons(t)["n1"]
		return ok && n.Directories == 0 && len(n.Instances) == 2 && len(n.Pools) == 0
	})
	<-early.ready
	early.stop(t)
	sitetest.Eventually(t, "the node is gone", func() bool { return site.run(t, "", "mirror", "daemons", "-o", "json") == "[]\n" })
	if out := site.run(t, "", "mirror", "daemons"); strings.Count(out, "\n") != 1 {
		t.Errorf("of no node: %s", out)
	}
}

// directories 87: a node that cannot begin with a directory says why; removed, nothing is left
// of that. directories 88: it goes on by itself as soon as it can.
func TestNodeCannotBegin(t *testing.T) {
	p := mirroredPair(t)
	data := t.TempDir()
	west := siteUnderTest{startServe(t, "--data", data, "--site", "north", "--node", "n1")}
	west.run(t, "", "pool", "create", "vms")
	token := p.must(p.east, "", "mirror", "peer", "create-token", "vms")
	west.run(t, token, "mirror", "peer", "import-token", "vms")
	p.must(p.east, "", "image", "create", "vms/a/disk", "--size", "1MiB")
	replicas := filepath.Join(data, "replicas")
	if err := os.RemoveAll(replicas); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(replicas, []byte("in the way"), 0o600); err != nil {
		t.Fatal(err)
	}
	west.run(t, "", "mirror", "add", "vms/a")
	sitetest.Eventually(t, "the map says why", func() bool {
		d := west.directory(t, "vms/a")
		return d.State == "mapping" && strings.Contains(d.Error, "replicas")
	})
	if out := west.run(t, "", "status"); !strings.Contains(out, "ATTENTION  vms/a") {
		t.Errorf("nothing of it in the site's status: %s", out)
	}
	// What may be left of a copy cannot be removed either: that is said, and goes on.
	west.run(t, "", "mirror", "remove", "vms/a")
	if d := west.directory(t, "vms/a"); d.State != "unmapping" || !strings.Contains(d.Error, "replicas") {
		t.Errorf("its copy cannot be removed: %+v", d)
	}
	if code, _, messages := west.try(t, "", "mirror", "add", "vms/a"); code != 5 || !strings.Contains(messages, "being removed") {
		t.Errorf("added while it is removed: exit code %d, %s", code, messages)
	}
	if err := os.Remove(replicas); err != nil {
		t.Fatal(err)
	}
	sitetest.Eventually(t, "it is removed", func() bool {
		code, _, _ := west.try(t, "", "mirror", "dirmap", "vms/a")
		return code == 3
	})
	if out := west.run(t, "", "status"); strings.Contains(out, "vms/a") {
		t.Errorf("removed, it is in the site's status: %s", out)
	}
	west.run(t, "", "mirror", "add", "vms/a")
	sitetest.Eventually(t, "it is followed", func() bool {
		return shownJSON[[]mirrorState](t, west, "mirror", "status", "vms/a")[0].State == "replaying"
	})
	if d := west.directory(t, "vms/a"); d.State != "mapped" || d.Error != "" {
		t.Errorf("followed: %+v", d)
	}
}

// directories 144-146 with real nodes: what the map says of them as they come and go.
func TestNodesComeAndGo(t *testing.T) {
	site := siteUnderTest{startServe(t, "--data", t.TempDir(), "--site", "east", "--services", "policy,notifier")}
	site.run(t, "", "pool", "create", "vms")
	for _, d := range []string{"a", "b", "c", "d"} {
		site.run(t, "", "dir", "create", "vms/"+d)
	}
	if d := site.directory(t, "vms/a"); d.State != "stalled" || d.Reason == "" || d.InstanceID != "" || d.LastShuffled != 0 {
		t.Errorf("without a node: %+v", d)
	}
	if nodes, sum := site.shares(t, "vms"); len(nodes) != 0 || sum != 0 {
		t.Errorf("without a node: %+v", nodes)
	}
	first := startServe(t, "--data", t.TempDir(), "--node", "n1", "--nats-url", site.values["nats"], "--services", "journal,replayer")
	sitetest.Eventually(t, "n1 has them all", func() bool {
		n := site.daemons(t)["n1"]
		return n.Directories == 4 && len(n.Pools) == 1 && n.Pools[0].Directories == 4
	})
	d := site.directory(t, "vms/a")
	if d.State != "mapped" || d.MappedTo != "n1" || d.InstanceID != site.daemons(t)["n1"].Instances[0].InstanceID || d.LastShuffled == 0 {
		t.Errorf("at n1: %+v", d)
	}
	second := startServe(t, "--data", t.TempDir(), "--node", "n2", "--nats-url", site.values["nats"], "--services", "journal,replayer")
	sitetest.Eventually(t, "both are there", func() bool {
		nodes, sum := site.shares(t, "vms")
		return len(nodes) == 2 && sum == 4 && nodes["n1"].State == nodeLives && nodes["n2"].State == nodeLives
	})
	site.run(t, "", "dir", "create", "vms/e")
	first.stop(t)
	sitetest.Eventually(t, "n2 has them all", func() bool {
		nodes, sum := site.shares(t, "vms")
		return len(nodes) == 1 && sum == 5 && nodes["n2"].Primaries == 5
	})
	second.stop(t)
	sitetest.Eventually(t, "n2 is marked", func() bool {
		nodes, sum := site.shares(t, "vms")
		return len(nodes) == 1 && sum == 5 && nodes["n2"].State == nodeDead
	})
	sitetest.Eventually(t, "they wait for a node", func() bool {
		d := site.directory(t, "vms/a")
		return d.State == "stalled" && d.MappedTo == "n2" && d.Reason != ""
	})
}
