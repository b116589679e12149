package natsd

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/access"
)

// BenchmarkAnotherDirectory shares one more of many directories with a peer that has a
// connection for each of some.
func BenchmarkAnotherDirectory(b *testing.B) {
	const directories, connections = 1000, 50
	cfg := config(b.TempDir())
	cfg.Auth = true
	s := start(b, cfg)
	key := newKey(b)
	guests := access.NewGuests("east")
	share := func(facts ...events.Fact) {
		for _, f := range facts {
			guests.Evolve(f)
		}
		users, _ := guests.Users(1)
		if err := s.SetUsers(users); err != nil {
			b.Fatal(err)
		}
	}
	another := func(i int) events.Fact {
		return &events.DirectoryCreated{Directory: events.DirectoryID(fmt.Sprintf("%016x", i)), Pool: "vms", Path: fmt.Sprintf("/d%d", i)}
	}
	facts := []events.Fact{
		&events.PoolCreated{Pool: "vms"}, &events.MirrorEnabled{Pool: "vms"},
		&events.PeerAdded{Pool: "vms", Peer: "w", Key: key.Public(), Direction: events.ReceiveAndSend},
	}
	for i := range directories {
		facts = append(facts, another(i))
	}
	share(facts...)
	for range connections {
		if _, err := visit(b, s, key, nats.Name(access.ConnectionFor("replayer", "vms/d1"))); err != nil {
			b.Fatal(err)
		}
	}
	begun := time.Now()
	n := directories
	for b.Loop() { // one more each time
		n++
		share(another(n))
	}
	b.ReportMetric(float64(time.Since(begun).Milliseconds())/float64(b.N), "ms/change")
	if got := len(s.door.in); got != connections {
		b.Errorf("%d connections are left", got)
	}
}
