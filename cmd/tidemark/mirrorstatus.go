package main

import (
	"context"

	"github.com/spf13/cobra"

	"tidemark/internal/api"
	"tidemark/internal/overview"
)

// mirrorState is one directory as `mirror status` shows it.
type mirrorState = overview.Mirror

func newMirrorStatus(c *cli) *cobra.Command {
	return &cobra.Command{
		Use: "status [POOL[/DIR]]", Short: "Show who is primary, and how far replicas are behind", Args: takes(0, 1),
		Long: `Status shows each directory as its holder at this site sees it, in one of these states:

  syncing       the first copy is on its way
  replaying     a replica that follows its primary
  resync        a replica that gives up what its primary has not
  stopped       follows nobody now; of a primary always: its description says how it is
  stalled       nothing is heard of the primary, or nobody here holds the directory
  disconnected  its primary does not keep what it needs any more: resync it
  split_brain   both sites went on by themselves: resync the one that gives up
  error         its error says what is wrong; it is tried again by itself

Behind are the entries and bytes that were logged at the primary when it was last heard,
and the seconds since this copy was level with it, which go on while it is not heard.
A first sync or a resync shows what is copied, how fast, and how long the rest takes.`,
		RunE: c.request(func(ctx context.Context, s *client, args []string) error {
			states, err := s.mirrorStates(ctx, args)
			if err != nil {
				return err
			}
			if s.fromLog {
				c.say("the policy service does not answer: which directories there are was read from the log")
			}
			return c.show(list(states), func(t *table) {
				t.row("DIRECTORY", "ROLE", "PRIMARY", "STATE", "POSITION", "BEHIND", "SECONDS", "NODES", "ERROR")
				for _, m := range states {
					t.row(m.Directory, m.Role, m.Primary, m.State, m.Position, overview.Behind(m.Lag), overview.Seconds(m.Lag.Seconds), len(m.Nodes), m.Error)
				}
				for _, m := range states {
					if m.Progress != nil {
						t.gap()
						t.row(m.Directory + ": copied " + overview.Copied(m.Progress))
					}
					if m.Split != nil {
						splitRows(t, m.Directory, m.Split)
					}
				}
			})
		}),
	}
}

func (s *client) mirrorStates(ctx context.Context, args []string) ([]mirrorState, error) {
	dirs, err := s.directories(ctx, args)
	if err != nil {
		return nil, err
	}
	var instances []api.Instance
	if len(dirs) > 1 {
		if site, err := call[api.Site](ctx, s, api.SiteInfo, api.Nothing{}); err == nil {
			instances = site.Instances
		}
	}
	lines, _ := s.lines(ctx, dirs, instances)
	states := make([]mirrorState, len(lines))
	for i, l := range lines {
		states[i] = l.Mirror
	}
	return states, nil
}

// unheld is a directory whose holder does not answer.
func unheld(d api.Directory, err error) mirrorState { return overview.Unheld(d, err, isNobody(err)) }
