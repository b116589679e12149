package main

import (
	"context"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/overview"
	"tidemark/services/policy"
)

// siteMap asks policy what it knows of the site, and reads the log if it does not answer.
func (s *client) siteMap(ctx context.Context) (overview.Map, error) {
	b, err := s.connect()
	if err != nil {
		return overview.Map{}, err
	}
	m, err := overview.AskMap(ctx, b.Conn())
	if api.Nobody(err) {
		return s.readMap(ctx, s.policyError(ctx, api.SiteInfo, err))
	}
	if err != nil {
		return m, s.policyError(ctx, api.SiteInfo, err)
	}
	return m, nil
}

// readMap reads what policy would answer from the log. Where that cannot be read, nobody
// is what is wrong.
func (s *client) readMap(ctx context.Context, nobody error) (overview.Map, error) {
	state, err := s.readState(ctx, nobody)
	if err != nil {
		return overview.Map{}, err
	}
	m := overview.Map{Site: state.SiteInfo(), Pools: state.PoolList()}
	for _, p := range m.Pools {
		peers, err := state.PeerList(p.Pool)
		if err != nil {
			return m, err
		}
		m.Peers = append(m.Peers, overview.PeersOf(p.Pool, peers)...)
	}
	m.Directories, err = state.DirectoryList("", events.InstantOf(time.Now()))
	return m, err
}

func (s *client) readState(ctx context.Context, nobody error) (*policy.State, error) {
	b, err := s.connect()
	if err != nil {
		return nil, err
	}
	state, err := policy.Read(ctx, b)
	if err != nil {
		return nil, nobody
	}
	s.fromLog = true
	return state, nil
}

// instances lists the services that live, from the log if policy does not answer.
func (s *client) instances(ctx context.Context) ([]api.Instance, error) {
	site, err := call[api.Site](ctx, s, api.SiteInfo, api.Nothing{})
	if !isNobody(err) {
		return site.Instances, err
	}
	state, err := s.readState(ctx, err)
	if err != nil {
		return nil, err
	}
	return state.SiteInfo().Instances, nil
}

// listDirectories lists the directories that policy knows, from the log if it does not answer.
func (s *client) listDirectories(ctx context.Context, filter api.PoolFilter) ([]api.Directory, error) {
	b, err := s.connect()
	if err != nil {
		return nil, err
	}
	all, err := api.CallParts[[]api.Directory](ctx, b.Conn(), api.DirectoryList, filter)
	switch {
	case err == nil:
		return all, nil
	case !api.Nobody(err):
		return nil, s.policyError(ctx, api.DirectoryList, err)
	}
	state, err := s.readState(ctx, s.policyError(ctx, api.DirectoryList, err))
	if err != nil {
		return nil, err
	}
	return state.DirectoryList(filter.Pool, events.InstantOf(time.Now()))
}
