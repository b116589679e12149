package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/overview"
)

func newJournal(c *cli) *cobra.Command {
	return group("journal", "The journals of directories: how far they reach, and what is in them",
		&cobra.Command{
			Use: "info POOL/DIR", Short: "Show how a journal is kept", Args: takes(1, 1),
			RunE: c.requestDirectory(c.journalInfo),
		},
		&cobra.Command{
			Use: "status POOL/DIR", Short: "Show how far a journal and its clients have come", Args: takes(1, 1),
			RunE: c.requestDirectory(c.journalStatus),
		},
		&cobra.Command{
			Use: "tags POOL/DIR", Short: "List who has owned a journal, and since when", Args: takes(1, 1),
			RunE: c.requestDirectory(c.journalTags),
		},
		newJournalInspect(c), newJournalExport(c), newJournalImport(c), newJournalReset(c), newJournalDisconnect(c),
	)
}

func (c *cli) journalInfo(ctx context.Context, s *client, name events.DirectoryName) error {
	j, err := holder[api.Journal](ctx, s, name, api.JournalInfo, api.Nothing{})
	if err != nil {
		return err
	}
	return c.show(j, func(t *table) {
		t.row("journal of:", j.Name)
		t.row("directory:", j.Directory)
		t.row("history:", j.History)
		t.row("stream:", j.Stream)
		t.row("subject:", j.Subject)
		t.row("durability:", j.Durability)
		if j.InFlight == 0 {
			return // a replica's journal: its owner decides the rest
		}
		t.row("limit:", formatSize(j.BytesLimit))
		t.row("flushed at:", formatSize(j.FlushBytes), "or", limit(j.FlushEntries > 0, fmt.Sprint(j.FlushEntries, " entries")),
			"or after", time.Duration(j.FlushSeconds*float64(time.Second)))
		t.row("at once until a flush:", j.Writethrough)
		t.row("appends in flight:", j.InFlight)
		t.row("data in one entry:", formatSize(j.PayloadBytes))
		t.row("disconnects at:", limit(j.LagBytes > 0, formatSize(j.LagBytes)), "or", limit(j.LagSeconds > 0, overview.Seconds(j.LagSeconds)))
	})
}

// limit shows a limit that may be off.
func limit(on bool, value any) any {
	if on {
		return value
	}
	return "no limit"
}

func (c *cli) journalStatus(ctx context.Context, s *client, name events.DirectoryName) error {
	j, err := holder[api.JournalState](ctx, s, name, api.JournalStatus, api.Nothing{})
	if err != nil {
		return err
	}
	j.Clients = list(j.Clients)
	return c.show(j, func(t *table) {
		t.row("state:", j.State, j.Error)
		t.row("minimum:", j.Minimum)
		t.row("last entry:", events.At(j.Tag, j.Entry))
		t.row("entries ever:", j.Entries)
		t.row("takes:", formatSize(j.Bytes))
		t.gap()
		t.row("CLIENT", "STATE", "COMMITTED", "ENTRIES BEHIND", "BYTES BEHIND", "SEEN")
		for _, client := range j.Clients {
			t.row(client.ID, client.State, events.At(client.Commit.Tag, client.Commit.Entry), client.Entries,
				formatSize(client.Bytes), client.Seen.Time().Format(time.RFC3339))
		}
	})
}

func (c *cli) journalTags(ctx context.Context, s *client, name events.DirectoryName) error {
	tags, err := holder[[]api.Tag](ctx, s, name, api.JournalTags, api.Nothing{})
	if err != nil {
		return err
	}
	return c.show(list(tags), func(t *table) {
		t.row("TAG", "REASON", "SITE", "NODE", "CONTINUES", "SINCE")
		for _, tag := range tags {
			t.row(tag.Tag, tag.Reason, tag.Site, tag.Node, events.At(tag.Predecessor.Tag, tag.Predecessor.Entry), tag.At.Time().Format(time.RFC3339))
		}
	})
}

func newJournalReset(c *cli) *cobra.Command {
	return &cobra.Command{
		Use: "reset POOL/DIR", Short: "Drop what a journal holds, and forget its clients", Args: takes(1, 1),
		Long: `Drops every entry that the journal of a directory holds, and all its clients. The images
and their snapshots stay as they are. Every replica must then be copied anew, and no
earlier point in time can be returned to. It does not ask whether you are sure.`,
		RunE: c.requestDirectory(func(ctx context.Context, s *client, name events.DirectoryName) error {
			if _, err := holder[api.Nothing](ctx, s, name, api.JournalReset, api.Nothing{}); err != nil {
				return err
			}
			return c.showDone("reset", name.String())
		}),
	}
}

func newJournalDisconnect(c *cli) *cobra.Command {
	var id string
	cmd := &cobra.Command{
		Use: "disconnect POOL/DIR --client ID", Short: "Stop keeping what a client of a journal still needs", Args: takes(1, 1),
		Long: `Stops keeping what a client of the journal still needs, so that the journal can be cut.
The client, when it comes back, must be copied anew. 'tidemark journal status' lists the
clients' IDs.`,
		RunE: c.requestDirectory(func(ctx context.Context, s *client, name events.DirectoryName) error {
			if id == "" {
				return fault.New(fault.Usage, "say which client: --client ID, as `tidemark journal status` shows it")
			}
			if _, err := holder[api.Nothing](ctx, s, name, api.JournalDisconnect, api.JournalClientRequest{Client: id}); err != nil {
				return err
			}
			return c.showDone("disconnected", id)
		}),
	}
	cmd.Flags().StringVar(&id, "client", "", "`ID` of the client: SITE.NODE")
	return cmd
}
