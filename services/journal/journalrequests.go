package journal

import (
	"context"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/holder"
)

// journal is what the directory's journal is asked about.
func (l *life) journal() *holder.Journal {
	deps := l.directory.service.deps
	settings, lag := deps.Settings, deps.Lag.For(deps.JournalBytesMax)
	return &holder.Journal{
		Log: l.log,
		Info: api.Journal{
			Subject: events.JournalSubject(deps.Node.Site.Name, l.directory.id), Durability: deps.Durability,
			BytesLimit: uint64(max(deps.JournalBytesMax, 0)),
			FlushBytes: uint64(settings.FlushBytes), FlushSeconds: settings.FlushAge.Seconds(),
			FlushEntries: uint64(settings.FlushEntries), Writethrough: settings.WritethroughUntilFlush,
			InFlight: settings.MaxInFlight, PayloadBytes: uint64(settings.PayloadBytes),
			LagBytes: uint64(lag.Bytes), LagSeconds: lag.Age.Seconds(),
		},
		Condition: func() holder.Condition {
			state, cause := l.directory.condition()
			return holder.Condition{
				State: string(state), Cause: cause, Head: l.tail.Marks().Logged,
				Clients: l.consumers(),
			}
		},
	}
}

// journalHandlers answer what is said about the journal.
func (l *life) journalHandlers() []api.Handler {
	return []api.Handler{
		on(l, api.JournalReset, l.resetJournal, nothing),
		on(l, api.JournalDisconnect, l.disconnectClient, nothing),
		api.On(api.HolderSubject(l.directory.id, api.JournalImport), func(ctx context.Context, r api.JournalImportRequest) (api.JournalImportReply, error) {
			reply, err := l.importEvents(ctx, r)
			return reply, l.directory.refuse(err)
		}),
	}
}

// disconnectClient makes the journal stop waiting for a client.
func (l *life) disconnectClient(ctx context.Context, r api.JournalClientRequest) error {
	d := l.directory
	if r.Client == "" {
		return fault.New(fault.Usage, "say which client of the journal is meant")
	}
	gone, err := d.service.clients.Disconnect(ctx, d.service.deps.Bus, d.id, r.Client)
	for _, f := range gone {
		d.noteWith(f.Client, events.Disconnected, f.Mark, "by request")
	}
	return err
}

// resetJournal drops the journal's history and its clients: what they lack is gone, so
// they are synced again. The copy here stays as it is. A journal that holds nothing but
// its reset is left alone.
func (l *life) resetJournal(ctx context.Context, _ api.Nothing) error {
	return l.operations.alone(ctx, l.reset)
}

func (l *life) reset(ctx context.Context) error {
	if _, err := l.tail.Commit(ctx); err != nil { // most of it while writers go on
		return err
	}
	if err := l.writer.pause(); err != nil {
		return err
	}
	defer l.writer.resume()
	if err := l.tail.Drain(ctx); err != nil {
		return err
	}
	if err := l.directory.disconnectAll(ctx); err != nil {
		return err
	}
	if claim := l.claim.Load(); claim.Reason != events.TagReset || l.tail.Marks().Logged.Position != claim.Mark.Position {
		if err := l.writer.claimNext(events.TagReset); err != nil {
			return err
		}
	}
	// From here on a crash finds the replica at the tag that is left.
	if err := l.tail.Drain(ctx); err != nil {
		return err
	}
	if _, err := l.tail.Commit(ctx); err != nil {
		return err
	}
	err := l.tail.BetweenTrims(ctx, func(events.Position) error { return l.log.Trim(ctx, l.tail.LastSequence()) })
	if err == nil {
		l.directory.note(events.JournalReset, l.claim.Load().Mark, "")
	}
	return err
}

// claimNext claims the tag that follows, behind everything that was placed, and returns
// when it is safe.
func (w *writer) claimNext(reason events.TagReason) error {
	done := make(chan error, 1)
	w.mu.Lock()
	w.awaitRewound()
	err := w.failure
	if err == nil {
		err = w.roll(reason, completion{func(err error) { done <- err }, true})
	}
	w.mu.Unlock()
	if err != nil {
		return err
	}
	return <-done
}
