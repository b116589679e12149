package main

import (
	"context"

	"github.com/spf13/cobra"

	"tidemark/events"
	"tidemark/internal/api"
)

func newDir(c *cli) *cobra.Command {
	return group("dir", "Directories: what is ordered, moved and mirrored as one",
		&cobra.Command{
			Use: "create POOL/DIR", Short: "Create a directory", Args: takes(1, 1),
			RunE: c.requestDirectory(func(ctx context.Context, s *client, name events.DirectoryName) error {
				return c.changeDirectory(ctx, s, api.DirectoryCreate, name)
			}),
		},
		&cobra.Command{
			Use: "list [POOL[/DIR]]", Short: "List directories", Args: takes(0, 1),
			RunE: c.request(func(ctx context.Context, s *client, args []string) error {
				all, err := s.directories(ctx, args)
				if err != nil {
					return err
				}
				return c.show(list(all), func(t *table) { directoryRows(t, all...) })
			}),
		},
		&cobra.Command{
			Use: "info POOL/DIR", Short: "Show a directory as its holder sees it", Args: takes(1, 1),
			RunE: c.requestDirectory(c.directoryInfo),
		},
		&cobra.Command{
			Use: "remove POOL/DIR", Short: "Remove a directory that has no images", Args: takes(1, 1),
			RunE: c.requestDirectory(func(ctx context.Context, s *client, name events.DirectoryName) error {
				if _, err := call[api.Nothing](ctx, s, api.DirectoryRemove, name); err != nil {
					return err
				}
				return c.showRemoved(name.String())
			}),
		},
	)
}

// requestDirectory makes a command's code out of a function that takes one directory.
func (c *cli) requestDirectory(f func(context.Context, *client, events.DirectoryName) error) func(*cobra.Command, []string) error {
	return c.request(func(ctx context.Context, s *client, args []string) error {
		name, err := parseDirectory(args[0])
		if err != nil {
			return err
		}
		return f(ctx, s, name)
	})
}

// changeDirectory sends a request that takes a directory's name and answers with the directory.
func (c *cli) changeDirectory(ctx context.Context, s *client, subject string, name events.DirectoryName) error {
	d, err := call[api.Directory](ctx, s, subject, name)
	if err != nil {
		return err
	}
	return c.show(d, func(t *table) { directoryRows(t, d) })
}

func directoryRows(t *table, all ...api.Directory) {
	t.row("DIRECTORY", "ROLE", "NODE", "STATE", "ERROR")
	for _, d := range all {
		t.row(d.Name, d.Role, d.Node, d.State, d.Error)
	}
}

// directoryInfo is what `dir info` shows: the map's view and the holder's.
type directoryInfo struct {
	api.Directory
	Holder *api.Status `json:"holder"` // null while nobody answers for the directory
}

func (c *cli) directoryInfo(ctx context.Context, s *client, name events.DirectoryName) error {
	d, err := call[api.Directory](ctx, s, api.DirectoryResolve, name)
	if err != nil {
		return err
	}
	info := directoryInfo{Directory: d}
	status, err := hold[api.Status](ctx, s, d, api.DirectoryStatus, api.Nothing{})
	switch {
	case err == nil:
		info.Holder = &status
	case !isNobody(err):
		return err
	}
	return c.show(info, func(t *table) {
		t.row("directory:", d.Name)
		t.row("id:", d.ID)
		t.row("role:", d.Role)
		t.row("node:", d.Node)
		t.row("mapping:", d.State)
		if d.Following != (api.Following{}) {
			t.row("delay:", setting(d.Delay))
			t.row("target rpo:", setting(d.TargetRPO))
			t.row("limit:", limitOf(d.Following))
		}
		if info.Holder == nil {
			t.row("holder:", "nobody answers", d.Error)
			return
		}
		t.row("state:", status.State, status.Error)
		t.row("primary:", status.Primary)
		t.row("position:", status.Position.Position)
		t.row("safe:", status.Safe.Position)
		t.row("applied:", status.Applied.Position)
		t.row("committed:", status.Committed.Position)
		t.row("durability:", status.Durability)
		t.row("journal:", status.Stream, formatSize(status.Bytes)+" of "+formatSize(status.BytesLimit))
		for _, client := range status.Clients {
			t.row("client:", client.ID, client.State, client.Position, formatSize(client.Bytes)+" behind")
		}
	})
}
