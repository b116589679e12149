package journal

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/nbd"
	"tidemark/internal/sitetest"
)

// guarded gives a site's bus a guard, which is asked before each message of changes, and
// a syncer. Both may be nil.
func guarded(t testing.TB, at *sitetest.Site, guard func() error, syncer bus.Syncer) {
	t.Helper()
	if syncer == nil {
		syncer = at.Server
	}
	b, err := bus.Connect(bus.Config{
		Name: "guarded", Syncer: syncer, Guard: guard, Log: at.Log, Dial: at.Server.Dial, Options: []nats.Option{at.Server.InProcess()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	at.Bus = b
}

// with starts a service with other dependencies than start's.
func with(t testing.TB, at *sitetest.Site, change func(*Deps)) (*Service, func()) {
	t.Helper()
	deps := Deps{Bus: at.Bus, Node: at.Node, Log: at.Log, JournalBytesMax: 1 << 30}
	change(&deps)
	s := New(deps)
	stop := sitetest.Run(t, s.Run)
	<-s.Ready()
	return s, stop
}

// logEntry is an entry as the log holds it.
type logEntry struct {
	message  int
	position events.Position
	events.Entry
}

// journalOf reads a directory's log from its first message to its last.
func journalOf(t testing.TB, at *sitetest.Site, d *directory) []logEntry {
	t.Helper()
	log, err := at.Bus.ExistingLog(t.Context(), events.JournalStream(d.name, d.id))
	if err != nil {
		t.Fatal(err)
	}
	state, err := log.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var all []logEntry
	err = log.ReadTo(t.Context(), state.First, state.Last, func(m bus.Message) error {
		if len(m.Data) > events.MessageBytesMax {
			t.Errorf("message %d has %d bytes", m.Sequence, len(m.Data))
		}
		message, err := events.DecodeJournal(bytes.Clone(m.Data))
		if batch, ok := message.(*events.Batch); ok {
			for i, e := range batch.Entries {
				all = append(all, logEntry{int(m.Sequence), batch.Position(i), e})
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// later starts a write and returns where its result comes.
func later(t testing.TB, dev nbd.Device, p []byte, off uint64, fua bool) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	dev.Write(t.Context(), p, off, fua, func(err error) { done <- err })
	return done
}

func flush(t testing.TB, dev nbd.Device) {
	t.Helper()
	done := make(chan error, 1)
	dev.Flush(t.Context(), func(err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatalf("flush: %v", err)
	}
}

// wantNil fails the test for each error.
func wantNil(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// call sends a request to the directory as the command line does.
func call[Reply any](t testing.TB, at *sitetest.Site, d *directory, request string, body any) (Reply, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), sitetest.Patience)
	defer cancel()
	return api.Call[Reply](ctx, at.Bus.Conn(), api.HolderSubject(d.id, request), body)
}

// must is call for a request that is not refused.
func must[Reply any](t testing.TB, at *sitetest.Site, d *directory, request string, body any) Reply {
	t.Helper()
	reply, err := call[Reply](t, at, d, request, body)
	if err != nil {
		t.Fatalf("%s %+v: %v", request, body, err)
	}
	return reply
}
