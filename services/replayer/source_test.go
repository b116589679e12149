package replayer

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go"

	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/sitetest"
)

// A source that is started again between a request and its answer never answers, and the
// connection to it goes on: a first sync must not wait for ever.
func TestLostAnswerEndsTheListingOfObjects(t *testing.T) {
	t.Parallel()
	at := sitetest.Start(t, "east")
	asked, err := at.Bus.Conn().Subscribe(api.HolderSubject(eastID, api.SyncObjects), func(*nats.Msg) {})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = asked.Unsubscribe() }() // fails only with the connection
	ctx, cancel := context.WithTimeout(t.Context(), 2*askTime)
	defer cancel()
	run := &copying{source: &source{talk: &wire{Bus: at.Bus}, directory: eastID}}
	err = run.pages(ctx, 1, func(api.SyncObjectsReply) {})
	if fault.CodeOf(err) != fault.Timeout || ctx.Err() != nil {
		t.Errorf("%v; the context: %v", err, ctx.Err())
	}
}
