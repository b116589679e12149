package api_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/sitetest"
)

// TestHungMember: of two members one hangs. Every request is answered by the other, and what
// the one gets when it is back is not carried out again.
func TestHungMember(t *testing.T) {
	site := sitetest.Start(t, "east")
	link := sitetest.NewLink(t, site.Server.URL())
	hung, err := nats.Connect(link.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hung.Close)
	nc := site.Bus.Conn()
	const patience = 30 * time.Second
	var done [2]atomic.Int64
	for i, member := range []*nats.Conn{hung, nc} {
		serve(t, member, api.On("test.work", func(context.Context, question) (answer, error) {
			done[i].Add(1)
			return answer{"done"}, nil
		}))
	}
	ask := map[string]func() (answer, error){
		"taken": func() (answer, error) { return api.CallTaken[answer](within(t), nc, "test.work", question{}) },
		"parts": func() (answer, error) { return api.CallParts[answer](within(t), nc, "test.work", question{}) },
	}
	all := func(n int) {
		t.Helper()
		var asking sync.WaitGroup
		for what, f := range ask {
			for range n {
				asking.Go(func() {
					if got, err := f(); err != nil || got.Text != "done" {
						t.Errorf("%s: %+v, %v", what, got, err)
					}
				})
			}
		}
		asking.Wait()
	}
	all(40)
	if a, b := done[0].Load(), done[1].Load(); a+b != 80 || a == 0 || b == 0 {
		t.Errorf("both are well, and did %d and %d of 80", a, b)
	}
	link.Slow(1500*time.Millisecond, 0)
	all(10)
	done0 := done[0].Load()
	if n := done0 + done[1].Load(); n != 100 {
		t.Errorf("one hangs, and %d were carried out of 100", n)
	}
	if err := hung.FlushTimeout(patience); err != nil { // all that was sent to it has come
		t.Fatal(err)
	}
	link.Slow(0, 0)
	sitetest.Eventually(t, "it works again", func() bool { all(1); return done[0].Load() > done0 })
	if n := done[0].Load() + done[1].Load(); n%2 != 0 || done[0].Load() > done0+2 {
		t.Errorf("after the first 100, which came in pairs, %d were carried out; by the one that hung %d, before %d", n-100, done[0].Load(), done0)
	}
}

// TestTaken: who gets no answer in time is told whether the request was taken up.
func TestTaken(t *testing.T) {
	nc := conn(t)
	begun, release := make(chan struct{}), make(chan struct{})
	serve(t, nc, api.On("test.work", func(context.Context, question) (answer, error) {
		close(begun)
		<-release
		return answer{"done"}, nil
	}))
	defer close(release)
	if _, err := nc.QueueSubscribe("test.hang", "tidemark", func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	for subject, taken := range map[string]bool{"test.work": true, "test.hang": false, "test.nobody": false} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		if taken { // who waits gives up as soon as it is, however long that takes
			cancel()
			ctx, cancel = context.WithCancel(within(t))
			go func() { <-begun; cancel() }()
		}
		_, err := api.CallTaken[answer](ctx, nc, subject, question{})
		cancel()
		if fault.CodeOf(err) != fault.Timeout || errors.Is(err, api.ErrTaken) != taken || api.Nobody(err) != (subject == "test.nobody") {
			t.Errorf("%s: %v", subject, err)
		}
	}
}
