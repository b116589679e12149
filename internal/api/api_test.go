package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/sitetest"
)

type question struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
}

type answer struct {
	Text string `json:"text"`
}

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), sitetest.Patience)
	t.Cleanup(cancel)
	return ctx
}

func serve(t testing.TB, nc *nats.Conn, handlers ...api.Handler) (stop func()) {
	t.Helper()
	stop, err := api.Serve(t.Context(), nc, slog.New(slog.DiscardHandler), handlers...)
	if err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(stop)
	t.Cleanup(stop)
	return stop
}

func conn(t testing.TB) *nats.Conn { return sitetest.Start(t, "east").Bus.Conn() }

func TestCall(t *testing.T) {
	nc := conn(t)
	serve(t, nc, api.On("test.greet", func(_ context.Context, q question) (answer, error) {
		return answer{fmt.Sprint(q.Name, " ", q.Count)}, nil
	}), api.On("test.list", func(context.Context, api.Nothing) ([]answer, error) { return nil, nil }))
	got, err := api.Call[answer](within(t), nc, "test.greet", question{"hello", 3})
	if err != nil || got.Text != "hello 3" {
		t.Errorf("got %+v, %v", got, err)
	}
	if list, err := api.Call[[]answer](within(t), nc, "test.list", api.Nothing{}); err != nil || len(list) != 0 {
		t.Errorf("an empty list: %v, %v", list, err)
	}
	if _, err := api.Call[[]answer](within(t), nc, "test.greet", question{}); fault.CodeOf(err) != fault.Corrupt {
		t.Errorf("an answer of another form: %v", err)
	}
	if _, err := api.Call[answer](within(t), nc, "test.greet", func() {}); fault.CodeOf(err) != fault.Internal {
		t.Errorf("a request that cannot be encoded: %v", err)
	}
	big := question{Name: strings.Repeat("x", 3<<20)}
	if _, err := api.Call[answer](within(t), nc, "test.greet", big); fault.CodeOf(err) != fault.Usage {
		t.Errorf("a request that is too large: %v", err)
	}
}

// TestStrictRequests sends bodies that are not what is asked for.
func TestStrictRequests(t *testing.T) {
	nc := conn(t)
	serve(t, nc, api.On("test.greet", func(context.Context, question) (answer, error) { return answer{"fine"}, nil }))
	for _, body := range []string{
		``, ` `, `{`, `[]`, `"x"`, `5`, `{"name":5}`, `{"count":"1"}`, `{"count":1.5}`, `{"count":99999999999999999999}`,
		`{"nam":"x"}`, `{"name":"x","more":1}`, `{"name":"x"} {"name":"y"}`, `{"name":"x"}]`, `{"name":"x"}garbage`, "\x00", "{\"name\":\"x\"}\x00",
		strings.Repeat("[", 100_000), `{"name":` + strings.Repeat("[", 100_000),
	} {
		reply, err := nc.RequestWithContext(within(t), "test.greet", []byte(body))
		if err != nil {
			t.Fatalf("%.40q: %v", body, err)
		}
		var env struct {
			Error struct {
				Code    fault.Code `json:"code"`
				Message string     `json:"message"`
			} `json:"error"`
		}
		if err := json.Unmarshal(reply.Data, &env); err != nil || env.Error.Code != fault.Usage || !strings.Contains(env.Error.Message, "test.greet") {
			t.Errorf("%.40q: answered %.200s", body, reply.Data)
		}
	}
	for _, body := range []string{`{}`, `{"name":"x"}`, " {\"count\": 1}\n"} {
		if reply, err := nc.RequestWithContext(within(t), "test.greet", []byte(body)); err != nil || string(reply.Data) != `{"reply":{"text":"fine"}}` {
			t.Errorf("%q: %s, %v", body, reply.Data, err)
		}
	}
}

// TestErrorsTravel: a caller gets the code and the message that the service gave.
func TestErrorsTravel(t *testing.T) {
	nc := conn(t)
	cases := map[string]error{
		"usage":     fault.New(fault.Usage, "no"),
		"not_found": fmt.Errorf("look: %w", fault.New(fault.NotFound, "there is no %q", "x")),
		"fenced":    fault.New(fault.Fenced, "ä → \"b\""),
		"timeout":   fmt.Errorf("ask: %w", context.DeadlineExceeded),
		"internal":  errors.New("something"),
	}
	serve(t, nc, api.On("test.fail", func(_ context.Context, q question) (answer, error) { return answer{"x"}, cases[q.Name] }))
	for code, want := range cases {
		got, err := api.Call[answer](within(t), nc, "test.fail", question{Name: code})
		var e *fault.Error
		if !errors.As(err, &e) || string(e.Code) != code || e.Message != want.Error() || got.Text != "" {
			t.Errorf("%s: %+v, %v", code, got, err)
		}
	}
}

