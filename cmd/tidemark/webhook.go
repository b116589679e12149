package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tidemark/internal/api"
	"tidemark/internal/fault"
)

func newWebhook(c *cli) *cobra.Command {
	return group("webhook", "Programs that are told of turns by HTTP (serve --webhook)",
		&cobra.Command{
			Use: "list", Short: "List webhooks, and what waits for them", Args: takes(0, 0),
			RunE: c.request(func(ctx context.Context, s *client, _ []string) error {
				hooks, err := callNotifier[[]api.Webhook](ctx, s, api.WebhookList, api.Nothing{})
				if err != nil {
					return err
				}
				return c.show(list(hooks), func(t *table) { webhookRows(t, hooks) })
			}),
		},
		group("dead", "Deliveries that were given up",
			&cobra.Command{
				Use: "list", Short: "List what could not be delivered", Args: takes(0, 0),
				RunE: c.request(func(ctx context.Context, s *client, _ []string) error {
					dead, err := callNotifier[[]api.DeadLetter](ctx, s, api.WebhookDead, api.Nothing{})
					if err != nil {
						return err
					}
					return c.show(list(dead), func(t *table) { letterRows(t, dead) })
				}),
			},
			newLetters(c, "retry [LETTER…]", "Send them again: those that are named, or --all", api.WebhookRetry),
			newLetters(c, "discard [LETTER…]", "Drop them: those that are named, or --all", api.WebhookDiscard),
		),
	)
}

// lettersMax is far above what a person names.
const lettersMax = 1000

// newLetters is a command that does something with the letters that are named, or with all.
func newLetters(c *cli, use, short, subject string) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: use, Short: short, Args: takes(0, lettersMax),
		RunE: c.request(func(ctx context.Context, s *client, args []string) error {
			if all == (len(args) > 0) {
				return fault.New(fault.Usage, "say which letters, as `tidemark webhook dead list` names them, or --all")
			}
			requests, err := parseLetters(args)
			if err != nil {
				return err
			}
			var done []api.DeadLetter
			for _, r := range requests {
				some, err := callNotifier[[]api.DeadLetter](ctx, s, subject, r)
				if err != nil {
					return err
				}
				done = append(done, some...)
			}
			return c.show(list(done), func(t *table) { letterRows(t, done) })
		}),
	}
	cmd.Flags().BoolVar(&all, "all", false, "all of them")
	return cmd
}

// parseLetters reads WEBHOOK/SEQUENCE; no argument is one request for all.
func parseLetters(args []string) ([]api.Letters, error) {
	if len(args) == 0 {
		return []api.Letters{{}}, nil
	}
	var all []api.Letters
	for _, arg := range args {
		hook, number, _ := strings.Cut(arg, "/")
		sequence, err := strconv.ParseUint(number, 10, 64)
		if err != nil || sequence == 0 || hook == "" {
			return nil, fault.New(fault.Usage, "letter %q: write it as `tidemark webhook dead list` does, WEBHOOK/NUMBER", arg)
		}
		all = append(all, api.Letters{Webhook: hook, Sequence: sequence})
	}
	return all, nil
}

// callNotifier sends a request to the notifier service.
func callNotifier[Reply any](ctx context.Context, s *client, subject string, request any) (Reply, error) {
	reply, err := call[Reply](ctx, s, subject, request)
	if isNobody(err) {
		return reply, fault.New(fault.Timeout, "nobody answers %s at %s: is `tidemark serve` with the notifier service running there?", subject, redact(s.url))
	}
	return reply, err
}

func webhookRows(t *table, hooks []api.Webhook) {
	t.row("WEBHOOK", "HOST", "BACKLOG", "DEAD", "STATE")
	for _, h := range hooks {
		state := "working"
		switch {
		case !h.Configured:
			state = "not configured"
		case h.Failing != "":
			state = "failing: " + h.Failing
		}
		t.row(h.Webhook, h.Host, h.Backlog, h.Dead, state)
	}
}

func letterRows(t *table, letters []api.DeadLetter) {
	t.row("LETTER", "HOST", "WHAT", "ABOUT", "TRIES", "GIVEN UP", "ERROR")
	for _, l := range letters {
		about := l.Turn.Pool + l.Turn.Path
		if about == "" {
			about = l.Turn.Node + "/" + l.Turn.With
		}
		t.row(l.Webhook+"/"+strconv.FormatUint(l.Sequence, 10), l.Host, l.Turn.What, about, l.Tries, l.At.Time().Format(time.RFC3339), l.Error)
	}
}
