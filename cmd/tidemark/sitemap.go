package main

import (
	"context"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/services/policy"
)

// siteMap is what policy knows of a site.
type siteMap struct {
	site        api.Site
	pools       []api.Pool
	peers       []poolPeer
	directories []api.Directory
}

// siteMap asks policy, and reads the log if it does not answer.
func (s *client) siteMap(ctx context.Context) (siteMap, error) {
	m, err := s.askMap(ctx)
	if isNobody(err) {
		return s.readMap(ctx, err)
	}
	return m, err
}

func (s *client) askMap(ctx context.Context) (m siteMap, err error) {
	if m.site, err = call[api.Site](ctx, s, api.SiteInfo, api.Nothing{}); err != nil {
		return m, err
	}
	if m.pools, err = call[[]api.Pool](ctx, s, api.PoolList, api.Nothing{}); err != nil {
		return m, err
	}
	for _, p := range m.pools {
		if p.Peers == 0 {
			continue
		}
		peers, err := call[[]api.Peer](ctx, s, api.PeerList, api.Pool{Pool: p.Pool})
		if err != nil {
			return m, err
		}
		m.peers = append(m.peers, peersOf(p.Pool, peers)...)
	}
	m.directories, err = call[[]api.Directory](ctx, s, api.DirectoryList, api.PoolFilter{})
	return m, err
}

// readMap reads what policy would answer from the log. Where that cannot be read, nobody
// is what is wrong.
func (s *client) readMap(ctx context.Context, nobody error) (siteMap, error) {
	state, err := s.readState(ctx, nobody)
	if err != nil {
		return siteMap{}, err
	}
	m := siteMap{site: state.SiteInfo(), pools: state.PoolList()}
	for _, p := range m.pools {
		peers, err := state.PeerList(p.Pool)
		if err != nil {
			return m, err
		}
		m.peers = append(m.peers, peersOf(p.Pool, peers)...)
	}
	m.directories, err = state.DirectoryList("", events.InstantOf(time.Now()))
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

// listDirectories lists the directories that policy knows, from the log if it does not answer.
func (s *client) listDirectories(ctx context.Context, filter api.PoolFilter) ([]api.Directory, error) {
	all, err := call[[]api.Directory](ctx, s, api.DirectoryList, filter)
	if !isNobody(err) {
		return all, err
	}
	state, err := s.readState(ctx, err)
	if err != nil {
		return nil, err
	}
	return state.DirectoryList(filter.Pool, events.InstantOf(time.Now()))
}

func peersOf(pool string, peers []api.Peer) []poolPeer {
	all := make([]poolPeer, len(peers))
	for i, p := range peers {
		all[i] = poolPeer{pool, p}
	}
	return all
}
