package access_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/access"
	"tidemark/internal/keys"
	"tidemark/internal/natsd"
	"tidemark/internal/sitetest"
)

const (
	mine   = "0123456789abcdef"
	theirs = "fedcba9876543210"
)

func directory(id events.DirectoryID, path string) access.Directory {
	return access.Directory{ID: id, Name: events.DirectoryName{Pool: "vms", Path: path}}
}

// attempts are subjects that a grant lets its user publish to, and that it does not.
var attempts = []struct {
	grant       access.Grant
	may, mayNot []string
}{
	{
		access.Service("east", access.Journal),
		[]string{
			"tidemark.journal.east." + mine + ".entries", "tidemark.position." + mine + ".x", "tidemark.head." + mine,
			"$JS.API.STREAM.CREATE.JOURNAL_a", "$JS.API.STREAM.PURGE.JOURNAL_a", "$JS.API.STREAM.CREATE.POOLS", "_INBOX.x.y",
			"$JS.API.CONSUMER.CREATE.INSTANCES.c", "$JS.ACK.JOURNAL_a.c.1.1.1.1.1", "$JS.ACK.hub.acc.JOURNAL_a.c.1.1.1.1.1",
		},
		[]string{
			"tidemark.journal.west." + mine + ".entries", "tidemark.pool.vms.pool_removed", "tidemark.directory.x.y",
			"tidemark.instance.n.journal", "tidemark.ack.n", "tidemark.notify.n", "tidemark.control.n.journal",
			"$JS.API.STREAM.DELETE.POOLS", "$JS.API.STREAM.UPDATE.POSITIONS", "$JS.API.STREAM.PURGE.POSITIONS",
			"$JS.API.CONSUMER.CREATE.NOTIFICATIONS.c", "$JS.API.STREAM.MSG.GET.NOTIFICATIONS",
			"tidemark.api.pool.create", "tidemark.heartbeat.n.replayer", "tidemark.position." + mine + ".holder.fence",
		},
	},
	{
		access.Service("east", access.Policy),
		[]string{"tidemark.pool.vms.pool_removed", "tidemark.notify.n", "tidemark.directory.x.y", "tidemark.position." + mine + ".holder.fence", "$JS.API.CONSUMER.CREATE.INSTANCES.c"},
		[]string{
			"tidemark.journal.east." + mine + ".entries", "tidemark.ack.n", "tidemark.instance.n.journal", "tidemark.position." + mine + ".x",
			"$JS.API.STREAM.DELETE.JOURNAL_a", "$JS.API.CONSUMER.CREATE.JOURNAL_a.c", "tidemark.control.n.journal",
		},
	},
	{
		access.Service("east", access.Notifier),
		[]string{"tidemark.ack.n", "tidemark.instance.n.journal", "tidemark.control.n.journal"},
		[]string{
			"tidemark.pool.vms.pool_removed", "tidemark.notify.n", "tidemark.journal.east." + mine + ".entries",
			"$JS.API.STREAM.CREATE.X", "$JS.API.CONSUMER.CREATE.JOURNAL_a.c",
		},
	},
	{
		access.Operator("east"),
		[]string{"tidemark.api.pool.create", "tidemark.api.holder." + mine + ".image.remove", "$JS.API.CONSUMER.CREATE.JOURNAL_a.c"},
		[]string{
			"tidemark.pool.vms.pool_created", "tidemark.journal.east." + mine + ".entries", "tidemark.position." + mine + ".x",
			"tidemark.api.log.sync", "tidemark.api.peer.join", "$JS.API.STREAM.DELETE.POOLS", "tidemark.control.n.journal", "_INBOX.x.y",
		},
	},
	{
		access.Monitor("east"),
		[]string{"tidemark.api.site.info", "tidemark.api.holder." + mine + ".status"},
		[]string{
			"tidemark.api.pool.create", "tidemark.api.peer.token", "tidemark.api.holder." + mine + ".image.remove",
			"$JS.API.STREAM.MSG.GET.JOURNAL_a", "$JS.API.CONSUMER.CREATE.POOLS.c",
			"$JS.API.DIRECT.GET.POOLS", "$JS.API.STREAM.INFO.POOLS", "$JS.API.STREAM.NAMES",
		},
	},
	{
		access.Peer("east", "vms", directory(mine, "/prod")),
		[]string{
			"tidemark.api.shared.vms.resolve", "tidemark.api.holder." + mine + ".sync.begin",
			"$JS.API.CONSUMER.CREATE.JOURNAL_vms_prod_" + mine + ".c", "$JS.API.STREAM.MSG.GET.JOURNAL_vms_prod_" + mine,
		},
		[]string{
			"tidemark.api.shared.other.resolve", "tidemark.api.directory.list", "tidemark.api.pool.list", "tidemark.api.peer.token",
			"tidemark.api.holder." + mine + ".image.remove", "tidemark.api.holder." + mine + ".journal.reset",
			"tidemark.api.holder." + theirs + ".status", "$JS.API.CONSUMER.CREATE.JOURNAL_vms_private_" + theirs + ".c",
			"$JS.API.STREAM.MSG.GET.JOURNAL_vms_private_" + theirs,
			// What is answered with empty messages, anywhere.
			"$JS.API.DIRECT.GET.JOURNAL_vms_prod_" + mine, "$JS.API.CONSUMER.MSG.NEXT.JOURNAL_vms_prod_" + mine + ".c",
			"$JS.ACK.JOURNAL_vms_prod_" + mine + ".c.1.1.1.1.1", "$JS.API.CONSUMER.CREATE.POOLS.c", "$JS.API.STREAM.NAMES",
			"tidemark.journal.east." + mine + ".entries", "tidemark.position." + mine + ".x", "tidemark.pool.vms.peer_added",
			"tidemark.head." + mine, "$JS.API.STREAM.PURGE.JOURNAL_vms_prod_" + mine, "_INBOX.x.y",
		},
	},
	{
		access.Joining("east", "vms"),
		[]string{"tidemark.api.peer.join"},
		[]string{"tidemark.api.shared.vms.resolve", "tidemark.api.peer.list", "tidemark.api.site.info", "$JS.API.INFO"},
	},
}

