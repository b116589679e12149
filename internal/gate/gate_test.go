package gate_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/access"
	"tidemark/internal/gate"
	"tidemark/internal/keys"
	"tidemark/internal/sitetest"
)

// door remembers who is let in.
type door struct {
	mu   sync.Mutex
	told int
	keys []string
}

// SetUsers implements [gate.Server].
func (d *door) SetUsers(users []access.User) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.told++
	d.keys = nil
	for _, u := range users {
		d.keys = append(d.keys, u.Name+" "+u.Key)
	}
	return nil
}

func (d *door) has(want ...string) func() bool {
	return func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		slices.Sort(want)
		got := slices.Clone(d.keys)
		slices.Sort(got)
		return slices.Equal(got, want)
	}
}

func draw(t *testing.T) string {
	t.Helper()
	key, err := keys.New()
	if err != nil {
		t.Fatal(err)
	}
	return key.Public()
}

// TestKeep lets guests in as the log says, in a running site: what expires goes by itself, and
// a peer that shows the key of an operator becomes none.
func TestKeep(t *testing.T) {
	at := sitetest.Start(t, "east")
	say := func(f events.Fact) {
		t.Helper()
		stream := events.StreamPools
		if _, ok := f.(*events.DirectoryCreated); ok {
			stream = events.StreamDirectories
		}
		if _, err := at.Bus.Publish(t.Context(), stream, f); err != nil {
			t.Fatal(err)
		}
	}
	operator, peer, bearer := draw(t), draw(t), draw(t)
	say(&events.PoolCreated{Pool: "vms"})
	say(&events.PeerAdded{Pool: "vms", Peer: "w", Key: peer, Direction: events.ReceiveAndSend})
	d := &door{}
	own := []access.User{access.Operator("east").User(operator)}
	sitetest.Run(t, func(ctx context.Context) error { return gate.Keep(ctx, at.Bus, d, "east", own, at.Log) })
	self, west, token := "operator "+operator, "peer of pool vms "+peer, "token of pool vms "+bearer
	sitetest.Eventually(t, "the peer is let in", d.has(self, west))

	expires := time.Now().Add(5 * time.Second) // a busy machine has let the bearer in by then
	say(&events.TokenCreated{Pool: "vms", Token: "t", Key: bearer, Expires: events.InstantOf(expires)})
	sitetest.Eventually(t, "the bearer of a token is let in", d.has(self, west, token))
	sitetest.Eventually(t, "the token has expired", d.has(self, west))
	if time.Now().Before(expires) {
		t.Error("it expired too early")
	}
	say(&events.PeerAdded{Pool: "vms", Peer: "evil", Key: operator, Direction: events.ReceiveAndSend})
	say(&events.PeerRemoved{Pool: "vms", Peer: "w"})
	sitetest.Eventually(t, "the peer is removed, and the operator as it was", d.has(self))
}
