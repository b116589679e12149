package natsd

import (
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/access"
	"tidemark/internal/bus"
	"tidemark/internal/keys"
)

func newKey(t testing.TB) *keys.Key {
	t.Helper()
	key, err := keys.New()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// visitor is a connection of a user, which notes that it was closed or refused something.
type visitor struct {
	t      testing.TB
	nc     *nats.Conn
	closed chan struct{}
	errors chan error
}

func visit(t testing.TB, s *Server, key *keys.Key, more ...nats.Option) (*visitor, error) {
	t.Helper()
	v := &visitor{t: t, closed: make(chan struct{}), errors: make(chan error, 16)}
	options := append(append(key.Options(), more...), nats.NoReconnect(),
		nats.ClosedHandler(func(*nats.Conn) { close(v.closed) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			select {
			case v.errors <- err:
			default:
			}
		}))
	var err error
	if v.nc, err = nats.Connect(s.URL(), options...); err != nil {
		return nil, err
	}
	t.Cleanup(v.nc.Close)
	return v, nil
}

// patience bounds the wait for what must come.
const patience = 2 * time.Minute

// allowed reports whether a publish passes. Refusals come in order, so what was not refused
// before a subject that nobody may publish to was not refused.
func (v *visitor) allowed(subject string) bool {
	v.t.Helper()
	const last = "the.end"
	if err := errors.Join(v.nc.Publish(subject, nil), v.nc.Publish(last, nil)); err != nil {
		v.t.Fatal(err)
	}
	for passes := true; ; passes = false {
		select {
		case err := <-v.errors:
			if !errors.Is(err, nats.ErrPermissionViolation) {
				v.t.Fatal(err)
			}
			if strings.Contains(err.Error(), last) {
				return passes
			}
		case <-time.After(patience):
			v.t.Fatalf("the server does not refuse %s", last)
		}
	}
}

func TestUsersChangeWhileOthersStay(t *testing.T) {
	cfg := config(t.TempDir())
	stays, goes, comes := newKey(t), newKey(t), newKey(t)
	grant := access.Grant{Name: "one", Publish: []string{"one", "$JS.API.>"}, Subscribe: []string{"one"}}
	cfg.Auth, cfg.Users = true, []access.User{grant.User(stays.Public()), grant.User(goes.Public())}
	s := start(t, cfg)

	c := connect(t, s) // the process's own, with a stream
	c.publish(1)
	first, err := visit(t, s, stays)
	if err != nil {
		t.Fatal(err)
	}
	gone, err := visit(t, s, goes)
	if err != nil {
		t.Fatal(err)
	}
	if !first.allowed("one") || first.allowed("two") {
		t.Error("the first user may not what it may, or may more")
	}
	for what, key := range map[string]*keys.Key{"nobody": nil, "a stranger": comes} {
		if _, err := visit(t, s, key); !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s: %v", what, err)
		}
	}
	inbox, err := first.nc.SubscribeSync("one")
	if err != nil {
		t.Fatal(err)
	}

	more := grant
	more.Publish = append(more.Publish, "two")
	if err := s.SetUsers([]access.User{more.User(stays.Public()), grant.User(comes.Public())}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-gone.closed:
	case <-time.After(patience):
		t.Error("the connection of a user that is gone goes on")
	}
	if _, err := visit(t, s, goes); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("a user that is gone: %v", err)
	}
	if _, err := visit(t, s, comes); err != nil {
		t.Errorf("a new user: %v", err)
	}
	if !first.allowed("two") {
		t.Error("a wider grant is not in force")
	}
	if err := c.nc.Publish("one", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := inbox.NextMsg(patience); err != nil {
		t.Errorf("a subscription did not outlive the change: %v", err)
	}
	select {
	case <-first.closed:
		t.Error("the connection of a user that stays was closed")
	default:
	}
	c.publish(2)
	if got := c.last(); got != 2 {
		t.Errorf("%d messages", got)
	}
}

// TestNothingGrantedIsNothing: the server takes an empty list for everything.
func TestNothingGrantedIsNothing(t *testing.T) {
	cfg := config(t.TempDir())
	key := newKey(t)
	cfg.Auth, cfg.Users = true, []access.User{{Key: key.Public()}}
	v, err := visit(t, start(t, cfg), key)
	if err != nil {
		t.Fatal(err)
	}
	if v.allowed("one") {
		t.Error("a user to whom nothing was granted publishes")
	}
}

