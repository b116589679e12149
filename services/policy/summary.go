package policy

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"tidemark/events"
	"tidemark/internal/api"
)

func (s *Service) directorySummary(ctx context.Context, _ api.Nothing) (api.Summary, error) {
	if err := s.current(ctx); err != nil {
		return api.Summary{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Summary(now()), nil
}

// Summary describes the directories that are not where they should be, and counts the others.
func (s *State) Summary(now events.Instant) api.Summary {
	out := api.Summary{Unusual: []api.Directory{}, Held: []api.Held{}}
	held := map[Key]int{}
	for id := range s.Directories {
		d := s.describe(id, now)
		if d.State != "mapped" || d.Error != "" {
			out.Unusual = append(out.Unusual, d)
			continue
		}
		held[Key{d.Node, events.ServiceOf(d.Role)}]++
	}
	for k, n := range held {
		out.Held = append(out.Held, api.Held{Node: k.Node, Service: k.Service, Directories: n})
	}
	slices.SortFunc(out.Held, func(a, b api.Held) int {
		return cmp.Or(strings.Compare(a.Node, b.Node), strings.Compare(a.Service, b.Service))
	})
	slices.SortFunc(out.Unusual, func(a, b api.Directory) int { return strings.Compare(a.Name, b.Name) })
	return out
}
