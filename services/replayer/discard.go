package replayer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/holder"
	"tidemark/internal/lineage"
	"tidemark/internal/replica"
)

// discardTime bounds what the holder of a directory is asked before a copy of it is deleted.
// What is asked of this node about the directory waits meanwhile.
const discardTime = 3 * time.Second

// discard deletes the copy of a directory that this node kept when the directory left it, and
// answers with why not where anything of it could be needed. All of this must hold:
//
//   - nobody at this node has the copy open;
//   - nothing is kept beside it that is this node's alone: no side that a resync gave up;
//   - a follower at another node of the site holds the directory, follows its primary, has a
//     complete copy, and goes on with all of the history that this copy has.
//
// So there are two others at least that have every byte of it. The site's journal is left alone.
// The first step of deleting takes the metadata, without which a folder is no copy: a crash
// leaves the whole copy, or what is deleted when this is asked again, or the directory comes.
func (s *Service) discard(ctx context.Context, id events.DirectoryID, name events.DirectoryName) error {
	fsys, dir := s.deps.FS, s.deps.Node.ReplicaDir(id)
	ours, err := s.spared(id, name)
	if errors.Is(err, replica.ErrNotFound) {
		return errors.Join(s.erased(id), replica.Drop(fsys, dir)) // an earlier one was cut short
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, discardTime)
	defer cancel()
	if err := s.heldWhole(ctx, id, ours); err != nil {
		return err
	}
	if err := errors.Join(replica.Destroy(fsys, dir), replica.Drop(fsys, dir)); err != nil {
		return fmt.Errorf("discard the old copy of %s: %w", name, err)
	}
	s.deps.Log.Info("an old copy was deleted: another node has all that was in it", "directory", name.String(), "position", ours.End.Position.String())
	return nil
}

// erased deletes what an interrupted deletion has left of a copy.
func (s *Service) erased(id events.DirectoryID) error {
	dir := s.deps.Node.ReplicaDir(id)
	if there, err := s.deps.FS.Exists(dir); err != nil || !there {
		return err
	}
	return replica.Destroy(s.deps.FS, dir)
}

// spared returns the history of a copy that nobody at this node needs; [replica.ErrNotFound] if
// there is none.
func (s *Service) spared(id events.DirectoryID, name events.DirectoryName) (lineage.History, error) {
	dir := s.deps.Node.ReplicaDir(id)
	s.mu.Lock()
	follows := s.followers[id] != nil
	s.mu.Unlock()
	if follows {
		return lineage.History{}, fault.New(fault.Busy, "it is in use there")
	}
	if err := s.shared.Replace(s.deps.FS, id, name); err != nil { // what was decided before comes first
		return lineage.History{}, err
	}
	refused, err := replica.RefusedFolders(s.deps.FS, dir)
	switch {
	case err != nil:
		return lineage.History{}, err
	case len(refused) > 0:
		return lineage.History{}, fault.New(fault.Busy, "what a resync gave up is kept beside it, as conflict images")
	}
	r, err := replica.Open(s.deps.FS, dir)
	if err != nil {
		return lineage.History{}, err
	}
	ours := holder.HistoryOf(r)
	return ours, r.Close()
}

// heldWhole returns an error unless a follower at another node of the site has all of a history,
// and its primary can be heard.
func (s *Service) heldWhole(ctx context.Context, id events.DirectoryID, ours lineage.History) error {
	conn := s.deps.Bus.Conn()
	status, err := api.Call[api.Status](ctx, conn, api.HolderSubject(id, api.DirectoryStatus), api.Nothing{})
	if err != nil {
		return fault.New(fault.NotReady, "whoever holds the directory now does not answer: %w", err)
	}
	if status.Node == s.deps.Node.Name || status.Role != events.Slave || status.State != string(Replaying) {
		return fault.New(fault.NotReady, "node %s, which has the directory as a %s, does not follow its primary now (%s)", status.Node, status.Role, status.State)
	}
	theirs, err := holder.Holding{Conn: conn, Directory: id, Self: s.deps.Node.Site.UUID}.History(ctx, ours)
	if err != nil {
		return fault.New(fault.NotReady, "how far the copy at node %s reaches is not known: %w", status.Node, err)
	}
	if ours.End != (events.Mark{}) && !theirs.Covers(ours) {
		return fault.New(fault.Busy, "it may hold what the copy at node %s does not: it is at %v, that one at %v (%s)",
			status.Node, ours.End.Position, theirs.End.Position, lineage.Compare(ours, theirs).Kind)
	}
	return nil
}
