package policy

import (
	"context"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
)

// mirrorResync makes it durable that this site's copy gives up what the primary has not.
// Whoever holds the copy may be down: it is told when it is back.
func (s *Service) mirrorResync(ctx context.Context, r api.Resync) (api.Directory, error) {
	name, err := checkName(r.DirectoryName)
	if err != nil {
		return api.Directory{}, err
	}
	var id events.DirectoryID
	var number uint64
	_, err = s.change(ctx, "resync "+name.String(), events.StreamDirectories, func() (events.Fact, error) {
		d, err := s.resyncable(name)
		if err != nil {
			return nil, err
		}
		id, number = d.ID, d.Resync.Last+1
		return &events.ResyncRequested{Directory: id, Pool: name.Pool, Number: number, KeepRefused: r.KeepRefused, At: now()}, nil
	})
	if err != nil {
		return api.Directory{}, err
	}
	s.settle(ctx, func() bool { return s.toldToResync(id, number) })
	return s.describeIfKnown(id, name)
}

// resyncable finds a directory that can be resynced; s.mu is held.
func (s *Service) resyncable(name events.DirectoryName) (*Directory, error) {
	d, err := s.findStaying(name)
	if err != nil {
		return nil, err
	}
	p := s.state.Pools[name.Pool]
	switch {
	case !p.Mirroring:
		return nil, fault.New(fault.NotReady, "the directory %s is not mirrored: mirroring of the pool %q is off", name, name.Pool)
	case d.Intent.Role == events.Master:
		return nil, fault.New(fault.Busy,
			"the directory %s is primary here, and a resync gives up what the primary does not have: tidemark mirror demote %s first", name, name)
	case !p.followable():
		return nil, fault.New(fault.NotReady, "the pool %q has no peer to follow", name.Pool)
	}
	return d, nil
}

// followable reports whether a pool has a peer that can be reached.
func (p *Pool) followable() bool {
	for _, peer := range p.Peers {
		if peer.URL != "" {
			return true
		}
	}
	return false
}

// toldToResync reports whether there is nothing to wait for: the holder was told, or there
// is none that could be. s.mu is held.
func (s *Service) toldToResync(id events.DirectoryID, number uint64) bool {
	v := newView(s.state, id, now(), "")
	if v == nil || v.forgotten {
		return true
	}
	if h := v.holder(); v.settled() && h.Resync >= number {
		return true
	}
	d := Decide(s.state, id, v.now, "")
	return d.Stalled || d.Wake > 0
}

// describeIfKnown reports a directory; that it was removed meanwhile is an error.
func (s *Service) describeIfKnown(id events.DirectoryID, name events.DirectoryName) (api.Directory, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Directories[id] == nil {
		return api.Directory{}, fault.New(fault.Busy, "the directory %s was removed meanwhile", name)
	}
	return s.state.describe(id, now()), nil
}

// mirrorSet changes how a directory follows. A primary keeps it for when it is a replica.
func (s *Service) mirrorSet(ctx context.Context, r api.MirrorSettings) (api.Directory, error) {
	name, err := checkName(r.DirectoryName)
	if err != nil {
		return api.Directory{}, err
	}
	if err := checkSettings(r); err != nil {
		return api.Directory{}, err
	}
	var id events.DirectoryID
	_, err = s.change(ctx, "configure "+name.String(), events.StreamDirectories, func() (events.Fact, error) {
		d, err := s.findStaying(name)
		if err != nil {
			return nil, err
		}
		id = d.ID
		settings := d.Settings.with(r)
		if settings == d.Settings {
			return nil, nil
		}
		return &events.DirectoryConfigured{
			Directory: id, Pool: name.Pool,
			Delay: settings.Delay, TargetRPO: settings.TargetRPO, SyncRate: settings.SyncRate, At: now(),
		}, nil
	})
	if err != nil {
		return api.Directory{}, err
	}
	return s.describeIfKnown(id, name)
}

func checkSettings(r api.MirrorSettings) error {
	if r.Delay == nil && r.TargetRPO == nil && r.Limit == nil {
		return fault.New(fault.Usage, "nothing is to be set: give a delay, a target RPO or a limit")
	}
	for what, d := range map[string]*time.Duration{"delay": r.Delay, "target RPO": r.TargetRPO} {
		if d != nil && (*d < 0 || *d > api.SettingMax) {
			return fault.New(fault.Usage, "%s %s: it is from 0s to %s", what, *d, api.SettingMax)
		}
	}
	return nil
}

// with returns the settings after a change.
func (s Settings) with(r api.MirrorSettings) Settings {
	if r.Delay != nil {
		s.Delay = *r.Delay
	}
	if r.TargetRPO != nil {
		s.TargetRPO = *r.TargetRPO
	}
	if r.Limit != nil {
		s.SyncRate = *r.Limit
	}
	return s
}
