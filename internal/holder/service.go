package holder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/instance"
	"tidemark/internal/overview"
	"tidemark/internal/replica"
	"tidemark/internal/site"
	"tidemark/internal/turns"
	"tidemark/internal/vfs"
)

// Service is what the services that hold directories have in common.
type Service struct {
	Name    string // of the service, as instances are listed
	Bus     *bus.Bus
	Node    site.Node
	Log     *slog.Logger
	Clients *Clients
	Notes   *turns.Outbox
	// Standings describes what is held now, without asking anybody.
	Standings func() []api.Standing
	// Ended is told the incarnation whose tenure of a directory was found to have ended; nil
	// tells nobody. It has room for one.
	Ended chan string
}

// Run has h told what to acquire and release until ctx ends. ready is called once it is
// known who follows, so that nothing which a follower needs can be trimmed.
func (s Service) Run(ctx context.Context, h instance.Holder, ready func()) error {
	group, inner := errgroup.WithContext(ctx)
	group.Go(func() error { return s.Clients.Follow(inner, s.Bus) })
	group.Go(func() error {
		if err := s.Clients.Known(inner); err != nil {
			return err
		}
		stop, err := api.Serve(inner, s.Bus.Conn(), s.Log, Reporting(s.Node.Name, s.Name, s.Standings))
		if err != nil {
			return fmt.Errorf("answer for a report: %w", err)
		}
		defer stop()
		ready()
		return instance.Run(inner, s.Bus, s.Node, s.Name, h, s.Log)
	})
	if err := group.Wait(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	return nil
}

// Reporting answers for a report of what a service of a node holds, or what of it is unusual.
func Reporting(node, service string, standings func() []api.Standing) api.Handler {
	return api.On(api.ReportSubject(node, service), func(_ context.Context, r api.ReportRequest) (api.Report, error) {
		all := standings()
		out := api.Report{Node: node, Service: service, Held: len(all), Directories: all}
		if r.Unusual {
			out.Directories = slices.DeleteFunc(all, func(d api.Standing) bool { return len(overview.LineOfStanding(d).Worries()) == 0 })
		}
		return out, nil
	})
}

// Replace has the copy that a resync prepared take the place of the node's own, if that was
// decided; see [replica.Replace]. Whoever holds the directory calls it before the copy is
// opened.
func (s Service) Replace(fsys vfs.FS, id events.DirectoryID, name events.DirectoryName) error {
	done, err := replica.Replace(fsys, s.Node.ReplicaDir(id))
	if done {
		s.Log.Info("a resynced copy has taken the place of the old one", "directory", name.String())
	}
	return err
}

// Remove deletes this node's copy of a directory and its journal; what is not there is
// no error.
func (s Service) Remove(ctx context.Context, id events.DirectoryID, name events.DirectoryName) error {
	if err := replica.Destroy(vfs.OS(), s.Node.ReplicaDir(id)); err != nil && !errors.Is(err, replica.ErrNotFound) {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	if err := replica.DropAll(vfs.OS(), s.Node.ReplicaDir(id)); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	if err := s.Bus.RemoveLog(ctx, events.JournalStream(name, id)); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// Note has a turn in a directory's life noted, see [turns.Outbox]. Nothing depends on it.
func (s Service) Note(turn events.LifecycleNoted) (stored <-chan struct{}) {
	turn.Node, turn.At = s.Node.Name, events.InstantOf(time.Now())
	return s.Notes.Note(turn)
}

// Lasts reports whether a turn was noted at this site and has not ended; it is not known
// to last while the log cannot be asked.
func (s Service) Lasts(ctx context.Context, turn events.LifecycleNoted) bool {
	lasts, err := turns.Lasts(ctx, s.Bus, turn)
	if err != nil && ctx.Err() == nil {
		s.Log.Warn("whether a turn lasts is not known", "what", string(turn.What), "error", err)
	}
	return lasts
}

// Admit returns an error if a site may not follow the directories of a pool now.
func (s Service) Admit(pool, site string) error { return s.Clients.Admit(pool, site) }

// Disconnected reports whether a directory's journal no longer waits for a client.
func (s Service) Disconnected(id events.DirectoryID, client string) bool {
	for _, f := range s.Clients.Of(id) {
		if f.Client == client {
			return f.State == events.ClientDisconnected
		}
	}
	return false
}

// Register makes a client of a directory's journal known before anything that it needs can
// be trimmed.
func (s Service) Register(ctx context.Context, f events.PositionCommitted) error {
	return s.Clients.Register(ctx, s.Bus, f)
}
