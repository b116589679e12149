package policy

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/site"
)

// oldCopies describes the copies at nodes that the directory has left, by the nodes' names.
func (v *view) oldCopies() (all []api.OldCopy) {
	if len(v.a.Copies) == 1 && v.a.Copies[v.d.Mapping.Node] > 0 {
		return nil // as most have it
	}
	for _, node := range slices.Sorted(maps.Keys(v.a.Copies)) {
		if node == v.d.Mapping.Node {
			continue
		}
		_, lives := v.s.Instances[Key{node, events.ServiceReplayer}]
		all = append(all, api.OldCopy{
			Node: node, Lives: lives, Bytes: v.s.Told[v.d.ID][node].Bytes,
			Since: api.UnixTime(float64(v.d.Mapping.At) / float64(time.Second)),
		})
	}
	return all
}

// discardable says why a node's copy must stay, as far as the map knows; nil if the node may be
// asked. It has the last word: it asks the holder.
func (v *view) discardable(node string) error {
	name := v.d.Name
	_, lives := v.s.Instances[Key{node, events.ServiceReplayer}]
	holds := slices.ContainsFunc(v.liveHolders(func(Seat) bool { return true }), func(h Holder) bool { return h.Assignment.Node == node })
	switch {
	case v.d.Mapping.Epoch > 0 && node == v.d.Mapping.Node, holds:
		return fault.New(fault.Busy, "the copy of %s at node %s is the one in use", name, node)
	case v.a.Copies[node] == 0:
		return fault.New(fault.NotFound, "no copy of %s is known at node %q", name, node)
	case v.d.Mapping.Role != events.Slave:
		return fault.New(fault.Busy, "%s is primary here: its other copies stay", name)
	case !v.settled():
		return fault.New(fault.NotReady, "%s is held by nobody, or on its way: the copy at node %s may be needed", name, node)
	case v.unfinished(v.d.Mapping.Node):
		return fault.New(fault.NotReady, "the copy of %s at node %s is not complete yet: the one at node %s may be needed", name, v.d.Mapping.Node, node)
	case !lives:
		return fault.New(fault.NotReady, "node %s does not run the replayer service: start it", node)
	}
	return nil
}

// mirrorDiscard has a node delete the copy that it kept when a replica left it. The request is
// durable before the node gets it; it is not made again when the node dies or refuses.
func (s *Service) mirrorDiscard(ctx context.Context, r api.Discard) (api.Directory, error) {
	name, err := checkName(r.DirectoryName)
	if err != nil {
		return api.Directory{}, err
	}
	if err := events.CheckName(r.Node); err != nil {
		return api.Directory{}, fault.New(fault.Usage, "node: %w", err)
	}
	operation, err := site.NewID()
	if err != nil {
		return api.Directory{}, err
	}
	var id events.DirectoryID
	_, err = s.change(ctx, "discard the copy of "+name.String()+" at node "+r.Node, events.StreamNotifications, func() (events.Fact, error) {
		d, err := s.findStaying(name)
		if err != nil {
			return nil, err
		}
		v := newView(s.state, d.ID, now(), operation)
		if err := v.discardable(r.Node); err != nil {
			return nil, err
		}
		id = d.ID
		k := Key{r.Node, events.ServiceReplayer}
		f := v.release(Seat{k.Node, k.Service, s.state.Instances[k].Incarnation}, events.Slave)
		f.Discard = true
		return f, nil
	})
	if err != nil {
		return api.Directory{}, err
	}
	return s.awaitDiscarded(ctx, id, name, r.Node, operation)
}

// awaitDiscarded waits for a node's answer, or its end.
func (s *Service) awaitDiscarded(ctx context.Context, id events.DirectoryID, name events.DirectoryName, node, operation string) (api.Directory, error) {
	ctx, cancel := context.WithTimeout(ctx, roleTime)
	defer cancel()
	var kept error
	err := s.await(ctx, func() bool {
		a := s.state.Assignments[id]
		if a == nil {
			return true
		}
		if a.Kept != nil && a.Kept.Assignment.Operation == operation {
			kept = fault.New(a.Kept.Code, "the copy of %s at node %s stays: %s", name, node, a.Kept.Message)
		}
		_, asked := a.Pending[operation]
		return !asked
	})
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return api.Directory{}, fault.New(fault.Timeout, "node %s was asked to delete its copy of %s, and has not answered yet", node, name)
	case err != nil:
		return api.Directory{}, err
	case kept != nil:
		return api.Directory{}, kept
	}
	return s.describeIfKnown(id, name)
}
