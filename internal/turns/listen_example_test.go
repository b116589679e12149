package turns_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/natsd"
)

// listen prints what a site's listeners are told of promotions and split brains. It is
// called by the same name each time, so that NATS goes on where it stopped: a note that was
// not acknowledged comes again.
func listen(ctx context.Context, url, name string, notes int) error {
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	consumer, err := js.CreateOrUpdateConsumer(ctx, events.StreamLifecycle, jetstream.ConsumerConfig{
		Durable:        name,
		FilterSubjects: []string{"tidemark.lifecycle.*.promoted", "tidemark.lifecycle.*.diverged.>"},
		DeliverPolicy:  jetstream.DeliverAllPolicy, // the first time: all that is kept
		AckPolicy:      jetstream.AckExplicitPolicy,
	})
	if err != nil {
		return err
	}
	for range notes {
		m, err := consumer.Next(jetstream.FetchContext(ctx))
		if err != nil {
			return err
		}
		// A program of another module decodes MessagePack itself: [1, "lifecycle_noted", {…}].
		fact, err := events.Unmarshal(m.Data())
		if err != nil {
			return err
		}
		if turn, ok := fact.(*events.LifecycleNoted); ok {
			fmt.Printf("%s%s %s %s\n", turn.Pool, turn.Path, turn.What, turn.With)
		}
		if err := m.DoubleAck(ctx); err != nil {
			return err
		}
	}
	return nil
}

func Example_listen() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	url, stop := site(ctx)
	defer stop()
	for range 2 { // the second one goes on where the first one stopped
		if err := listen(ctx, url, "pager", 1); err != nil {
			log.Print(err)
		}
	}
	// Output:
	// vms/db diverged west
	// vms/db promoted
}

// site is a NATS server with what a site told its listeners.
func site(ctx context.Context) (url string, stop func()) {
	dir, err := os.MkdirTemp("", "tm")
	if err != nil {
		log.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	server, err := natsd.Start(ctx, natsd.Config{Name: "east", Dir: dir, Listen: "127.0.0.1:0", Sync: natsd.SyncNever, Log: quiet})
	if err != nil {
		log.Fatal(err)
	}
	b, err := bus.Connect(bus.Config{Name: "site", URL: server.URL(), Log: quiet})
	if err != nil {
		log.Fatal(err)
	}
	defer b.Close()
	if err := b.EnsureStreams(ctx, events.SiteStreams()); err != nil {
		log.Fatal(err)
	}
	for _, turn := range []events.LifecycleNoted{
		{What: events.Diverged, With: "west"}, {What: events.Demoted}, {What: events.Promoted},
	} {
		turn.Directory, turn.Pool, turn.Path = "00000000000000aa", "vms", "/db"
		if _, err := b.Publish(ctx, events.StreamLifecycle, &turn); err != nil {
			log.Fatal(err)
		}
	}
	return server.URL(), func() {
		server.Stop()
		_ = os.RemoveAll(dir) // a temporary folder: best effort
	}
}
