package policy

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
)

// siteInfo describes the site and who lives in it.
func (s *Service) siteInfo(ctx context.Context, _ api.Nothing) (api.Site, error) {
	if err := s.current(ctx); err != nil {
		return api.Site{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.identity()
	out := api.Site{Name: id.Name, UUID: id.UUID, Number: id.Number, Instances: []api.Instance{}}
	for k, i := range s.state.Instances {
		out.Instances = append(out.Instances, api.Instance{Node: k.Node, Service: k.Service, Incarnation: i.Incarnation, Since: i.Since})
	}
	slices.SortFunc(out.Instances, func(a, b api.Instance) int {
		return cmp.Or(strings.Compare(a.Node, b.Node), strings.Compare(a.Service, b.Service))
	})
	return out, nil
}

// identity is the site as the log has it; the process may know an older name or number.
func (s *Service) identity() SiteIdentity {
	if s.state.Site.UUID == s.node.Site.UUID {
		return s.state.Site
	}
	return SiteIdentity{s.node.Site.UUID, s.node.Site.Name, s.node.Site.Number}
}

func (s *Service) poolList(ctx context.Context, _ api.Nothing) ([]api.Pool, error) {
	if err := s.current(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []api.Pool{}
	for name := range s.state.Pools {
		out = append(out, s.pool(name))
	}
	slices.SortFunc(out, func(a, b api.Pool) int { return strings.Compare(a.Pool, b.Pool) })
	return out, nil
}

func (s *Service) pool(name string) api.Pool {
	p := s.state.Pools[name]
	if p == nil {
		return api.Pool{Pool: name}
	}
	n := s.state.directoriesIn(name, func(*Directory) bool { return true })
	return api.Pool{Pool: name, Mirroring: p.Mirroring, Directories: n, Peers: len(p.Peers)}
}

func (s *Service) directoryList(ctx context.Context, r api.PoolFilter) ([]api.Directory, error) {
	if err := s.current(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Pool != "" && s.state.Pools[r.Pool] == nil {
		return nil, noPool(r.Pool)
	}
	out := []api.Directory{}
	for id, d := range s.state.Directories {
		if r.Pool == "" || d.Name.Pool == r.Pool {
			out = append(out, s.describe(id))
		}
	}
	slices.SortFunc(out, func(a, b api.Directory) int {
		return cmp.Or(strings.Compare(a.Pool, b.Pool), strings.Compare(a.Path, b.Path))
	})
	return out, nil
}

func (s *Service) directoryResolve(ctx context.Context, r events.DirectoryName) (api.Directory, error) {
	name, err := checkName(r)
	if err != nil {
		return api.Directory{}, err
	}
	if err := s.current(ctx); err != nil {
		return api.Directory{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.find(name)
	if err != nil {
		return api.Directory{}, err
	}
	return s.describe(d.ID), nil
}

// describe reports a directory that is known.
func (s *Service) describe(id events.DirectoryID) api.Directory {
	v := newView(s.state, id, now(), "")
	decision := Decide(s.state, id, v.now, "")
	out := api.Directory{
		ID: id, Pool: v.d.Name.Pool, Path: v.d.Name.Path, Name: v.d.Name.String(),
		Role: v.d.Intent.Role, Epoch: v.d.Mapping.Epoch, State: apiState(decision),
		Following: api.Following{
			Delay: v.d.Settings.Delay.Seconds(), TargetRPO: v.d.Settings.TargetRPO.Seconds(), Limit: v.d.Settings.SyncRate,
		},
	}
	if v.d.Mapping.Epoch > 0 {
		out.Role = v.d.Mapping.Role
	}
	out.Promoting = v.proposes() || v.d.Intent.Role == events.Master && v.promotes()
	if v.holderAcquired() {
		out.Node = v.d.Mapping.Node
	}
	if f := v.a.Failure; f != nil && (decision.Status != Associated || v.failure() != nil) {
		out.Error = f.Message
	}
	return out
}

// countStates counts the directories in each state, those without any included.
func (s *Service) countStates() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := map[string]int{"mapped": 0, "mapping": 0, "shuffling": 0, "unmapping": 0, "stalled": 0}
	for id := range s.state.Directories {
		n[apiState(Decide(s.state, id, now(), ""))]++
	}
	return n
}

// apiState names a status as the interface does.
func apiState(d Decision) string {
	switch {
	case d.Stalled:
		return "stalled"
	case d.Status == Associated:
		return "mapped"
	case d.Status == Shuffling:
		return "shuffling"
	case d.Status == Disassociating:
		return "unmapping"
	}
	return "mapping"
}

func (s *Service) peerList(ctx context.Context, r api.Pool) ([]api.Peer, error) {
	if err := s.current(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.state.Pools[r.Pool]
	if p == nil {
		return nil, noPool(r.Pool)
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

func apiPeer(f events.PeerAdded) api.Peer {
	return api.Peer{Peer: f.Peer, Site: f.Site, URL: f.URL, Direction: f.Direction, Since: f.At}
}

func noPool(pool string) error { return fault.New(fault.NotFound, "there is no pool %q", pool) }
