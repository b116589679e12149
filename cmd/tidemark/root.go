package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"tidemark/internal/fault"
)

const (
	defaultNATS    = "nats://127.0.0.1:4222"
	defaultTimeout = 30 * time.Second
)

// cli is one run of the command: where it reads and writes, and the flags that all
// commands share.
type cli struct {
	in       io.Reader
	out      io.Writer // results
	messages io.Writer // everything else
	saying   sync.Mutex

	natsURL    string
	creds      string
	natsCA     string
	output     string
	timeout    time.Duration
	noProgress bool

	// acting is set once a command's own code runs: an error before that is a wrong
	// command line.
	acting bool
}

func newRoot(c *cli) *cobra.Command {
	root := &cobra.Command{
		Use:   "tidemark",
		Short: "Keep disk images safe at a second place",
		Long: `Tidemark serves disk images over NBD, logs every change to NATS JetStream before
it reaches the disk, and keeps replicas of them in the same site or another.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 already exists,
5 refused in this state, 6 timed out or nobody answered.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetIn(c.in)
	root.SetOut(c.out)
	root.SetErr(c.messages)
	flags := root.PersistentFlags()
	flags.StringVar(&c.natsURL, "nats-url", envOr("TIDEMARK_NATS_URL", defaultNATS), "the site's NATS server (env TIDEMARK_NATS_URL)")
	flags.StringVar(&c.creds, "creds", os.Getenv("TIDEMARK_CREDS"), "NATS credentials: `file` with a user's seed, or .creds (env TIDEMARK_CREDS)")
	flags.StringVar(&c.natsCA, "nats-ca", os.Getenv("TIDEMARK_NATS_CA"), "PEM `file` with who may have signed a NATS server's certificate (env TIDEMARK_NATS_CA; default: whom the system trusts)")
	flags.StringVarP(&c.output, "output", "o", outputTable, "how to print results: table or json")
	flags.DurationVar(&c.timeout, "timeout", defaultTimeout, "how long to wait for answers")
	flags.BoolVar(&c.noProgress, "no-progress", false, "do not show the progress of long work")
	root.AddCommand(
		newServe(c), newDemo(c), newStatus(c),
		newPool(c), newDir(c), newImage(c), newSnap(c), newClone(c), newFlatten(c), newJournal(c), newMirror(c),
		newWebhook(c), newEvents(c), newDecode(c), newBench(c), newAccess(c), newHealth(c), newVersion(c),
	)
	return root
}

func envOr(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// group returns a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short}
	cmd.AddCommand(commands...)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())
		}
		names := make([]string, 0, len(commands))
		for _, sub := range cmd.Commands() {
			names = append(names, sub.Name())
		}
		return fmt.Errorf("%s needs a command: one of %s", cmd.CommandPath(), strings.Join(names, ", "))
	}
	return cmd
}

// action makes a command's code out of a function, after the shared flags were checked.
func (c *cli) action(f func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c.acting = true
		switch {
		case c.output != outputTable && c.output != outputJSON:
			return fault.New(fault.Usage, "output %q: it is table or json", c.output)
		case c.timeout <= 0:
			return fault.New(fault.Usage, "timeout %s: it must be more than zero", c.timeout)
		}
		return f(cmd.Context(), args)
	}
}

// request makes a command's code out of a function that talks to a site for at most
// --timeout.
func (c *cli) request(f func(ctx context.Context, s *client, args []string) error) func(*cobra.Command, []string) error {
	return c.action(func(ctx context.Context, args []string) error {
		ctx, cancel := context.WithTimeout(ctx, c.timeout)
		defer cancel()
		s := c.client()
		defer s.close()
		return f(ctx, s, args)
	})
}

// takes demands between least and most arguments, and answers anything else with how
// the command is used.
func takes(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least || len(args) > most {
			return fmt.Errorf("%d arguments where %s is expected", len(args), cmd.UseLine())
		}
		return nil
	}
}
