package bus_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/internal/bus"
)

func appendAndRead(t *testing.T, b *bus.Bus) {
	l, subject := newLog(t, b, 0)
	ctx := within(t)
	fill(t, l, subject, 1, 300)
	if err := l.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	sizeIsKnown(t, b, l)
	if err := l.ReadTo(ctx, 1, 300, expect(t, 1)); err != nil {
		t.Error(err)
	}
	if err := l.ReadTo(ctx, 0, 2, expect(t, 1)); err != nil {
		t.Error(err)
	}
	if err := l.ReadTo(ctx, 299, 300, expect(t, 299)); err != nil {
		t.Error(err)
	}
	if err := l.ReadTo(ctx, 301, 300, func(bus.Message) error { return errors.New("called") }); err != nil {
		t.Error(err)
	}
	m, err := l.Get(ctx, 7)
	if err != nil || m.Sequence != 7 || m.Subject != subject || string(m.Data) != string(text(7)) {
		t.Errorf("got %+v, %v", m, err)
	}
	if m, err := b.Last(ctx, l.Name(), subject); err != nil || m.Sequence != 300 {
		t.Errorf("last: %+v, %v", m, err)
	}
	if st, err := l.State(ctx); err != nil || st.First != 1 || st.Last != 300 || st.Bytes == 0 || st.MaxBytes != 0 {
		t.Errorf("state: %+v, %v", st, err)
	}
}

// sizeIsKnown: what a log holds is known without asking, closely enough, and exactly once it
// was asked.
func sizeIsKnown(t *testing.T, b *bus.Bus, l *bus.Log) {
	t.Helper()
	counted, _ := l.Size()
	began := l.Since()
	is, err := b.State(within(t), l.Name())
	if err != nil {
		t.Fatal(err)
	}
	if apart := float64(counted) / float64(is.Bytes); apart < 0.9 || apart > 1.1 {
		t.Errorf("%d bytes were counted, the log holds %d", counted, is.Bytes)
	}
	if off := is.Since.Sub(began.Time()); off.Abs() > 5*time.Second {
		t.Errorf("its first message is of %s, noted was %s", is.Since, began.Time())
	}
	if _, err := l.State(within(t)); err != nil {
		t.Fatal(err)
	}
	if asked, _ := l.Size(); asked != is.Bytes {
		t.Errorf("%d bytes after it was asked, which has %d", asked, is.Bytes)
	}
}

func fence(t *testing.T, b *bus.Bus) {
	l, subject := newLog(t, b, 0)
	fill(t, l, subject, 1, 3)
	for last, want := range map[uint64]error{
		0: bus.ErrOvertaken, 1: bus.ErrOvertaken, 2: bus.ErrOvertaken, 4: bus.ErrRolledBack, 100: bus.ErrRolledBack,
	} {
		if seq, err := l.Append(within(t), subject, []byte("of the overtaken writer"), last); !errors.Is(err, want) || seq != 0 {
			t.Errorf("behind %d: %d, %v", last, seq, err)
		}
	}
	if err := l.ReadTo(within(t), 1, 3, expect(t, 1)); err != nil {
		t.Error(err)
	}
	fill(t, l, subject, 4, 4)
}

// lostAnswer: a message that was stored already is the one that was to be stored.
func lostAnswer(t *testing.T, b *bus.Bus) {
	l, subject := newLog(t, b, 0)
	fill(t, l, subject, 1, 5)
	for _, last := range []uint64{4, 2, 0} {
		if seq, err := l.Append(within(t), subject, text(last+1), last); err != nil || seq != last+1 {
			t.Errorf("again behind %d: %d, %v", last, seq, err)
		}
	}
	if st, err := l.State(within(t)); err != nil || st.Last != 5 {
		t.Errorf("stored again: %+v, %v", st, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Append(ended, subject, text(6), 5); !errors.Is(err, bus.ErrUndecided) {
		t.Errorf("of a caller that is gone: %v", err)
	}
}

func full(t *testing.T, b *bus.Bus) {
	l, subject := newLog(t, b, 64<<10)
	data := make([]byte, 10<<10)
	last := uint64(0)
	for {
		data[0] = byte(last)
		seq, err := l.Append(within(t), subject, data, last)
		if errors.Is(err, bus.ErrFull) {
			break
		}
		if err != nil || last > 10 {
			t.Fatalf("append %d: %v", last+1, err)
		}
		last = seq
	}
	if st, err := l.State(within(t)); err != nil || st.Last != last || st.First != 1 || st.MaxBytes != 64<<10 {
		t.Errorf("what was there is not untouched: %+v, %v", st, err)
	}
	if _, err := l.Append(within(t), subject, data, last-1); !errors.Is(err, bus.ErrOvertaken) && !errors.Is(err, bus.ErrFull) {
		t.Errorf("an overtaken writer of a full log: %v", err)
	}
	if err := l.Trim(within(t), 3); err != nil {
		t.Fatal(err)
	}
	if seq, err := l.Append(within(t), subject, data, last); err != nil || seq != last+1 {
		t.Errorf("after a purge: %d, %v", seq, err)
	}
}

func tooLarge(t *testing.T, b *bus.Bus) {
	l, subject := newLog(t, b, 0)
	if _, err := l.Append(within(t), subject, make([]byte, 3<<20), 0); !errors.Is(err, nats.ErrMaxPayload) {
		t.Errorf("got %v", err)
	}
	fill(t, l, subject, 1, 1)
}

func deleted(t *testing.T, b *bus.Bus) {
	l, subject := newLog(t, b, 0)
	fill(t, l, subject, 1, 1)
	for range 2 {
		if err := b.RemoveLog(within(t), l.Name()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Append(within(t), subject, text(2), 1); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("append: %v", err)
	}
	if _, err := b.ExistingLog(within(t), l.Name()); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("open: %v", err)
	}
}
