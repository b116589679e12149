package policy

import (
	"context"

	"tidemark/events"
	"tidemark/internal/api"
)

// siteInfo describes the site and who lives in it.
func (s *Service) siteInfo(ctx context.Context, _ api.Nothing) (api.Site, error) {
	if err := s.current(ctx); err != nil {
		return api.Site{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.state.SiteInfo()
	id := s.identity()
	out.Name, out.UUID, out.Number = id.Name, id.UUID, id.Number
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
	return s.state.PoolList(), nil
}

func (s *Service) directoryList(ctx context.Context, r api.PoolFilter) ([]api.Directory, error) {
	if err := s.current(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.DirectoryList(r.Pool, now())
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
	return s.state.describe(d.ID, now()), nil
}

// count counts the directories in each state, those without any included, describes the pools,
// and adds up what nodes keep of directories that have left them.
func (s *Service) count() counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := counts{
		states: map[string]int{"mapped": 0, "mapping": 0, "shuffling": 0, "unmapping": 0, "fencing": 0, "stalled": 0},
		old:    map[string]oldCopies{},
	}
	for k := range s.state.Instances {
		if k.Service == events.ServiceReplayer {
			out.old[k.Node] = oldCopies{} // none is told too
		}
	}
	at := now()
	for id := range s.state.Directories {
		out.states[apiState(Decide(s.state, id, at, ""))]++
		for _, c := range newView(s.state, id, at, "").oldCopies() {
			of := out.old[c.Node]
			out.old[c.Node] = oldCopies{of.copies + 1, of.bytes + c.Bytes}
		}
	}
	out.pools = s.state.PoolList()
	return out
}

func (s *Service) peerList(ctx context.Context, r api.Pool) ([]api.Peer, error) {
	if err := s.current(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.PeerList(r.Pool)
}
