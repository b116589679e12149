package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
)

// streamLine is one message as `events` prints it.
type streamLine struct {
	Stream   string `json:"stream"`
	Sequence uint64 `json:"sequence"`
	Subject  string `json:"subject"`
	Kind     string `json:"kind"`
	Event    any    `json:"event"`
	Error    string `json:"error,omitempty"` // why Event is missing
}

func newEvents(c *cli) *cobra.Command {
	var stream, durable string
	var follow bool
	cmd := &cobra.Command{
		Use: "events", Short: "Print the messages of the site's streams as JSON lines", Args: takes(0, 0),
		RunE: c.action(func(ctx context.Context, _ []string) error {
			s := c.client()
			defer s.close()
			p := streamPrinter{cli: c, follow: follow}
			if durable != "" {
				return p.resume(ctx, s, stream, durable)
			}
			return p.print(ctx, s, stream)
		}),
	}
	cmd.Flags().StringVar(&stream, "stream", "", "one stream, a journal for example (default: all but journals)")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with new messages until interrupted")
	cmd.Flags().StringVar(&durable, "durable", "", "with --stream and --follow: `name` of a place that NATS keeps; go on behind what was printed under it")
	return cmd
}

// streamPrinter prints streams, several at a time when it follows them.
type streamPrinter struct {
	cli    *cli
	follow bool
	mu     sync.Mutex // held while a line is printed
}

func (p *streamPrinter) print(ctx context.Context, s *client, stream string) error {
	b, err := s.connect()
	if err != nil {
		return err
	}
	streams, err := p.choose(ctx, b, stream)
	if err != nil {
		return err
	}
	if !p.follow {
		for _, name := range streams {
			if err := p.read(ctx, b, name); err != nil {
				return err
			}
		}
		return nil
	}
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, len(streams))
	for _, name := range streams {
		go func() { failed <- p.read(reading, b, name) }()
	}
	first := <-failed // the others end with it
	cancel()
	for range len(streams) - 1 {
		<-failed //nolint:errcheck // ended with the first
	}
	if ctx.Err() != nil {
		return nil // an interrupt is how following ends
	}
	return first
}

// choose returns the streams to print: all that a site has, or the one that was named.
func (p *streamPrinter) choose(ctx context.Context, b *bus.Bus, stream string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cli.timeout)
	defer cancel()
	present, err := b.Streams(ctx)
	if err != nil {
		return nil, fault.New(fault.Timeout, "no JetStream answers: %w", err)
	}
	if stream != "" {
		if !slices.Contains(present, stream) {
			return nil, fault.New(fault.NotFound, "stream %q does not exist", stream)
		}
		return []string{stream}, nil
	}
	var names []string
	for _, s := range events.SiteStreams() {
		if slices.Contains(present, s.Name) {
			names = append(names, s.Name)
		}
	}
	if len(names) == 0 {
		return nil, fault.New(fault.NotFound, "the server has none of a site's streams: has `tidemark serve` ever run on it?")
	}
	return names, nil
}

var errReadAll = errors.New("read all")

// read prints a stream from its first message: to its present end, or for ever. A
// stream that keeps only the newest messages has gaps, which are passed over.
func (p *streamPrinter) read(parent context.Context, b *bus.Bus, stream string) error {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	state, err := b.State(ctx, stream)
	if err != nil {
		return err
	}
	if !p.follow && (state.Last == 0 || state.Last < state.First) {
		return nil
	}
	// A stream whose end is purged meanwhile would be waited for in vain.
	silence := time.AfterFunc(p.cli.timeout, cancel)
	defer silence.Stop()
	if p.follow {
		silence.Stop()
	}
	for from := state.First; ; {
		err := b.Follow(ctx, stream, from, func(m bus.Message) error {
			if !p.follow {
				silence.Reset(p.cli.timeout)
				if m.Sequence > state.Last {
					return errReadAll
				}
			}
			if err := p.line(stream, m); err != nil {
				return err
			}
			if !p.follow && m.Sequence == state.Last {
				return errReadAll
			}
			return nil
		})
		var gap *bus.GapError
		switch {
		case errors.Is(err, errReadAll):
			return nil
		case errors.As(err, &gap) && gap.Got > from:
			from = gap.Got
		case parent.Err() == nil && ctx.Err() != nil:
			return fault.New(fault.Timeout, "stream %s: its end did not come", stream)
		default:
			return err
		}
	}
}

func (p *streamPrinter) line(stream string, m bus.Message) error {
	line := streamLine{Stream: stream, Sequence: m.Sequence, Subject: m.Subject}
	if d, err := decodeMessage(m.Data); err != nil {
		line.Error = err.Error()
	} else {
		line.Kind, line.Event = d.Kind, d.Event
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return writeLine(p.cli.out, line)
}