func TestAnswerTooLarge(t *testing.T) {
	nc := conn(t)
	serve(t, nc, api.On("test.long", func(context.Context, api.Nothing) (string, error) { return strings.Repeat("x", 3<<20), nil }))
	if _, err := api.Call[string](within(t), nc, "test.long", api.Nothing{}); fault.CodeOf(err) != fault.Internal {
		t.Errorf("got %v", err)
	}
}

func TestNobodyAnswers(t *testing.T) {
	nc := conn(t)
	_, err := api.Call[answer](within(t), nc, "test.none", question{})
	if fault.CodeOf(err) != fault.Timeout || !api.Nobody(err) || fault.ExitCode(err) != 6 {
		t.Errorf("no responder: %v", err)
	}
	sub, err := nc.SubscribeSync("test.silent")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = api.Call[answer](ctx, nc, "test.silent", question{})
	if fault.CodeOf(err) != fault.Timeout || api.Nobody(err) {
		t.Errorf("silence: %v", err)
	}
	if _, err := nc.Subscribe("test.babble", func(m *nats.Msg) { _ = m.Respond([]byte("not JSON")) }); err != nil {
		t.Fatal(err)
	}
	if _, err := api.Call[answer](within(t), nc, "test.babble", question{}); fault.CodeOf(err) != fault.Corrupt {
		t.Errorf("babble: %v", err)
	}
}

// TestSeries: messages of one's own form, then perhaps an error in the package's.
func TestSeries(t *testing.T) {
	nc := conn(t)
	serve(t, nc, api.OnSeries("test.count", func(_ context.Context, q question, send func([]byte) error) error {
		for i := range q.Count {
			if err := send([]byte{byte(i)}); err != nil {
				return err
			}
		}
		return fault.New(fault.NotFound, "there is no %d", q.Count)
	}))
	ask := func(body string) *nats.Subscription {
		t.Helper()
		inbox := nc.NewInbox()
		sub, err := nc.SubscribeSync(inbox)
		if err != nil {
			t.Fatal(err)
		}
		if err := nc.PublishRequest("test.count", inbox, []byte(body)); err != nil {
			t.Fatal(err)
		}
		return sub
	}
	sub := ask(`{"count":3}`)
	for i := range 4 {
		m, err := sub.NextMsgWithContext(within(t))
		if err != nil {
			t.Fatal(err)
		}
		answered := api.AnsweredError(m.Data)
		if i < 3 && (answered != nil || len(m.Data) != 1 || m.Data[0] != byte(i)) || i == 3 && fault.CodeOf(answered) != fault.NotFound {
			t.Errorf("message %d: %q, %v", i, m.Data, answered)
		}
	}
	m, err := ask(`{"cnt":3}`).NextMsgWithContext(within(t))
	if err != nil || fault.CodeOf(api.AnsweredError(m.Data)) != fault.Usage {
		t.Errorf("a bad request: %v", err)
	}
	for _, data := range []string{"", "{", "{}", `{"reply":1}`, "x", "\x9c"} {
		if err := api.AnsweredError([]byte(data)); err != nil {
			t.Errorf("%q stands for %v", data, err)
		}
	}
}

// TestBounded: requests beyond the bound wait, and are all answered.
func TestBounded(t *testing.T) {
	nc := conn(t)
	const bound, all = 64, 200
	var running, most atomic.Int64
	release := make(chan struct{})
	serve(t, nc, api.On("test.work", func(context.Context, api.Nothing) (answer, error) {
		now := running.Add(1)
		defer running.Add(-1)
		for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
		}
		<-release
		return answer{"done"}, nil
	}))
	var callers sync.WaitGroup
	for range all {
		callers.Go(func() {
			if _, err := api.Call[answer](within(t), nc, "test.work", api.Nothing{}); err != nil {
				t.Error(err)
			}
		})
	}
	sitetest.Eventually(t, "as many as may", func() bool { return running.Load() == bound })
	close(release)
	callers.Wait()
	if most.Load() != bound {
		t.Errorf("%d ran at a time", most.Load())
	}
}

