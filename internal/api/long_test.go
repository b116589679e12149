package api_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/internal/api"
	"tidemark/internal/fault"
)

// TestLong: who asks for it hears how the work goes on, for longer than it would bear
// silence; who does not gets the answer alone.
func TestLong(t *testing.T) {
	nc := conn(t)
	var asked atomic.Int64
	release := make(chan struct{})
	serve(t, nc, api.OnLong("test.copy", func(ctx context.Context, q question, tell func(api.Progress)) (answer, error) {
		if _, bounded := ctx.Deadline(); bounded {
			t.Error("a long request has a deadline")
		}
		if q.Count == 0 {
			return answer{}, fault.New(fault.Busy, "nothing to copy")
		}
		asked.Add(1)
		tell(api.Progress{Objects: 3, ObjectsTotal: 5})
		<-release
		return answer{"copied " + q.Name}, nil
	}))
	tell := func(api.Progress) { t.Error("progress of what failed at once") }
	if _, err := api.CallLong[answer](within(t), nc, "test.copy", question{}, time.Minute, tell); fault.CodeOf(err) != fault.Busy {
		t.Errorf("a refusal: %v", err)
	}
	news := 0
	got, err := api.CallLong[answer](within(t), nc, "test.copy", question{"disk", 1}, 4*time.Second, func(p api.Progress) {
		if p.Objects != 3 || p.ObjectsTotal != 5 {
			t.Errorf("progress %+v", p)
		}
		if news++; news == 5 { // by now more time has passed than it would wait in silence
			close(release)
		}
	})
	if err != nil || got.Text != "copied disk" || news < 5 {
		t.Errorf("answered %+v, %v, after %d messages", got, err, news)
	}
	if got, err := api.Call[answer](within(t), nc, "test.copy", question{"x", 1}); err != nil || got.Text != "copied x" {
		t.Errorf("asked without progress: %+v, %v", got, err)
	}
}

func TestLongUnanswered(t *testing.T) {
	nc := conn(t)
	tell := func(api.Progress) {}
	_, err := api.CallLong[answer](within(t), nc, "test.none", question{}, time.Minute, tell)
	if fault.CodeOf(err) != fault.Timeout || !api.Nobody(err) {
		t.Errorf("no responder: %v", err)
	}
	if _, err := nc.SubscribeSync("test.silent"); err != nil {
		t.Fatal(err)
	}
	_, err = api.CallLong[answer](within(t), nc, "test.silent", question{}, 20*time.Millisecond, tell)
	if fault.CodeOf(err) != fault.Timeout || api.Nobody(err) {
		t.Errorf("silence: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = api.CallLong[answer](ctx, nc, "test.silent", question{}, time.Minute, tell); err == nil {
		t.Error("a call that was given up has an answer")
	}
}
