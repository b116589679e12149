package main

import (
	"bytes"
	"context"
	"time"

	"github.com/spf13/cobra"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
)

const (
	tokenBytesMax = 64 << 10
	tokenLife     = 24 * time.Hour
)

func newPeer(c *cli) *cobra.Command {
	return group("peer", "Sites that share a pool",
		newTokenCreate(c), newTokenImport(c),
		&cobra.Command{
			Use: "list POOL", Short: "List the peers of a pool", Args: takes(1, 1),
			RunE: c.request(func(ctx context.Context, s *client, args []string) error {
				pool, err := parsePool(args[0])
				if err != nil {
					return err
				}
				peers, err := call[[]api.Peer](ctx, s, api.PeerList, pool)
				if err != nil {
					return err
				}
				return c.show(list(peers), func(t *table) { peerRows(t, peers...) })
			}),
		},
		&cobra.Command{
			Use: "remove POOL PEER", Short: "Remove a peer, named by site or UUID", Args: takes(2, 2),
			RunE: c.request(func(ctx context.Context, s *client, args []string) error {
				pool, err := parsePool(args[0])
				if err != nil {
					return err
				}
				if err := events.CheckName(args[1]); err != nil {
					return fault.New(fault.Usage, "peer: %w", err)
				}
				request := api.PeerRemoveRequest{Pool: pool.Pool, Peer: args[1]}
				if _, err := call[api.Nothing](ctx, s, api.PeerRemove, request); err != nil {
					return err
				}
				return c.showRemoved(args[1])
			}),
		},
	)
}

func newTokenCreate(c *cli) *cobra.Command {
	life := tokenLife
	cmd := &cobra.Command{
		Use: "create-token POOL", Short: "Print a token that lets another site become a peer: a secret", Args: takes(1, 1),
		RunE: c.request(func(ctx context.Context, s *client, args []string) error {
			pool, err := parsePool(args[0])
			if err != nil {
				return err
			}
			if life <= 0 {
				return fault.New(fault.Usage, "expires %s: it must be more than zero", life)
			}
			reply, err := call[api.PeerTokenReply](ctx, s, api.PeerToken, api.PeerTokenRequest{Pool: pool.Pool, Expires: life})
			if err != nil {
				return err
			}
			if reply.Enabled {
				c.say("mirroring of pool %s is now on", pool.Pool)
			}
			return c.show(reply, func(t *table) { t.row(reply.Token) })
		}),
	}
	cmd.Flags().DurationVar(&life, "expires", life, "how long the token can be imported")
	return cmd
}

func newTokenImport(c *cli) *cobra.Command {
	var file string
	direction := string(events.ReceiveAndSend)
	cmd := &cobra.Command{
		Use: "import-token POOL", Short: "Become a peer of the site that a token comes from", Args: takes(1, 1),
		RunE: c.request(func(ctx context.Context, s *client, args []string) error {
			pool, err := parsePool(args[0])
			if err != nil {
				return err
			}
			way := events.Direction(direction)
			if way != events.ReceiveAndSend && way != events.ReceiveOnly {
				return fault.New(fault.Usage, "direction %q: it is rx-tx or rx-only", direction)
			}
			token, err := readToken(c, file)
			if err != nil {
				return err
			}
			peer, err := call[api.Peer](ctx, s, api.PeerImport, api.PeerImportRequest{
				Pool: pool.Pool, Token: token, Direction: way,
			})
			if err != nil {
				return err
			}
			return c.show(peer, func(t *table) { peerRows(t, peer) })
		}),
	}
	cmd.Flags().StringVar(&file, "token-file", "-", "`file` that holds the token, - for standard input")
	cmd.Flags().StringVar(&direction, "direction", direction, "rx-tx: both sites may follow each other; rx-only: this one follows")
	return cmd
}

func readToken(c *cli, file string) (string, error) {
	data, err := fileOrStdin(c, file, tokenBytesMax)
	if err != nil {
		return "", err
	}
	data = bytes.TrimSpace(data)
	if len(data) == 0 || bytes.ContainsAny(data, " \t\r\n") {
		return "", fault.New(fault.Usage, "the token must be the one line that `mirror peer create-token` printed")
	}
	return string(data), nil
}

func peerRows(t *table, peers ...api.Peer) {
	t.row("SITE", "PEER", "DIRECTION", "URL", "SINCE")
	for _, p := range peers {
		t.row(p.Site, p.Peer, p.Direction, redact(p.URL), p.Since.Time().Format(time.RFC3339))
	}
}
