package notifier

import (
	"cmp"
	"slices"
	"strings"

	"tidemark/events"
	"tidemark/internal/api"
)

// Report is a snapshot of the service.
type Report struct {
	Instances []api.Instance      `json:"instances"` // those alive, by node and service
	Waiting   []events.Assignment `json:"waiting"`   // not acknowledged, by directory, oldest first
}

// Report returns what the service knows now.
func (s *Service) Report() Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := Report{Instances: []api.Instance{}, Waiting: []events.Assignment{}}
	for k, i := range s.state.Instances {
		if i.Alive {
			r.Instances = append(r.Instances, api.Instance{Node: k.Node, Service: k.Service, Incarnation: i.Incarnation, Since: i.Since})
		}
	}
	slices.SortFunc(r.Instances, func(a, b api.Instance) int {
		return cmp.Or(strings.Compare(a.Node, b.Node), strings.Compare(a.Service, b.Service))
	})
	for _, waiting := range s.state.Waiting {
		for _, w := range waiting {
			r.Waiting = append(r.Waiting, w.Assignment)
		}
	}
	slices.SortStableFunc(r.Waiting, func(a, b events.Assignment) int { return strings.Compare(string(a.Directory), string(b.Directory)) })
	return r
}
