package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"tidemark/internal/api"
	"tidemark/internal/fault"
)

func newMirrorVerify(c *cli) *cobra.Command {
	var repair bool
	cmd := &cobra.Command{
		Use: "verify POOL/DIR", Short: "Compare this site's copy with what it follows, while both go on", Args: takes(1, 1),
		Long: `Compares everything that a replica holds with its source, by digests, while the source
is written to and the replica follows: every object of every image and snapshot, in exactly
one version of both, and names, sizes, snapshots and metadata at one position. What differs
is listed, and the exit code is 1. With --repair the blocks that differ are fetched from the
source and overwritten. Images and snapshots that come or go meanwhile are left out.

However long that takes: --timeout is for how long the site may say nothing. A replica that
is kept behind (mirror set --delay) takes at least that long. The limit of mirror set
--limit holds for the bytes that are compared.`,
		RunE: c.action(func(ctx context.Context, args []string) error {
			name, err := parseDirectory(args[0])
			if err != nil {
				return err
			}
			v, err := longWork[api.Verified](ctx, c, name, "verifying "+name.String(), api.MirrorVerify, api.VerifyRequest{Repair: repair})
			if err != nil {
				return err
			}
			if err := c.show(v, func(t *table) { verifiedRows(t, v) }); err != nil {
				return err
			}
			return verifiedError(name.String(), v)
		}),
	}
	cmd.Flags().BoolVar(&repair, "repair", false, "overwrite what differs with what the source has")
	return cmd
}

// verifiedError is what a comparison ends with that left something different.
func verifiedError(directory string, v api.Verified) error {
	left := v.MismatchesTotal - v.Repaired
	if left == 0 {
		return nil
	}
	return fault.New(fault.Corrupt, "directory %s: %d of %d differences to the source are left; `tidemark mirror verify --repair %s` mends what can be mended, `tidemark mirror resync %s` the rest",
		directory, left, v.MismatchesTotal, directory, directory)
}

func verifiedRows(t *table, v api.Verified) {
	if len(v.Mismatches) > 0 {
		t.row("IMAGE", "OBJECT", "OFFSET", "LENGTH", "BLOCKS", "REPAIRED", "DETAIL")
	}
	for _, m := range v.Mismatches {
		image := m.Image
		if m.Snapshot != "" {
			image += "@" + m.Snapshot
		}
		t.row(image, m.Object, m.Offset, m.Length, m.Blocks, m.Repaired, m.Detail)
	}
	if more := v.MismatchesTotal - uint64(len(v.Mismatches)); more > 0 {
		t.row(fmt.Sprintf("and %d more", more))
	}
	if len(v.Mismatches) > 0 {
		t.gap()
	}
	t.row(fmt.Sprintf("compared at %v: %d images, %d snapshots, %d objects, %s in %.1fs; %d differed, %d repaired",
		v.Position, v.Images, v.Snapshots, v.Objects, formatSize(v.Bytes), v.Seconds, v.MismatchesTotal, v.Repaired))
}
