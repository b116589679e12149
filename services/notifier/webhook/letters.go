package webhook

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
)

// letterKey names a letter: a note for a webhook.
type letterKey struct {
	webhook  string
	sequence uint64
}

// letters is the fold of DELIVERIES: which letters are dead.
type letters struct {
	known chan struct{} // closed when all that the stream held is folded

	mu   sync.Mutex
	dead map[letterKey]deadLetter
}

// deadLetter is a letter that was given up, and the message of the stream that says so.
type deadLetter struct {
	events.LetterDied
	said uint64
}

func newLetters() *letters {
	return &letters{known: make(chan struct{}), dead: map[letterKey]deadLetter{}}
}

// follow folds the stream until ctx ends.
func (l *letters) follow(ctx context.Context, b *bus.Bus, log *slog.Logger, m *metrics) {
	var once sync.Once
	for {
		err := b.Watch(ctx, events.StreamDeliveries, events.LettersSubject("*"), func() { once.Do(func() { close(l.known) }) },
			func(seq uint64, fact events.Fact) error {
				m.dead.Set(float64(l.evolve(seq, fact)))
				return nil
			})
		if ctx.Err() != nil {
			return
		}
		log.Warn("dead letters are read again", "error", err)
		if !sleep(ctx, pause) {
			return
		}
	}
}

// evolve adds a fact, and returns how many letters are dead.
func (l *letters) evolve(seq uint64, fact events.Fact) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch f := fact.(type) {
	case *events.LetterDied:
		l.dead[letterKey{f.Webhook, f.Sequence}] = deadLetter{*f, seq}
	case *events.LetterResent:
		delete(l.dead, letterKey{f.Webhook, f.Sequence})
	case *events.LetterDiscarded:
		delete(l.dead, letterKey{f.Webhook, f.Sequence})
	}
	return len(l.dead)
}

// list returns the dead letters, by webhook and age.
func (l *letters) list() []deadLetter {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.SortedFunc(maps.Values(l.dead), func(a, b deadLetter) int {
		return cmp.Or(strings.Compare(a.Webhook, b.Webhook), cmp.Compare(a.Sequence, b.Sequence))
	})
}

// await returns once the letters are known.
func (l *letters) await(ctx context.Context) error {
	select {
	case <-l.known:
		return nil
	case <-ctx.Done():
		return fault.New(fault.NotReady, "the dead letters are being read: %w", ctx.Err())
	}
}

// list answers which webhooks there are: those that are configured here, and those that
// dead letters remain of.
func (s *Service) list(ctx context.Context, _ api.Nothing) ([]api.Webhook, error) {
	if err := s.letters.await(ctx); err != nil {
		return nil, err
	}
	all := s.webhooks(ctx)
	for _, d := range s.letters.list() {
		i := slices.IndexFunc(all, func(h api.Webhook) bool { return h.Webhook == d.Webhook })
		if i < 0 {
			i = len(all)
			all = append(all, api.Webhook{Webhook: d.Webhook, Host: d.Host})
		}
		all[i].Dead++
	}
	return all, nil
}

func (s *Service) dead(ctx context.Context, _ api.Nothing) ([]api.DeadLetter, error) {
	if err := s.letters.await(ctx); err != nil {
		return nil, err
	}
	var all []api.DeadLetter
	for _, d := range s.letters.list() {
		all = append(all, shown(d))
	}
	return all, nil
}

func shown(d deadLetter) api.DeadLetter {
	return api.DeadLetter{
		Webhook: d.Webhook, Host: d.Host, Sequence: d.Sequence, Turn: d.Turn, Tries: d.Tries, Error: d.Error, At: d.At,
	}
}

// retry sends dead letters again. Of two who ask for it at once, one does it.
func (s *Service) retry(ctx context.Context, r api.Letters) ([]api.DeadLetter, error) {
	return s.settle(ctx, r, func(d deadLetter) (events.Fact, error) {
		if !s.configured(d.Webhook) {
			if r.Webhook == "" {
				return nil, nil
			}
			return nil, fault.New(fault.NotReady, "webhook %s at %s is not configured any more: start the notifier with its URL, or `tidemark webhook dead discard` it", d.Webhook, d.Host)
		}
		return &events.LetterResent{
			Webhook: d.Webhook, Host: d.Host, Sequence: d.Sequence, Turn: d.Turn, At: events.InstantOf(time.Now()),
		}, nil
	})
}

// discard drops dead letters.
func (s *Service) discard(ctx context.Context, r api.Letters) ([]api.DeadLetter, error) {
	return s.settle(ctx, r, func(d deadLetter) (events.Fact, error) {
		return &events.LetterDiscarded{Webhook: d.Webhook, Sequence: d.Sequence, At: events.InstantOf(time.Now())}, nil
	})
}

// settle notes what becomes of dead letters, nil for those that stay, and returns which it
// was noted of.
func (s *Service) settle(ctx context.Context, r api.Letters, becomes func(deadLetter) (events.Fact, error)) ([]api.DeadLetter, error) {
	if err := s.letters.await(ctx); err != nil {
		return nil, err
	}
	settled := []api.DeadLetter{}
	for _, d := range s.letters.list() {
		if r.Webhook != "" && r.Webhook != d.Webhook || r.Sequence != 0 && r.Sequence != d.Sequence {
			continue
		}
		fact, err := becomes(d)
		if err != nil {
			return settled, err
		}
		if fact == nil {
			continue
		}
		_, err = s.bus.PublishOver(ctx, events.StreamDeliveries, d.said, fact)
		switch {
		case errors.Is(err, bus.ErrOvertaken):
		case err != nil:
			return settled, err
		default:
			settled = append(settled, shown(d))
		}
	}
	if len(settled) == 0 && r.Sequence != 0 {
		return nil, fault.New(fault.NotFound, "no such dead letter: `tidemark webhook dead list` shows them")
	}
	return settled, nil
}

// configured reports whether a webhook's URL is known here.
func (s *Service) configured(name string) bool {
	return slices.ContainsFunc(s.workers, func(w *worker) bool { return w.endpoint.Name == name })
}
