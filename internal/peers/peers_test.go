package peers

import (
	"testing"

	"tidemark/events"
	"tidemark/internal/fault"
)

func TestPeers(t *testing.T) {
	p := New()
	say := func(facts ...events.Fact) {
		t.Helper()
		for _, f := range facts {
			if err := p.Evolve(0, f); err != nil {
				t.Fatal(err)
			}
		}
	}
	if fault.CodeOf(p.Check("vms", "west")) != fault.Denied || p.Has("vms", "west") {
		t.Error("a stranger is a peer")
	}
	say(&events.PeerAdded{Pool: "vms", Peer: "west", URL: "nats://w", Direction: events.ReceiveAndSend},
		&events.PeerAdded{Pool: "vms", Peer: "sink", URL: "nats://s", Direction: events.SendOnly},
		&events.PeerAdded{Pool: "vms", Peer: "hidden", Direction: events.ReceiveAndSend})
	if got := p.Receivable("vms"); len(got) != 1 || got[0].Peer != "west" {
		t.Errorf("receivable: %+v", got)
	}
	if fault.CodeOf(p.Check("vms", "west")) != fault.NotReady {
		t.Error("a pool that is not mirrored may be followed")
	}
	if p.Enabled("vms") {
		t.Error("mirroring is on before anybody turned it on")
	}
	say(&events.MirrorEnabled{Pool: "vms"})
	if err := p.Check("vms", "west"); err != nil {
		t.Error(err)
	}
	say(&events.MirrorDisabled{Pool: "vms"})
	if p.Check("vms", "west") == nil || p.Enabled("vms") || !p.Has("vms", "west") {
		t.Error("disabling the pool is not heeded, or made its peers strangers")
	}
	say(&events.MirrorEnabled{Pool: "vms"}, &events.PeerRemoved{Pool: "vms", Peer: "west"})
	if fault.CodeOf(p.Check("vms", "west")) != fault.Denied {
		t.Error("a removed peer may follow")
	}
	say(&events.PoolRemoved{Pool: "vms"})
	if p.Has("vms", "sink") {
		t.Error("a removed pool has peers")
	}
}
