package bus_test

import (
	"bytes"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

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

// TestGuestOutlivesItsDelivery: one that the server has given up is noticed, and begun again.
func TestGuestOutlivesItsDelivery(t *testing.T) {
	s := start(t, t.TempDir(), "127.0.0.1:0")
	own := inProcess(t, s)
	l, subject := newLog(t, own, 0)
	fill(t, l, subject, 1, 3)
	guest, err := asGuest(t, s).ExistingLog(within(t), l.Name())
	if err != nil {
		t.Fatal(err)
	}
	read, ended := make(chan uint64, 10), make(chan error, 1)
	go func() {
		check := expect(t, 1)
		ended <- guest.Follow(within(t), 1, func(m bus.Message) error {
			read <- m.Sequence
			if m.Sequence == 5 {
				return errEnough
			}
			return check(m)
		})
	}()
	awaitSequence(t, read, 3)
	js, err := jetstream.New(own.Conn())
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(within(t), l.Name())
	if err != nil {
		t.Fatal(err)
	}
	for name := range stream.ConsumerNames(within(t)).Name() {
		if err := stream.DeleteConsumer(within(t), name); err != nil {
			t.Fatal(err)
		}
	}
	fill(t, l, subject, 4, 5)
	awaitSequence(t, read, 5)
	if err := <-ended; err != errEnough { //nolint:errorlint // what f returned, as it is
		t.Error(err)
	}
}
