package journal

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"tidemark/events"
	"tidemark/internal/holder"
)

// openQuietly opens replica, log and tail; the returned function makes what was done
// safe and closes them.
func (d *directory) openQuietly(ctx context.Context) (*life, func() error, error) {
	l, err := d.newLife(ctx, events.TagDemoted)
	if err != nil {
		return nil, nil, err
	}
	tailCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var group errgroup.Group
	group.Go(func() error { return l.tail.Run(tailCtx) })
	return l, func() error {
		cancel()
		err := group.Wait()
		if errors.Is(err, context.Canceled) {
			err = nil
		}
		return errors.Join(err, l.replica.Close())
	}, nil
}

// demote opens the directory without taking requests, claims a tag that says that
// nobody owns it, and closes it again. A directory that was demoted already stays so.
func (d *directory) demote(ctx context.Context) (events.Mark, error) {
	l, stop, err := d.openQuietly(ctx)
	if err != nil {
		return events.Mark{}, err
	}
	err = func() error {
		if err := l.tail.Replay(ctx); err != nil {
			return err
		}
		if err := l.tail.Drain(ctx); err != nil {
			return err
		}
		if tag := l.replica.Tag(); tag != nil && tag.Reason == events.TagDemoted {
			return nil
		}
		if err := l.settle(ctx); err != nil {
			return err
		}
		if err := l.claimTag(ctx, events.TagDemoted); err != nil {
			return err
		}
		return l.tail.Drain(ctx)
	}()
	mark := l.tail.Marks().Applied
	return mark, errors.Join(err, stop())
}

// countImages says how many images the directory holds at the end of its log, those that a
// resync gave up and that are kept here among them.
func (d *directory) countImages(ctx context.Context) (images int, err error) {
	l, stop, err := d.openQuietly(ctx)
	if err != nil {
		return 0, err
	}
	if err = l.replay(ctx); err == nil {
		kept := holder.OpenConflicts(d.service.deps.FS, d.service.deps.Node.ReplicaDir(d.id), d.log)
		images = len(l.replica.Images()) + len(kept.Names())
		err = kept.Close()
	}
	return images, errors.Join(err, stop())
}

// settle finishes what an earlier life left unfinished, under a tag of its own: the next
// owner begins with nothing open.
func (l *life) settle(ctx context.Context) error {
	if len(l.replica.Unfinished()) == 0 && !l.gaveUp() {
		return nil
	}
	if err := l.claimTag(ctx, events.TagOpened); err != nil {
		return err
	}
	if err := l.tail.Drain(ctx); err != nil {
		return err
	}
	group, inner := errgroup.WithContext(ctx)
	writing, stop := context.WithCancel(inner)
	group.Go(func() error { return l.writer.run(writing) })
	group.Go(func() error {
		defer stop()
		return newOperations(inner, l.writer, l.unused).recover(inner)
	})
	return group.Wait()
}
