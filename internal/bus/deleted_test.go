package bus_test

import (
	"context"
	"errors"
	"testing"

	"tidemark/events"
	"tidemark/internal/bus"
)

// deleteUnderReader deletes a log of which a reader has had all three messages, and returns
// how that ends.
func deleteUnderReader(ctx context.Context, t *testing.T) (b *bus.Bus, name, subject string, followed <-chan error) {
	t.Helper()
	server := start(t, t.TempDir(), "127.0.0.1:0")
	b = connect(t, bus.Config{URL: server.URL()})
	l, subject := newLog(t, b, 0)
	fill(t, l, subject, 1, 3)
	ctx, cancel := context.WithCancel(ctx)
	t.Cleanup(cancel)
	seen, ended := make(chan uint64, 100), make(chan error, 1)
	go func() {
		ended <- l.Follow(ctx, 1, func(m bus.Message) error {
			seen <- m.Sequence
			return nil
		})
	}()
	awaitSequence(t, seen, 3)
	if err := b.RemoveLog(ctx, l.Name()); err != nil {
		t.Fatal(err)
	}
	return b, l.Name(), subject, ended
}

// TestStreamIsDeletedUnderItsReader: a reader of a stream that is no more is told, and does
// not wait for it to come back.
func TestStreamIsDeletedUnderItsReader(t *testing.T) {
	_, _, _, followed := deleteUnderReader(within(t), t)
	if err := <-followed; !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("its reader ended with %v", err)
	}
}

// TestStreamIsReplacedUnderItsReader: a stream that was deleted and created again under the
// same name has other messages at the same sequences; its reader is told, and does not wait
// for those that follow.
func TestStreamIsReplacedUnderItsReader(t *testing.T) {
	ctx := within(t)
	b, name, subject, followed := deleteUnderReader(ctx, t)
	again, err := b.OpenLog(ctx, events.Stream{Name: name, Subjects: []string{subject}})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, again, subject, 1, 2)
	if err := <-followed; !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("its reader ended with %v", err)
	}
}
