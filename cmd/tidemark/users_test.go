package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/access"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
	"tidemark/internal/keys"
	"tidemark/internal/natsd"
	"tidemark/internal/site"
	"tidemark/internal/sitetest"
	"tidemark/services/journal"
	"tidemark/services/notifier"
	"tidemark/services/policy"
	"tidemark/services/replayer"
)

// refusals collects what NATS refused, of all connections of a test.
type refusals struct {
	slog.Handler
	mu   sync.Mutex
	seen []string
}

// Handle implements [slog.Handler].
func (r *refusals) Handle(_ context.Context, record slog.Record) error {
	if record.Level < slog.LevelError {
		return nil
	}
	text := record.Message
	record.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, text)
	return nil
}

func (r *refusals) Enabled(context.Context, slog.Level) bool { return true }
func (r *refusals) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *refusals) WithGroup(string) slog.Handler            { return r }

// guarded is a site whose parts are users of their own.
type guarded struct {
	t      *testing.T
	server *natsd.Server
	log    *slog.Logger
	keys   map[string]*keys.Key
	node   site.Node
}

func startGuarded(t *testing.T, name string) *guarded {
	t.Helper()
	seen := &refusals{}
	g := &guarded{t: t, log: slog.New(seen), keys: map[string]*keys.Key{}}
	t.Cleanup(func() {
		seen.mu.Lock()
		defer seen.mu.Unlock()
		if len(seen.seen) > 0 {
			t.Errorf("errors were logged:\n%s", strings.Join(seen.seen, "\n"))
		}
	})
	users := []access.User{g.user(access.Operator(name)), g.user(access.Monitor(name)), g.user(access.Service(name, access.Node))}
	for _, s := range access.Services() {
		users = append(users, g.user(access.Service(name, s)))
	}
	var err error
	g.server, err = natsd.Start(t.Context(), natsd.Config{
		Name: name, Dir: t.TempDir(), Listen: "127.0.0.1:0", Sync: natsd.SyncNever, Log: g.log, Auth: true, Users: users,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.server.Stop)
	return g
}

func (g *guarded) user(grant access.Grant) access.User {
	key, err := keys.New()
	if err != nil {
		g.t.Fatal(err)
	}
	g.keys[grant.Name] = key
	return grant.User(key.Public())
}

// connect comes in as a user, over the network.
func (g *guarded) connect(user string) *bus.Bus {
	g.t.Helper()
	b, err := bus.Connect(bus.Config{Name: user, URL: g.server.URL(), Key: g.keys[user], Log: g.log})
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(b.Close)
	return b
}

// serve runs the four services, each as its user. founder is who finds the site empty.
func (g *guarded) serve(name, founder string) {
	g.t.Helper()
	b := g.connect(founder)
	if err := b.EnsureStreams(g.t.Context(), events.SiteStreams()); err != nil {
		g.t.Fatal(err)
	}
	who, err := site.Identify(g.t.Context(), b, name)
	if err != nil {
		g.t.Fatal(err)
	}
	g.node = site.Node{Site: who, Name: "node-1", Incarnation: "one", Data: g.t.TempDir(), URL: g.server.URL()}
	type service interface {
		Run(ctx context.Context) error
		Ready() <-chan struct{}
	}
	const journalBytes = 64 << 20
	for _, s := range []service{
		policy.New(policy.Deps{Bus: g.connect(access.Policy), Node: g.node, Log: g.log}),
		notifier.New(notifier.Deps{Bus: g.connect(access.Notifier), Node: g.node, Log: g.log}),
		journal.New(journal.Deps{Bus: g.connect(access.Journal), Node: g.node, Log: g.log, JournalBytesMax: journalBytes, Durability: bus.Relaxed}),
		replayer.New(replayer.Deps{Bus: g.connect(access.Replayer), Node: g.node, Log: g.log, JournalBytesMax: journalBytes, Durability: bus.Relaxed}),
	} {
		sitetest.Run(g.t, s.Run)
		<-s.Ready()
	}
}

// ask sends a request as a user; one that waiting helps is sent again.
func ask[Reply any](t *testing.T, b *bus.Bus, subject string, request any) Reply {
	t.Helper()
	var reply Reply
	var err error
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	sitetest.Eventually(t, fmt.Sprintf("%s is answered", subject), func() bool {
		reply, err = api.Call[Reply](ctx, b.Conn(), subject, request)
		return err == nil || !api.Nobody(err) && fault.CodeOf(err) != fault.NotReady && fault.CodeOf(err) != fault.Busy
	})
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	return reply
}

// TestServicesAsUsers runs a site whose services have the rights of one user each, and what
// operators and monitors ask of it.
func TestServicesAsUsers(t *testing.T) {
	for _, founder := range []string{access.Policy, access.Notifier, access.Journal, access.Replayer, access.Node} {
		t.Run("founded by "+founder, func(t *testing.T) {
			t.Parallel()
			g := startGuarded(t, "east")
			g.serve("east", founder)
			operate(t, g)
		})
	}
}

func operate(t *testing.T, g *guarded) {
	op, looks := g.connect("operator"), g.connect("monitor")
	name := events.DirectoryName{Pool: "vms", Path: "/prod"}
	ask[api.Pool](t, op, api.PoolCreate, api.Pool{Pool: "vms"})
	d := ask[api.Directory](t, op, api.DirectoryCreate, name)
	holder := func(request string) string { return api.HolderSubject(d.ID, request) }
	ask[api.Image](t, op, holder(api.ImageCreate), api.ImageCreateRequest{Image: "a", Size: 1 << 20})
	ask[[]api.Snapshot](t, op, holder(api.SnapCreate), api.SnapRequest{Image: "a", Snapshot: "s"})
	ask[api.Directory](t, op, api.MirrorDemote, name)
	ask[api.Directory](t, op, api.MirrorPromote, api.Promote{DirectoryName: name})
	images := ask[[]api.Image](t, looks, holder(api.ImageList), api.Nothing{})
	if len(images) != 1 {
		t.Errorf("images %+v", images)
	}
	status := ask[api.Status](t, looks, holder(api.DirectoryStatus), api.Nothing{})
	end, err := op.State(t.Context(), status.Stream)
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	if err := op.ReadTo(t.Context(), status.Stream, end.First, end.Last, func(bus.Message) error { read++; return nil }); err != nil || read == 0 {
		t.Errorf("%d messages of the journal, %v", read, err)
	}
	if known := ask[[]api.Pool](t, looks, api.PoolList, api.Nothing{}); len(known) != 1 {
		t.Errorf("pools %+v", known)
	}
	ask[api.Nothing](t, op, holder(api.SnapRemove), api.SnapRequest{Image: "a", Snapshot: "s"})
	ask[api.Nothing](t, op, holder(api.ImageRemove), api.ImageRequest{Image: "a"})
	ask[api.Nothing](t, op, api.DirectoryRemove, name)
}