// TestConnectionForOneDirectory: it may less than its user, is not touched when another directory
// comes, and is closed with its own.
func TestConnectionForOneDirectory(t *testing.T) {
	cfg := config(t.TempDir())
	key := newKey(t)
	cfg.Auth = true
	s := start(t, cfg)
	guests := access.NewGuests("east")
	share := func(facts ...events.Fact) {
		t.Helper()
		for _, f := range facts {
			guests.Evolve(f)
		}
		users, _ := guests.Users(1)
		if err := s.SetUsers(users); err != nil {
			t.Fatal(err)
		}
	}
	asks := func(id string) string { return "tidemark.api.holder." + id + ".status" }
	share(&events.PoolCreated{Pool: "vms"}, &events.MirrorEnabled{Pool: "vms"},
		&events.PeerAdded{Pool: "vms", Peer: "w", Key: key.Public(), Direction: events.ReceiveAndSend},
		&events.DirectoryCreated{Directory: "d1", Pool: "vms", Path: "/one"}, &events.DirectoryCreated{Directory: "d2", Pool: "vms", Path: "/two"})
	all, err := visit(t, s, key)
	if err != nil {
		t.Fatal(err)
	}
	one, err := visit(t, s, key, nats.Name(access.ConnectionFor("replayer", "vms/one")))
	if err != nil {
		t.Fatal(err)
	}
	none, err := visit(t, s, key, nats.Name(access.ConnectionFor("replayer", "vms/none")))
	if err != nil {
		t.Fatal(err)
	}
	if !all.allowed(asks("d1")) || !all.allowed(asks("d2")) || !one.allowed(asks("d1")) || one.allowed(asks("d2")) || none.allowed(asks("d1")) {
		t.Error("a connection may not what it is for, or more")
	}
	for _, v := range []*visitor{all, one, none} {
		if !v.allowed("tidemark.api.shared.vms.resolve") || v.allowed("tidemark.api.shared.db.resolve") {
			t.Error("a connection may not ask for directories of the pool, or of another")
		}
	}
	share(&events.DirectoryCreated{Directory: "d3", Pool: "vms", Path: "/three"})
	if !all.allowed(asks("d3")) || !one.allowed(asks("d1")) || one.allowed(asks("d3")) {
		t.Error("a further directory is not shared as it should be")
	}
	share(&events.DirectoryForgotten{Directory: "d1", Pool: "vms"})
	select {
	case <-one.closed:
	case <-time.After(patience):
		t.Error("the connection for a directory that is gone goes on")
	}
}

// TestChangesOfUsersDisturbNobody: requests to JetStream are answered all the while. The
// server's own way to change users takes them from everybody for a moment.
func TestChangesOfUsersDisturbNobody(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.Auth = true
	s := start(t, cfg)
	c := connect(t, s)
	done := make(chan error, 1)
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if _, err := c.stream.Info(t.Context()); err != nil {
				done <- err
				return
			}
		}
	}()
	for range 100 {
		key := newKey(t)
		if err := s.SetUsers([]access.User{access.Operator("east").User(key.Public())}); err != nil {
			t.Fatal(err)
		}
		v, err := visit(t, s, key)
		if err != nil {
			t.Fatal(err)
		}
		v.nc.Close()
	}
	close(stop)
	if err := <-done; err != nil {
		t.Errorf("a request while users were changed: %v", err)
	}
}

// TestOwnConnectionOfALog appends as fast as makes a log take a connection of its own,
// which has to sign the server's challenge.
func TestOwnConnectionOfALog(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.Auth = true
	s := start(t, cfg)
	dials := 0
	dial := s.Dial
	b, err := bus.Connect(bus.Config{
		Name: "own", Syncer: s, Key: s.Key(), Log: slog.New(slog.DiscardHandler), Options: []nats.Option{s.InProcess()},
		Dial: func() (net.Conn, error) { dials++; return dial() },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	log, err := b.OpenLog(t.Context(), events.Stream{Name: testStream, Subjects: []string{testSubject}})
	if err != nil {
		t.Fatal(err)
	}
	for last := range uint64(64) {
		if _, err := log.Append(t.Context(), testSubject, payload(last+1), last); err != nil {
			t.Fatal(err)
		}
	}
	if dials != 1 {
		t.Errorf("%d connections of its own", dials)
	}
}
