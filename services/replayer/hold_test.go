package replayer

import (
	"context"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/sitetest"
)

// While a copying asks its source for nothing, because all is here, it has the source go on
// holding its layers together.
func TestHoldIsRenewedWhileNothingIsAskedFor(t *testing.T) {
	t.Parallel()
	at := sitetest.Start(t, "east")
	const id = events.DirectoryID("d")
	asked := make(chan uint64)
	stop, err := api.Serve(t.Context(), at.Bus.Conn(), at.Log,
		api.On(api.HolderSubject(id, api.SyncObjects), func(ctx context.Context, r api.SyncObjectsRequest) (api.SyncObjectsReply, error) {
			select {
			case asked <- r.Hold:
			case <-ctx.Done():
			}
			return api.SyncObjectsReply{}, fault.New(fault.NotFound, "there is no such layer")
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	f := &follower{hold: 7}
	run := &copying{follower: f, source: &source{talk: &wire{Bus: at.Bus}, directory: id}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		run.renewHold(ctx, time.Millisecond)
	}()
	for range 3 {
		if hold := <-asked; hold != 7 {
			t.Errorf("hold %d is renewed", hold)
		}
	}
	cancel()
	<-ended
}
