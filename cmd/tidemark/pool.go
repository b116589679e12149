package main

import (
	"context"

	"github.com/spf13/cobra"

	"tidemark/internal/api"
)

func newPool(c *cli) *cobra.Command {
	return group("pool", "Named sets of directories",
		&cobra.Command{
			Use: "create POOL", Short: "Create a pool", Args: takes(1, 1),
			RunE: c.request(func(ctx context.Context, s *client, args []string) error {
				return c.changePool(ctx, s, api.PoolCreate, args[0])
			}),
		},
		&cobra.Command{
			Use: "list", Short: "List the pools", Args: takes(0, 0),
			RunE: c.request(func(ctx context.Context, s *client, _ []string) error {
				pools, err := call[[]api.Pool](ctx, s, api.PoolList, api.Nothing{})
				if err != nil {
					return err
				}
				return c.show(list(pools), func(t *table) { poolRows(t, pools...) })
			}),
		},
		&cobra.Command{
			Use: "remove POOL", Short: "Remove an empty pool", Args: takes(1, 1),
			RunE: c.request(func(ctx context.Context, s *client, args []string) error {
				pool, err := parsePool(args[0])
				if err != nil {
					return err
				}
				if _, err := call[api.Nothing](ctx, s, api.PoolRemove, pool); err != nil {
					return err
				}
				return c.showRemoved(pool.Pool)
			}),
		},
	)
}

// changePool sends a request that takes a pool and answers with it.
func (c *cli) changePool(ctx context.Context, s *client, subject, name string) error {
	pool, err := parsePool(name)
	if err != nil {
		return err
	}
	if pool, err = call[api.Pool](ctx, s, subject, pool); err != nil {
		return err
	}
	return c.show(pool, func(t *table) { poolRows(t, pool) })
}

func poolRows(t *table, pools ...api.Pool) {
	t.row("POOL", "MIRRORING", "DIRECTORIES", "PEERS")
	for _, p := range pools {
		t.row(p.Pool, onOff(p.Mirroring), p.Directories, p.Peers)
	}
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}
