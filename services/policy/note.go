package policy

import "tidemark/events"

// noteStalled tells listeners, once, that no live node can hold a directory; that a node
// has it again, the notifier tells them. s.mu is held.
func (s *Service) noteStalled(id events.DirectoryID, stalled bool) {
	if s.unassigned[id] == stalled {
		return
	}
	if !stalled {
		delete(s.unassigned, id)
		return
	}
	d := s.state.Directories[id]
	if d == nil {
		return
	}
	s.unassigned[id] = true
	s.notes.Note(events.LifecycleNoted{
		Directory: id, Pool: d.Name.Pool, Path: d.Name.Path, What: events.Unassigned, At: now(),
		Detail: "no live node can hold it",
	})
}
