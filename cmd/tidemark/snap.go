package main

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
)

// groupHelp says how the two kinds of names are told apart.
const groupHelp = `

POOL/DIR/IMAGE@SNAPSHOT is of one image, POOL/DIR@SNAPSHOT of every image of a directory,
all at one position of its journal. The site is asked which of the two a name is: the
image goes first if there is one of that name. With a slash at its end, POOL/DIR/@SNAPSHOT,
it is the directory without asking.`

func newSnap(c *cli) *cobra.Command {
	return group("snap", "Snapshots of images and of whole directories",
		newSnapCreate(c), newSnapList(c), newSnapRemove(c), newSnapRename(c), newSnapRollback(c),
		newSnapProtection(c, "protect", "Keep a snapshot from being removed, so that it may have clones", api.SnapProtect),
		newSnapProtection(c, "unprotect", "Let a snapshot that has no clones be removed again", api.SnapUnprotect),
		newSnapLimit(c))
}

func newSnapCreate(c *cli) *cobra.Command {
	return &cobra.Command{
		Use: "create POOL/DIR[/IMAGE]@SNAPSHOT", Short: "Make a snapshot of an image, or of all of a directory at one position",
		Long: "Makes a snapshot: a read-only image of what every write gave that was answered before." + groupHelp,
		Args: takes(1, 1),
		RunE: c.requestTarget(func(ctx context.Context, s *client, t target) error {
			made, err := holdSettled[[]api.Snapshot](ctx, s, t.directory, settleTime, api.SnapCreate, api.SnapRequest{Image: t.image, Snapshot: t.snapshot})
			if err != nil {
				return err
			}
			return c.show(list(made), func(t *table) { snapshotRows(t, made...) })
		}),
	}
}

func newSnapRemove(c *cli) *cobra.Command {
	return &cobra.Command{
		Use: "remove POOL/DIR[/IMAGE]@SNAPSHOT", Short: "Remove a snapshot of an image, or one of a whole directory",
		Long: "Removes a snapshot. One that is protected stays." + groupHelp,
		Args: takes(1, 1),
		RunE: c.requestTarget(func(ctx context.Context, s *client, t target) error {
			_, err := holdSettled[api.Nothing](ctx, s, t.directory, settleTime, api.SnapRemove, api.SnapRequest{Image: t.image, Snapshot: t.snapshot})
			if err != nil {
				return err
			}
			return c.showRemoved(t.String())
		}),
	}
}

// requestTarget makes a command's code out of a function that takes a snapshot of an image
// or of a directory.
func (c *cli) requestTarget(f func(context.Context, *client, target) error) func(*cobra.Command, []string) error {
	return c.request(func(ctx context.Context, s *client, args []string) error {
		if !strings.Contains(args[0], "@") {
			return fault.New(fault.Usage, "%q names no snapshot: write it like POOL/DIR/IMAGE@SNAPSHOT or POOL/DIR@SNAPSHOT", args[0])
		}
		t, err := s.find(ctx, args[0])
		if err != nil {
			return err
		}
		return f(ctx, s, t)
	})
}

func newSnapList(c *cli) *cobra.Command {
	return &cobra.Command{
		Use: "list POOL/DIR[/IMAGE]", Short: "List the snapshots of an image, or of all images of a directory", Args: takes(1, 1),
		RunE: c.request(func(ctx context.Context, s *client, args []string) error {
			if strings.Contains(args[0], "@") {
				return fault.New(fault.Usage, "%q names a snapshot, not an image", args[0])
			}
			t, err := s.find(ctx, args[0])
			if err != nil {
				return err
			}
			all, err := holdSettled[[]api.Snapshot](ctx, s, t.directory, settleTime, api.SnapList, api.ImageRequest{Image: t.image})
			if err != nil {
				return err
			}
			slices.SortStableFunc(all, func(a, b api.Snapshot) int {
				return cmp.Or(cmp.Compare(a.Position, b.Position), cmp.Compare(a.Name, b.Name))
			})
			return c.show(list(all), func(t *table) { snapshotRows(t, all...) })
		}),
	}
}

