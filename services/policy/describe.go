package policy

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
)

// Read folds the state of a site from its streams as they are now: what the service would
// answer, for who cannot ask it. It changes nothing.
func Read(ctx context.Context, b *bus.Bus) (*State, error) {
	state := NewState()
	for _, stream := range streams() {
		end, err := b.State(ctx, stream)
		if err != nil {
			return nil, fmt.Errorf("read the state of the site: %w", err)
		}
		err = b.ReadTo(ctx, stream, end.First, end.Last, func(m bus.Message) error {
			if fact, err := events.Unmarshal(m.Data); err == nil { // as the service does
				state.Evolve(m.Sequence, fact)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read the state of the site: %w", err)
		}
	}
	return state, nil
}

// SiteInfo describes the site as its log has it, and who lives in it.
func (s *State) SiteInfo() api.Site {
	return api.Site{
		Name: s.Site.Name, UUID: s.Site.UUID, Number: s.Site.Number,
		Instances: instanceList(s.Instances), Silent: instanceList(s.Silent),
	}
}

// instanceList lists instances by node and service.
func instanceList(instances map[Key]Instance) []api.Instance {
	out := make([]api.Instance, 0, len(instances))
	for k, i := range instances {
		out = append(out, api.Instance{Node: k.Node, Service: k.Service, Incarnation: i.Incarnation, Since: i.Since})
	}
	slices.SortFunc(out, func(a, b api.Instance) int {
		return cmp.Or(strings.Compare(a.Node, b.Node), strings.Compare(a.Service, b.Service))
	})
	return out
}

// PoolList describes the pools, by name.
func (s *State) PoolList() []api.Pool {
	counts := map[string]int{}
	for _, d := range s.Directories {
		counts[d.Name.Pool]++
	}
	out := []api.Pool{}
	for name, p := range s.Pools {
		out = append(out, api.Pool{Pool: name, Mirroring: p.Mirroring, Directories: counts[name], Peers: len(p.Peers)})
	}
	slices.SortFunc(out, func(a, b api.Pool) int { return strings.Compare(a.Pool, b.Pool) })
	return out
}

// pool describes one pool; one that is not there has nothing.
func (s *State) pool(name string) api.Pool {
	for _, p := range s.PoolList() {
		if p.Pool == name {
			return p
		}
	}
	return api.Pool{Pool: name}
}

// DirectoryList describes the directories of a pool at a time, or of all pools where pool is
// empty, by name. [fault.NotFound]: there is no such pool.
func (s *State) DirectoryList(pool string, now events.Instant) ([]api.Directory, error) {
	if pool != "" && s.Pools[pool] == nil {
		return nil, noPool(pool)
	}
	out := []api.Directory{}
	for id, d := range s.Directories {
		if pool == "" || d.Name.Pool == pool {
			out = append(out, s.describe(id, now))
		}
	}
	slices.SortFunc(out, func(a, b api.Directory) int {
		return cmp.Or(strings.Compare(a.Pool, b.Pool), strings.Compare(a.Path, b.Path))
	})
	return out, nil
}

// PeerList describes the peers of a pool, by name. [fault.NotFound]: there is no such pool.
func (s *State) PeerList(pool string) ([]api.Peer, error) {
	p := s.Pools[pool]
	if p == nil {
		return nil, noPool(pool)
	}
	out := []api.Peer{}
	for _, f := range p.Peers {
		out = append(out, apiPeer(f))
	}
	slices.SortFunc(out, func(a, b api.Peer) int {
		return cmp.Or(strings.Compare(a.Site, b.Site), strings.Compare(a.Peer, b.Peer))
	})
	return out, nil
}

// describe reports a directory that is known.
func (s *State) describe(id events.DirectoryID, now events.Instant) api.Directory {
	v := newView(s, id, now, "")
	decision := Decide(s, id, now, "")
	out := api.Directory{
		ID: id, Pool: v.d.Name.Pool, Path: v.d.Name.Path, Name: v.d.Name.String(),
		Role: v.d.Intent.Role, Epoch: v.d.Mapping.Epoch, State: v.shownState(decision), MappedTo: v.d.Mapping.Node,
		Following: api.Following{
			Delay: v.d.Settings.Delay.Seconds(), TargetRPO: v.d.Settings.TargetRPO.Seconds(), Limit: v.d.Settings.SyncRate,
		},
	}
	if v.d.Mapping.Epoch > 0 {
		out.Role, out.OldCopies = v.d.Mapping.Role, v.oldCopies()
	}
	switch out.State {
	case "stalled":
		out.Reason = v.whyStalled()
	case "mapping":
	default:
		out.InstanceID, out.LastShuffled = v.instance(), api.UnixTime(float64(v.d.Mapping.At)/float64(time.Second))
	}
	out.Promoting = v.proposes() || v.d.Intent.Role == events.Master && v.promotes()
	if v.holderAcquired() || decision.Status == Fencing {
		out.Node = v.d.Mapping.Node
	}
	if f := v.a.Failure; f != nil && (decision.Status != Associated || v.failure() != nil) {
		out.Error = f.Message
	}
	return out
}

// shownState tells a directory that goes on where it was, after its node started again,
// from one that goes to a node for the first time.
func (v *view) shownState(d Decision) string {
	if state := apiState(d); state != "mapping" || !v.targetLives() || !v.wasHeld() {
		return state
	}
	return "resolving"
}

// wasHeld reports whether the node had the directory before, as whichever incarnation.
func (v *view) wasHeld() bool {
	for seat, h := range v.a.Holders {
		if h.Acquired && (Key{seat.Node, seat.Service}) == v.d.Mapping.key() {
			return true
		}
	}
	return false
}

// instance is the incarnation that the directory is mapped to, or, if its node is gone, the
// one that was asked for it last.
func (v *view) instance() string {
	if seat, lives := v.target(); lives {
		return seat.Incarnation
	}
	for _, r := range v.a.Pending {
		if r.Assignment.Epoch == v.d.Mapping.Epoch {
			return r.Assignment.Incarnation
		}
	}
	for _, h := range v.a.Holders {
		if h.Assignment.Epoch == v.d.Mapping.Epoch {
			return h.Assignment.Incarnation
		}
	}
	return ""
}

// whyStalled says what a directory waits for that no live node can hold.
func (v *view) whyStalled() string {
	role := v.d.Intent.Role
	if v.mustDemote() {
		role = events.Master
	}
	return "no node runs the " + events.ServiceOf(role) + " service"
}

// apiState names a status as the interface does.
func apiState(d Decision) string {
	switch {
	case d.Stalled:
		return "stalled"
	case d.Status == Associated:
		return "mapped"
	case d.Status == Fencing:
		return "fencing"
	case d.Status == Shuffling:
		return "shuffling"
	case d.Status == Disassociating:
		return "unmapping"
	}
	return "mapping"
}

func apiPeer(f events.PeerAdded) api.Peer {
	return api.Peer{Peer: f.Peer, Site: f.Site, URL: f.URL, Direction: f.Direction, Since: f.At}
}

func noPool(pool string) error { return fault.New(fault.NotFound, "there is no pool %q", pool) }
