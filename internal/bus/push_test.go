package bus_test

import (
	"bytes"
	"testing"

	"tidemark/internal/bus"
)

// TestGuestReadsMuch: much more than one delivery is given, live and afterwards, in order.
func TestGuestReadsMuch(t *testing.T) {
	s := start(t, t.TempDir(), "127.0.0.1:0")
	l, subject := newLog(t, inProcess(t, s), 0)
	const messages = 100
	large := bytes.Repeat([]byte{7}, 400<<10) // 40 MB
	guest, err := asGuest(t, s).ExistingLog(within(t), l.Name())
	if err != nil {
		t.Fatal(err)
	}
	live := make(chan error, 1)
	go func() {
		live <- guest.Follow(within(t), 1, func(m bus.Message) error {
			if m.Sequence == messages {
				return errEnough
			}
			return nil
		})
	}()
	for i := range uint64(messages) {
		if _, err := l.Append(within(t), subject, large, i); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-live; err != errEnough { //nolint:errorlint // what f returned, as it is
		t.Error(err)
	}
	next := uint64(1)
	err = guest.ReadTo(within(t), 1, messages, func(m bus.Message) error {
		if m.Sequence != next || !bytes.Equal(m.Data, large) {
			t.Errorf("message %d, want %d", m.Sequence, next)
		}
		next++
		return nil
	})
	if err != nil || next != messages+1 {
		t.Errorf("read to %d: %v", next-1, err)
	}
	if _, err := guest.Get(within(t), messages+1); err == nil {
		t.Error("there is a message behind the last one")
	}
}
