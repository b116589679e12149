package replayer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/replica"
)

// verifyAtOnce is how many objects are compared at a time: most of the time of one that is
// changing is spent waiting for this copy to come to where the source was.
const verifyAtOnce = 8

// comparison is that of one image, or of one snapshot.
type comparison struct {
	*verification
	view     replica.View
	image    replica.ImageRecord
	snapshot string // its name
}

// run compares all objects that either side has. A view that goes meanwhile is compared no
// further: what the journal has removed at both sides cannot differ.
func (c *comparison) run(ctx context.Context) error {
	for from := uint64(0); ; {
		page, err := c.objects(ctx, c.view, from)
		if err == nil {
			samples := make(map[uint64]replica.ObjectDigest, len(page.Objects))
			for _, o := range page.Objects {
				samples[o.Index] = o.ObjectDigest
			}
			err = c.page(ctx, from, page.Next, samples)
		}
		switch {
		case removed(err):
			return nil
		case err != nil:
			return fmt.Errorf("image %q: %w", c.image.Name, err)
		case page.Next == 0:
			return nil
		}
		from = page.Next
	}
}

// removed reports whether an error says that what it is about is not there any more.
func removed(err error) bool {
	return errors.Is(err, replica.ErrNotFound) || fault.CodeOf(err) == fault.NotFound
}

// page compares the objects from one index to another; to is zero for the end.
func (c *comparison) page(ctx context.Context, from, to uint64, theirs map[uint64]replica.ObjectDigest) error {
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(verifyAtOnce)
	for index, sample := range theirs {
		group.Go(func() error { return c.object(inner, index, &sample) })
	}
	for {
		index, ok, err := c.own.replica.NextObject(c.view, from)
		if err != nil || !ok || to != 0 && index >= to {
			return errors.Join(err, group.Wait())
		}
		if _, asked := theirs[index]; !asked {
			group.Go(func() error { return c.object(inner, index, nil) })
		}
		from = index + 1
	}
}

// object compares an object. sample is what the source said of it, nil if it said nothing.
func (c *comparison) object(ctx context.Context, index uint64, sample *replica.ObjectDigest) error {
	bytes := min(c.image.ObjectSize, c.size()-min(c.size(), index*c.image.ObjectSize))
	if err := c.pace(ctx, bytes); err != nil {
		return err
	}
	m, err := c.meet(ctx, index, sample)
	if err != nil {
		return err
	}
	c.compared(bytes)
	if m.equal() {
		return nil
	}
	return c.differs(ctx, index)
}

// size returns how many bytes the image has, as far as it is known.
func (c *comparison) size() uint64 {
	if img, ok := c.own.replica.Image(c.view.Image); ok {
		return img.Size()
	}
	return c.image.Size
}

// meeting is an object as both sides had it in the same version.
type meeting struct {
	mine, theirs replica.ObjectDigest
	met          bool // false: this copy went past the source's version and never had it
}

func (m meeting) equal() bool { return m.met && m.mine.Content == m.theirs.Content }

// meet finds a version of an object that both sides had.
func (c *comparison) meet(ctx context.Context, index uint64, sample *replica.ObjectDigest) (m meeting, err error) {
	for try := 0; ; try++ {
		release := func() {}
		if sample == nil {
			release, err = c.ahead(ctx, try, func(ctx context.Context, src *source) (at events.Position, err error) {
				m.theirs, err = askVerify[replica.ObjectDigest](ctx, src, api.VerifyObject, c.request(index))
				return m.theirs.AtLeast, err
			})
			if err != nil {
				return m, err
			}
		} else {
			m.theirs = *sample
		}
		done, err := c.meetAt(ctx, index, &m, release)
		if err != nil || done {
			return m, err
		}
		sample = nil // this copy was ahead of it
	}
}

// meetAt waits for this copy to have the object as the source had it; done is false when it
// was ahead of that. release lets the replay here go on.
func (c *comparison) meetAt(ctx context.Context, index uint64, m *meeting, release func()) (done bool, err error) {
	defer release()
	m.mine, err = c.own.replica.Digest(c.view, index)
	if err != nil {
		return false, err
	}
	if c.view.Snapshot != 0 || m.mine.Version == m.theirs.Version {
		m.met = true // a snapshot never changes
		return true, nil
	}
	w, err := c.own.replica.DigestAt(c.view.Image, index, m.theirs.Version)
	if err != nil {
		return false, err
	}
	defer w.Stop()
	release()
	m.met, err = c.await(ctx, w.Done(), m.theirs.AtMost)
	if err != nil {
		return false, err
	}
	if m.met {
		m.mine = w.Object
		return true, w.Err()
	}
	return w.Since <= m.theirs.AtLeast, nil
}

func (c *comparison) request(index uint64) api.VerifyObjectRequest {
	return api.VerifyObjectRequest{Site: c.site(), Image: c.view.Image, Snapshot: c.view.Snapshot, Index: index}
}

// pace waits as long as the directory's bound on bytes per second demands, which may change
// meanwhile.
func (c *comparison) pace(ctx context.Context, bytes uint64) error {
	for left := float64(bytes); left > 0; {
		changed := c.follower.service.settingsChanged()
		rate := float64(c.follower.service.settings(c.follower.id).SyncRate)
		if rate == 0 {
			return ctx.Err()
		}
		started := time.Now()
		timer := time.NewTimer(time.Duration(left / rate * float64(time.Second)))
		select {
		case <-timer.C:
			return nil
		case <-changed:
			timer.Stop()
			left -= rate * time.Since(started).Seconds()
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
	return nil
}
