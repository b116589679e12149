package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
)

// rate is a flag for bytes per second: a size, with or without /s; 0 is no bound.
type rate uint64

// Set implements pflag.Value.
func (r *rate) Set(text string) error {
	return (*offset)(r).Set(strings.TrimSuffix(text, "/s"))
}

// String implements pflag.Value.
func (r *rate) String() string { return (*offset)(r).String() }

// Type implements pflag.Value.
func (r *rate) Type() string { return "rate" }

func newMirrorSet(c *cli) *cobra.Command {
	var delay, target time.Duration
	var limit rate
	cmd := &cobra.Command{
		Use: "set POOL/DIR", Short: "Change how this site's copy of a directory follows: what is not named stays", Args: takes(1, 1),
	}
	cmd.Flags().DurationVar(&delay, "delay", 0, "keep the copy this much behind its primary; 0s: as close as can be")
	cmd.Flags().DurationVar(&target, "target-rpo", 0, "raise an alarm when the copy is further behind than this; 0s: never")
	cmd.Flags().Var(&limit, "limit", "bytes per second that a first sync or resync may fetch, like 10MiB; 0: no bound")
	cmd.RunE = c.requestDirectory(func(ctx context.Context, s *client, name events.DirectoryName) error {
		request := api.MirrorSettings{DirectoryName: name}
		if cmd.Flags().Changed("delay") {
			request.Delay = &delay
		}
		if cmd.Flags().Changed("target-rpo") {
			request.TargetRPO = &target
		}
		if cmd.Flags().Changed("limit") {
			request.Limit = (*uint64)(&limit)
		}
		if err := checkSettings(request); err != nil {
			return err
		}
		d, err := call[api.Directory](ctx, s, api.MirrorSet, request)
		if err != nil {
			return err
		}
		return c.show(d, func(t *table) { dirmapRows(t, d) })
	})
	return cmd
}

func checkSettings(r api.MirrorSettings) error {
	if r.Delay == nil && r.TargetRPO == nil && r.Limit == nil {
		return fault.New(fault.Usage, "nothing is to be set: give --delay, --target-rpo or --limit")
	}
	for flag, d := range map[string]*time.Duration{"delay": r.Delay, "target-rpo": r.TargetRPO} {
		if d != nil && (*d < 0 || *d > api.SettingMax) {
			return fault.New(fault.Usage, "--%s %s: it is from 0s to %s", flag, *d, api.SettingMax)
		}
	}
	return nil
}

// setting writes a number of seconds as the commands take it; zero is not set.
func setting(s float64) string {
	if s == 0 {
		return ""
	}
	return time.Duration(s * float64(time.Second)).String()
}

func limitOf(f api.Following) string {
	if f.Limit == 0 {
		return ""
	}
	return formatSize(f.Limit) + "/s"
}

func newMirrorResync(c *cli) *cobra.Command {
	var keep bool
	cmd := &cobra.Command{
		Use: "resync POOL/DIR", Short: "Give up what this site's copy has and the primary has not, and follow again", Args: takes(1, 1),
		Long: `Resync makes this site's copy of a directory what the primary's is: changes that
only this site has are given up. Only what differs is copied, and the present copy
stays readable until that is done. It is asked for once: it goes on by itself after
anything dies, and begins when the site can. "tidemark mirror status" shows how far it is.`,
		RunE: c.requestDirectory(func(ctx context.Context, s *client, name events.DirectoryName) error {
			d, err := call[api.Directory](ctx, s, api.MirrorResync, api.Resync{DirectoryName: name, KeepRefused: keep})
			if err != nil {
				return err
			}
			return c.show(d, func(t *table) { directoryRows(t, d) })
		}),
	}
	cmd.Flags().BoolVar(&keep, "keep-refused", false, "keep what is given up as images named NAME.conflict-…")
	return cmd
}