// TestStopWaits: no handler runs once stop has returned, and those that run are told.
func TestStopWaits(t *testing.T) {
	nc := conn(t)
	for range 20 {
		var running atomic.Int64
		began := make(chan struct{}, 1000)
		stop := serve(t, nc, api.On("test.work", func(ctx context.Context, _ api.Nothing) (answer, error) {
			running.Add(1)
			defer running.Add(-1)
			began <- struct{}{}
			<-ctx.Done()
			return answer{}, ctx.Err()
		}))
		var callers sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		for range 100 {
			callers.Go(func() { _, _ = api.Call[answer](ctx, nc, "test.work", api.Nothing{}) })
		}
		<-began
		stop()
		if n := running.Load(); n != 0 {
			t.Errorf("%d handlers run on", n)
		}
		cancel()
		callers.Wait()
	}
}

// TestShared: two that serve the same subject share the requests.
func TestShared(t *testing.T) {
	site := sitetest.Start(t, "east")
	nc := site.Bus.Conn()
	var served [2]atomic.Int64
	for i := range served {
		serve(t, nc, api.On("test.work", func(context.Context, api.Nothing) (answer, error) {
			served[i].Add(1)
			return answer{}, nil
		}))
	}
	const all = 200
	for range all {
		if _, err := api.Call[answer](within(t), nc, "test.work", api.Nothing{}); err != nil {
			t.Fatal(err)
		}
	}
	if a, b := served[0].Load(), served[1].Load(); a+b != all || a == 0 || b == 0 {
		t.Errorf("served %d and %d of %d", a, b, all)
	}
}

// TestServingBeginsAnew: requests that arrive while their server ends and begins again are
// answered or refused as not ready at once, or find nobody. None stays without an answer, also
// of those that are to be taken first.
func TestServingBeginsAnew(t *testing.T) {
	for name, call := range map[string]func(context.Context, *nats.Conn, string, any) (answer, error){
		"asked": api.Call[answer], "taken": api.CallTaken[answer],
	} {
		t.Run(name, func(t *testing.T) { beginAnew(t, call) })
	}
}

func beginAnew(t *testing.T, call func(context.Context, *nats.Conn, string, any) (answer, error)) {
	t.Helper()
	nc := conn(t)
	done, asking := make(chan struct{}), sync.WaitGroup{}
	counts := [3]atomic.Int64{}
	for range 8 {
		asking.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				_, err := call(within(t), nc, "test.work", question{})
				switch {
				case err == nil:
					counts[0].Add(1)
				case fault.CodeOf(err) == fault.NotReady:
					counts[1].Add(1)
				case api.Nobody(err):
					counts[2].Add(1)
				default:
					t.Error(err)
					return
				}
			}
		})
	}
	for range sitetest.Rounds(200) {
		stop := serve(t, nc, api.On("test.work", func(context.Context, question) (answer, error) { return answer{"done"}, nil }))
		seen := counts[0].Load()
		sitetest.Eventually(t, "it is served", func() bool { return counts[0].Load() > seen })
		stop()
	}
	close(done)
	asking.Wait()
	t.Logf("%d answered, %d refused as not ready, %d found nobody", counts[0].Load(), counts[1].Load(), counts[2].Load())
}

// TestServingEndsWithoutALink: what is no longer served when a lost connection comes back is
// nobody's, and gets no share of the requests once it is served anew.
func TestServingEndsWithoutALink(t *testing.T) {
	site := sitetest.Start(t, "east")
	link := sitetest.NewLink(t, site.Server.URL())
	far, err := nats.Connect(link.URL, nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(far.Close)
	work := api.On("test.work", func(context.Context, question) (answer, error) { return answer{"done"}, nil })
	stop := serve(t, far, work)
	link.Cut()
	sitetest.Eventually(t, "the link is lost", func() bool { return !far.IsConnected() })
	stop()
	link.Heal()
	sitetest.Eventually(t, "the link is back", far.IsConnected)
	if err := far.FlushTimeout(sitetest.Patience); err != nil { // the server has all that was subscribed to
		t.Fatal(err)
	}
	if _, err := api.Call[answer](within(t), site.Bus.Conn(), "test.work", question{}); !api.Nobody(err) {
		t.Errorf("somebody listens still: %v", err)
	}
	serve(t, far, work)
	for range 50 {
		if got, err := api.Call[answer](within(t), site.Bus.Conn(), "test.work", question{}); err != nil || got.Text != "done" {
			t.Fatalf("%+v, %v", got, err)
		}
	}
}
