package policy

import (
	"context"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
)

// mirrorPlacement changes how replicas are spread over the site's nodes, and says how they are.
func (s *Service) mirrorPlacement(ctx context.Context, r api.PlacementSettings) (api.Placement, error) {
	if err := checkPlacement(r); err != nil {
		return api.Placement{}, err
	}
	_, err := s.change(ctx, "configure the placement of replicas", events.StreamPools, func() (events.Fact, error) {
		next := s.state.Placement.with(r)
		if next == s.state.Placement {
			return nil, nil
		}
		return &events.PlacementConfigured{Throttle: next.Throttle, By: next.By, At: now()}, nil
	})
	if err != nil {
		return api.Placement{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.state.Placement
	return api.Placement{Throttle: max(p.Throttle, 0).Seconds(), By: p.By}, nil
}

func checkPlacement(r api.PlacementSettings) error {
	if r.Throttle != nil && (*r.Throttle < 0 || *r.Throttle > api.SettingMax) {
		return fault.New(fault.Usage, "throttle %s: it is from 0s to %s", *r.Throttle, time.Duration(api.SettingMax))
	}
	if r.By == nil {
		return nil
	}
	switch *r.By {
	case events.BalanceCount, events.BalanceSize, events.BalanceWrites:
		return nil
	}
	return fault.New(fault.Usage, "directories are spread by count, size or writes, not by %q", *r.By)
}

// with returns the placement after a change.
func (p Placement) with(r api.PlacementSettings) Placement {
	if r.Throttle != nil {
		p.Throttle = *r.Throttle
	}
	if r.By != nil {
		p.By = *r.By
	}
	return p
}
