package replayer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/replica"
)

// repairTries bounds the repairs of one object: what is written to it meanwhile may be
// damaged too.
const repairTries = 3

// differing returns the blocks that differ, in order.
func (m meeting) differing() []uint64 {
	var blocks []uint64
	for i := range max(len(m.mine.Blocks), len(m.theirs.Blocks)) {
		if i >= len(m.mine.Blocks) || i >= len(m.theirs.Blocks) || m.mine.Blocks[i] != m.theirs.Blocks[i] {
			blocks = append(blocks, uint64(i))
		}
	}
	return blocks
}

// differs reports an object that differs, block by block, and repairs it on request.
func (c *comparison) differs(ctx context.Context, index uint64) error {
	m, err := c.meet(ctx, index, nil)
	if err != nil {
		return err
	}
	base := index * c.image.ObjectSize
	out := api.Mismatch{Image: c.image.Name, Snapshot: c.snapshot, Object: index, Offset: base, Length: c.image.ObjectSize}
	blocks := m.differing()
	switch {
	case !m.met:
		out.Detail = fmt.Sprintf("it has version %v here, and never had the source's version %v; %s", m.mine.Version, m.theirs.Version, needsResync)
		c.add(out)
		return nil
	case len(blocks) == 0:
		c.follower.log.Warn("an object differed from the source's until it was written again", "image", c.image.Name, "object", index)
		return nil
	}
	out.Offset = base + blocks[0]*replica.BlockSize
	out.Length = (blocks[len(blocks)-1] - blocks[0] + 1) * replica.BlockSize
	out.Blocks, out.Bytes = uint64(len(blocks)), uint64(len(blocks))*replica.BlockSize
	if m.mine.Failure != nil {
		out.Detail = m.mine.Failure.Error()
	}
	if c.repair {
		if out.Detail, err = c.mend(ctx, index, m); err != nil {
			return err
		}
		out.Repaired = out.Detail == ""
	}
	c.add(out)
	return nil
}

// mend repairs an object and compares it again, and returns why it still differs; nothing if
// it does not.
func (c *comparison) mend(ctx context.Context, index uint64, m meeting) (why string, err error) {
	for range repairTries {
		err := c.overwrite(ctx, index, m)
		if errors.Is(err, replica.ErrNotRepairable) {
			return fmt.Sprintf("%v; %s", err, needsResync), nil
		}
		if err != nil {
			return "", err
		}
		m, err = c.meet(ctx, index, nil)
		if err != nil {
			return "", err
		}
		if m.met && len(m.differing()) == 0 {
			return "", nil
		}
	}
	return "it differs again after each repair", nil
}

// overwrite puts the source's content into the blocks that differ, when this copy has the
// object in the version that the content is of.
func (c *comparison) overwrite(ctx context.Context, index uint64, m meeting) error {
	if len(m.mine.Blocks) != len(m.theirs.Blocks) {
		return fault.New(fault.Corrupt, "the source describes %d blocks of object %d, which has %d here", len(m.theirs.Blocks), index, len(m.mine.Blocks))
	}
	blocks := make([]uint64, (len(m.mine.Blocks)+63)/64)
	for _, b := range m.differing() {
		blocks[b/64] |= 1 << (b % 64)
	}
	for try := 0; ; try++ {
		var content replica.ObjectCopy
		release, err := c.ahead(ctx, try, func(ctx context.Context, src *source) (at events.Position, err error) {
			content, err = src.content(ctx, api.VerifyContentRequest{VerifyObjectRequest: c.request(index), Blocks: blocks})
			return content.AtLeast, err
		})
		if err != nil {
			return err
		}
		done, err := c.overwriteAt(ctx, index, content, release)
		if err != nil || done {
			return err
		}
	}
}

// overwriteAt waits for this copy to have the object as the source had it; done is false when
// it was ahead of that.
func (c *comparison) overwriteAt(ctx context.Context, index uint64, content replica.ObjectCopy, release func()) (done bool, err error) {
	defer release()
	if c.view.Snapshot != 0 {
		return true, c.own.replica.RepairSnapshot(c.view, index, content)
	}
	w, err := c.own.replica.RepairAt(c.view.Image, index, content)
	if err != nil {
		return false, err
	}
	defer w.Stop()
	release()
	done, err = c.await(ctx, w.Done(), content.AtMost)
	switch {
	case err != nil:
		return false, err
	case done:
		return true, w.Err()
	case w.Since <= content.AtLeast:
		return true, fmt.Errorf("version %v never came: %w", content.Version, replica.ErrNotRepairable)
	}
	return false, nil
}

// content asks for blocks of an object.
func (s *source) content(ctx context.Context, r api.VerifyContentRequest) (replica.ObjectCopy, error) {
	content, err := s.fetch(ctx, api.VerifyContent, r, objectID{}, replica.ObjectSizeMax, func(int) {})
	if err == nil && !slices.Equal(content.Blocks, r.Blocks) {
		err = fault.New(fault.Corrupt, "site %s sent other blocks of object %d than it was asked for", s.peer.Site, r.Index)
	}
	return content, err
}