// TestGrantsAreLeast tries subjects as each user, at a server.
func TestGrantsAreLeast(t *testing.T) {
	t.Parallel()
	users := make([]access.User, len(attempts))
	seeds := make([]*keys.Key, len(attempts))
	for i, a := range attempts {
		key, err := keys.New()
		if err != nil {
			t.Fatal(err)
		}
		users[i], seeds[i] = a.grant.User(key.Public()), key
	}
	s, err := natsd.Start(t.Context(), natsd.Config{
		Name: "east", Dir: t.TempDir(), Listen: "127.0.0.1:0", Sync: natsd.SyncNever, Auth: true, Users: users, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	for i, a := range attempts {
		c := visit(t, s.URL(), seeds[i])
		for _, subject := range a.may {
			if !c.passes(subject) {
				t.Errorf("%s: may not publish to %s", a.grant.Name, subject)
			}
		}
		for _, subject := range a.mayNot {
			if c.passes(subject) {
				t.Errorf("%s: may publish to %s", a.grant.Name, subject)
			}
		}
		for _, subject := range []string{">", "_INBOX.>", access.Inbox(seeds[(i+1)%len(seeds)].Public()) + ".>", "tidemark.journal.>"} {
			if c.hears(subject) {
				t.Errorf("%s: may subscribe to %s", a.grant.Name, subject)
			}
		}
		if !c.hears(access.Inbox(seeds[i].Public()) + ".*") {
			t.Errorf("%s: has no inbox", a.grant.Name)
		}
	}
}

// visitor is a connection that tells what it is refused.
type visitor struct {
	t       *testing.T
	nc      *nats.Conn
	refused chan error
}

func visit(t *testing.T, url string, key *keys.Key) *visitor {
	t.Helper()
	v := &visitor{t: t, refused: make(chan error, 256)}
	handler := nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { v.refused <- err })
	nc, err := nats.Connect(url, append(key.Options(), handler)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	v.nc = nc
	return v
}

func (v *visitor) passes(subject string) bool {
	v.t.Helper()
	return !v.isRefused(v.nc.Publish(subject, []byte("x")))
}

func (v *visitor) hears(subject string) bool {
	v.t.Helper()
	sub, err := v.nc.SubscribeSync(subject)
	refused := v.isRefused(err)
	if err == nil {
		_ = sub.Unsubscribe() // what was refused is none
	}
	return !refused
}

// isRefused waits for the server's word. Refusals come in order, so what was not refused
// before a subject that nobody may publish to was not refused.
func (v *visitor) isRefused(err error) bool {
	v.t.Helper()
	const last = "the.end"
	if err := errors.Join(err, v.nc.Publish(last, nil)); err != nil {
		v.t.Fatal(err)
	}
	for refused := false; ; refused = true {
		select {
		case err := <-v.refused:
			if !errors.Is(err, nats.ErrPermissionViolation) {
				v.t.Fatal(err)
			}
			if strings.Contains(err.Error(), last) {
				return refused
			}
		case <-time.After(sitetest.Patience):
			v.t.Fatalf("the server does not refuse %s", last)
		}
	}
}

// TestJoinedGrants: what one part denies and another one needs is allowed to who is both.
func TestJoinedGrants(t *testing.T) {
	a := access.Grant{Publish: []string{"a.*"}, DenyPublish: []string{"a.x", "a.y"}, Subscribe: []string{"s"}}
	b := access.Grant{Publish: []string{"a.x", "b"}, Subscribe: []string{"s", "t"}}
	got := access.Join("both", a, b)
	want := access.Grant{Name: "both", Publish: []string{"a.*", "a.x", "b"}, DenyPublish: []string{"a.y"}, Subscribe: []string{"s", "t"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
