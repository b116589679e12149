package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/overview"
)

func testSite() siteStatus {
	primary := overview.Mirrored(api.Directory{Name: "vms/a", State: mapped, Role: events.Master, Node: "n1"}, api.Status{
		Node: "n1", Role: events.Master, Primary: "east", State: "ready", Tag: 4097, Owner: "east",
		Position: events.Mark{Position: events.At(4097, 7)}, Applied: events.Mark{Position: events.At(4097, 5)},
		Clients: []api.Client{{ID: "west.n2", Role: events.Slave, State: events.ClientConnected, Position: events.At(4097, 3), Entries: 4, Bytes: 4096}},
	})
	behindIt := overview.Mirrored(api.Directory{Name: "vms/b", State: mapped, Role: events.Slave, Node: "n1"}, api.Status{
		Node: "n1", Role: events.Slave, Primary: "west", State: "replaying", Tag: 4098, Owner: "west",
		Position: events.Mark{Position: events.At(4098, 9)}, Applied: events.Mark{Position: events.At(4098, 5)},
		Lag: api.Lag{Entries: 4, Bytes: 1 << 20, Seconds: 12.34},
	})
	nobody := unheld(api.Directory{Name: "vms/c", State: stalled, Role: events.Master},
		nobodyError{fault.New(fault.Timeout, "nobody holds directory vms/c")})
	broken := overview.Mirrored(api.Directory{Name: "vms/d", State: mapped}, api.Status{Role: events.Slave, State: "split_brain", Error: "both sites wrote"})
	site := siteStatus{
		Site:  siteName{"east", "u-u-i-d", 1},
		Nodes: nodesOf([]api.Instance{{Node: "n2", Service: "journal"}, {Node: "n1", Service: "replayer"}, {Node: "n1", Service: "journal"}}),
		Pools: []api.Pool{{Pool: "vms", Mirroring: true, Directories: 4, Peers: 1}},
		Directories: []overview.Line{
			{Mirror: primary, Mapping: mapped, Durability: "sync", Bytes: 95, BytesLimit: 100},
			{Mirror: behindIt, Mapping: mapped},
			{Mirror: nobody, Mapping: stalled},
			{Mirror: broken, Mapping: mapped},
		},
		Peers: []overview.PoolPeer{{Pool: "vms", Peer: api.Peer{Site: "west", URL: "nats://u:secret@h:4222", Direction: events.ReceiveAndSend}}},
	}
	site.Attention = site.worries(nil)
	return site
}

func TestStatusPutsFirstWhatNeedsAttention(t *testing.T) {
	var got []string
	for _, w := range testSite().Attention {
		got = append(got, w.What+": "+w.Message)
	}
	want := []string{
		"vms/d: split_brain: both sites wrote",
		"vms/c: stalled: nobody holds directory vms/c",
		"vms/a: its journal is almost full: 95B of 100B",
		"vms/b: lagging: 12.3s behind its primary (4 entries, 1MiB)",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("attention:\n%s", strings.Join(got, "\n"))
	}
}

func TestStatusTable(t *testing.T) {
	var out bytes.Buffer
	c := &cli{out: &out, output: outputTable}
	site := testSite()
	if err := c.show(site, site.table); err != nil {
		t.Fatal(err)
	}
	want := `ATTENTION  vms/d  split_brain: both sites wrote                        at the site that gives its changes up: tidemark mirror resync vms/d
ATTENTION  vms/c  stalled: nobody holds directory vms/c                start a node with its copy
ATTENTION  vms/a  its journal is almost full: 95B of 100B              see whom it waits for: tidemark journal status vms/a
ATTENTION  vms/b  lagging: 12.3s behind its primary (4 entries, 1MiB)  tidemark mirror status vms/b

site:  east  u-u-i-d
node:  n1    journal replayer  since 0001-01-01T00:00:00Z
node:  n2    journal           since 0001-01-01T00:00:00Z

POOL  MIRRORING  DIRECTORIES  UNUSUAL  PEERS
vms   on         4            4        1

DIRECTORY  ROLE    PRIMARY  STATE        POSITION  BEHIND           NODE  DURABILITY  JOURNAL
vms/a      master  east     ready        4097.7    0                n1    sync        95B
vms/b      slave   west     replaying    4098.5    4 entries, 1MiB  n1    -           0B
vms/c      master  -        stalled      0.0       0                -     -           0B
vms/d      slave   -        split_brain  0.0       0                -     -           0B

PEER  POOL  DIRECTION  URL
west  vms   rx-tx      nats://u:xxxxx@h:4222
`
	if out.String() != want {
		t.Errorf("status:\n%s", out.String())
	}
}

func TestMirrorStates(t *testing.T) {
	site := testSite()
	a, b := site.Directories[0].Mirror, site.Directories[1].Mirror
	if a.State != overview.Stopped || a.Position != events.At(4097, 7) || len(a.Nodes) != 1 || a.Nodes[0].Entries != 4 {
		t.Errorf("a primary is shown as %+v", a)
	}
	if b.State != "replaying" || b.Position != events.At(4098, 5) || b.Received != events.At(4098, 9) || len(b.Nodes) != 1 {
		t.Errorf("a replica is shown as %+v", b)
	}
	if s := unheld(api.Directory{Node: "n1", State: mapped}, errors.New("broken")); s.State != overview.Errored {
		t.Errorf("a holder that fails is shown as %+v", s)
	}
}

func TestErrorsAreOneLine(t *testing.T) {
	var messages bytes.Buffer
	c := &cli{messages: &messages, output: outputTable}
	c.report(errors.New("first\n\tsecond"), nil)
	if messages.String() != "tidemark: first second\n" {
		t.Errorf("%q", messages.String())
	}
	messages.Reset()
	c.report(fault.New(fault.SplitBrain, "two <histories>"), []string{"-o", "json"})
	if messages.String() != "{\"error\":{\"code\":\"split_brain\",\"message\":\"two \\u003chistories\\u003e\"}}\n" {
		t.Errorf("%q", messages.String())
	}
}

func TestProgressInLines(t *testing.T) {
	var out bytes.Buffer
	p := &progress{w: &out, unit: formatSize}
	p.begin("copying")
	for i := range uint64(11) {
		p.at(i*10, 100)
	}
	p.end()
	want := "copying\ncopying: 25% of 100B\ncopying: 50% of 100B\ncopying: 75% of 100B\ncopying: 100% of 100B\n"
	if out.String() != want {
		t.Errorf("%q", out.String())
	}
}

func TestProgressBar(t *testing.T) {
	var out bytes.Buffer
	p := &progress{w: &out, bar: true, unit: formatSize}
	p.begin("copying")
	p.at(100, 100)
	p.begin("checking")
	p.end()
	want := "\r\x1b[Kcopying\r\x1b[Kcopying [##############################] 100% of 100B\n\r\x1b[Kchecking\n"
	if out.String() != want {
		t.Errorf("%q", out.String())
	}
}