func newSnapRename(c *cli) *cobra.Command {
	return &cobra.Command{
		Use: "rename POOL/DIR/IMAGE@SNAPSHOT NEWNAME", Short: "Give a snapshot another name", Args: takes(2, 2),
		Long: `Gives a snapshot another name: NEWNAME is the part behind the @, or the whole of
POOL/DIR/IMAGE@NEWNAME for the same image.`,
		RunE: c.request(func(ctx context.Context, s *client, args []string) error {
			name, err := parseSnapshot(args[0])
			if err != nil {
				return err
			}
			renamed := args[1]
			if strings.ContainsAny(renamed, "/@") {
				other, err := parseSnapshot(renamed)
				if err != nil {
					return err
				}
				if other.DirectoryName != name.DirectoryName || other.Image != name.Image {
					return fault.New(fault.Usage, "new name %q: it is of another image than %s", args[1], name.Join(name.Image))
				}
				renamed = other.Snapshot
			} else if err := events.CheckName(renamed); err != nil {
				return fault.New(fault.Usage, "new name: %w", err)
			}
			return c.changeSnapshot(ctx, s, name, api.SnapRename,
				api.SnapRenameRequest{Image: name.Image, Snapshot: name.Snapshot, NewName: renamed})
		}),
	}
}

func newSnapRollback(c *cli) *cobra.Command {
	return &cobra.Command{
		Use: "rollback POOL/DIR/IMAGE@SNAPSHOT", Short: "Give an image the size and content of its snapshot again", Args: takes(1, 1),
		Long: `Gives an image the size and content of one of its snapshots again. What was written
since is gone at every site, unless another snapshot holds it. Nothing may be writing to
the image meanwhile: whoever has a file system of it mounted would not notice.`,
		RunE: c.request(func(ctx context.Context, s *client, args []string) error {
			name, err := parseSnapshot(args[0])
			if err != nil {
				return err
			}
			_, err = holder[api.Nothing](ctx, s, name.DirectoryName, api.SnapRollback, api.SnapRequest{Image: name.Image, Snapshot: name.Snapshot})
			if err != nil {
				return err
			}
			return c.showDone("rolled_back", name.String())
		}),
	}
}

func newSnapProtection(c *cli, verb, short, request string) *cobra.Command {
	return &cobra.Command{
		Use: verb + " POOL/DIR/IMAGE@SNAPSHOT", Short: short, Args: takes(1, 1),
		RunE: c.request(func(ctx context.Context, s *client, args []string) error {
			name, err := parseSnapshot(args[0])
			if err != nil {
				return err
			}
			return c.changeSnapshot(ctx, s, name, request, api.SnapRequest{Image: name.Image, Snapshot: name.Snapshot})
		}),
	}
}

// changeSnapshot sends a request that answers with the snapshot.
func (c *cli) changeSnapshot(ctx context.Context, s *client, name events.ImageName, request string, body any) error {
	snapshot, err := holder[api.Snapshot](ctx, s, name.DirectoryName, request, body)
	if err != nil {
		return err
	}
	return c.show(snapshot, func(t *table) { snapshotRows(t, snapshot) })
}

func newSnapLimit(c *cli) *cobra.Command {
	change := func(ctx context.Context, s *client, image string, limit uint32) error {
		name, err := parseImage(image)
		if err != nil {
			return err
		}
		_, err = holder[api.Nothing](ctx, s, name.DirectoryName, api.SnapLimit, api.SnapLimitRequest{Image: name.Image, Limit: limit})
		if err != nil {
			return err
		}
		result := map[string]any{"image": name.String(), "snapshot_limit": limit}
		return c.show(result, func(t *table) { t.row("image:", name); t.row("limit:", orNone(limit)) })
	}
	return group("limit", "How many snapshots an image may have",
		&cobra.Command{
			Use: "set POOL/DIR/IMAGE N", Short: "Allow at most N snapshots of an image", Args: takes(2, 2),
			RunE: c.request(func(ctx context.Context, s *client, args []string) error {
				n, err := strconv.ParseUint(args[1], 10, 32)
				if err != nil || n < 1 || n > events.SnapshotsMax {
					return fault.New(fault.Usage, "limit %q: it is a number from 1 to %d; `snap limit clear` lifts it", args[1], events.SnapshotsMax)
				}
				return change(ctx, s, args[0], uint32(n))
			}),
		},
		&cobra.Command{
			Use: "clear POOL/DIR/IMAGE", Short: "Lift the limit", Args: takes(1, 1),
			RunE: c.request(func(ctx context.Context, s *client, args []string) error { return change(ctx, s, args[0], 0) }),
		},
	)
}

func orNone(limit uint32) string {
	if limit == 0 || limit == events.SnapshotsMax || limit == math.MaxUint32 {
		return "none"
	}
	return strconv.FormatUint(uint64(limit), 10)
}

func snapshotRows(t *table, snapshots ...api.Snapshot) {
	t.row("SNAPSHOT", "SIZE", "USED", "POSITION", "CREATED", "PROTECTED", "CLONES")
	for _, s := range snapshots {
		protected := "no"
		if s.Protected {
			protected = "yes"
		}
		t.row(s.Name, formatSize(s.Size), formatSize(s.UsedBytes), s.Position, s.Created.Time().Format(time.RFC3339), protected, s.Children)
	}
}
