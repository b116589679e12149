package main

import (
	"context"
	"time"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
)

const (
	// durablePrefix keeps the places of this command apart from those of others.
	durablePrefix = "events_"
	// durableWait is how long a message that was given to a command which died is kept from the
	// next one.
	durableWait = 10 * time.Second
	durableIdle = 30 * 24 * time.Hour
)

// resume follows a stream from where the command stopped that last named the same place; the
// first one begins with what the stream holds. What was printed last before a command died may
// be printed again.
func (p *streamPrinter) resume(ctx context.Context, s *client, stream, name string) error {
	switch {
	case stream == "" || !p.follow:
		return fault.New(fault.Usage, "--durable keeps a place in one stream that is followed: give --stream and --follow too")
	case events.CheckName(name) != nil || events.Token(name) != name:
		return fault.New(fault.Usage, "durable %q: its name has letters, digits, - and _", name)
	}
	b, err := s.connect()
	if err != nil {
		return err
	}
	if _, err := p.choose(ctx, b, stream); err != nil {
		return err
	}
	place, err := b.OpenDurable(ctx, stream, bus.DurableConfig{
		Name: durablePrefix + name, Wait: durableWait, Idle: durableIdle, FromStart: true,
	})
	if err != nil {
		return err
	}
	defer place.Stop()
	for {
		m, err := place.Next(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil // an interrupt is how following ends
			}
			return err
		}
		if err := p.line(stream, m.Message); err != nil {
			return err
		}
		if err := m.Done(context.WithoutCancel(ctx)); err != nil {
			return err
		}
	}
}
