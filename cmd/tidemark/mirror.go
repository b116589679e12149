package main

import (
	"context"

	"github.com/spf13/cobra"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
)

func newMirror(c *cli) *cobra.Command {
	return group("mirror", "Replicas at other sites",
		&cobra.Command{
			Use: "enable POOL", Short: "Let peers follow a pool's directories", Args: takes(1, 1),
			RunE: c.request(func(ctx context.Context, s *client, args []string) error {
				return c.changePool(ctx, s, api.MirrorEnable, args[0])
			}),
		},
		&cobra.Command{
			Use: "disable POOL", Short: "End the mirroring of a pool", Args: takes(1, 1),
			RunE: c.request(func(ctx context.Context, s *client, args []string) error {
				return c.changePool(ctx, s, api.MirrorDisable, args[0])
			}),
		},
		&cobra.Command{
			Use: "add POOL/DIR", Short: "Follow a peer's directory at this site", Args: takes(1, 1),
			RunE: c.requestDirectory(func(ctx context.Context, s *client, name events.DirectoryName) error {
				return c.changeDirectory(ctx, s, api.MirrorAdd, name)
			}),
		},
		&cobra.Command{
			Use: "remove POOL/DIR", Short: "Stop following a directory and delete this site's copy", Args: takes(1, 1),
			RunE: c.requestDirectory(func(ctx context.Context, s *client, name events.DirectoryName) error {
				if _, err := call[api.Nothing](ctx, s, api.MirrorRemove, name); err != nil {
					return err
				}
				return c.showRemoved(name.String())
			}),
		},
		newMirrorStatus(c),
		newMirrorPromote(c),
		&cobra.Command{
			Use: "demote POOL/DIR", Short: "Give up a directory at this site, so that another can be promoted", Args: takes(1, 1),
			RunE: c.requestDirectory(func(ctx context.Context, s *client, name events.DirectoryName) error {
				d, err := call[api.Directory](ctx, s, api.MirrorDemote, name)
				if err != nil {
					return err
				}
				if d, err = s.awaitRole(ctx, name, d, events.Slave); err != nil {
					return err
				}
				return c.show(d, func(t *table) { directoryRows(t, d) })
			}),
		},
		newMirrorResync(c), newMirrorSet(c), newMirrorDirmap(c),
		newPeer(c),
	)
}

func newMirrorPromote(c *cli) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "promote POOL/DIR", Short: "Make this site the primary of a directory", Args: takes(1, 1),
		RunE: c.requestDirectory(func(ctx context.Context, s *client, name events.DirectoryName) error {
			d, err := s.promote(ctx, name, force)
			if err != nil {
				return err
			}
			return c.show(d, func(t *table) { directoryRows(t, d) })
		}),
	}
	cmd.Flags().BoolVar(&force, "force", false, "do so although the present primary has not given it up (it may hold writes that are then refused)")
	return cmd
}

// promote asks for a promotion and returns when the directory takes writes here.
func (s *client) promote(ctx context.Context, name events.DirectoryName, force bool) (api.Directory, error) {
	d, err := call[api.Directory](ctx, s, api.MirrorPromote, api.Promote{DirectoryName: name, Force: force})
	if err != nil {
		return d, err
	}
	return s.awaitRole(ctx, name, d, events.Master)
}

// The map's states of a directory that is where it should be, or that nobody can take.
const (
	mapped  = "mapped"
	stalled = "stalled"
)

// awaitRole waits until a directory has a role at this site and its holder answers in
// it. asked is the map's answer to the request; a failure that the map notes after it
// ends the wait.
func (s *client) awaitRole(ctx context.Context, name events.DirectoryName, asked api.Directory, role events.Role) (api.Directory, error) {
	for d := asked; ; {
		if d.Role == role && d.State == mapped {
			status, err := hold[api.Status](ctx, s, d, api.DirectoryStatus, api.Nothing{})
			if err == nil && status.Role == role {
				return d, nil
			}
		}
		if d.Error != "" && d.Error != asked.Error {
			return d, fault.New(fault.NotReady, "directory %s: %s", name, d.Error)
		}
		if pause(ctx, retryWait) != nil {
			return d, fault.New(fault.Timeout, "directory %s is not %s yet (%s); `tidemark mirror status %s` shows how it goes on", name, role, d.State, name)
		}
		var err error
		if d, err = call[api.Directory](ctx, s, api.DirectoryResolve, name); err != nil {
			return d, err
		}
	}
}
