package e2e_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/keys"
)

// TestDeployedPeers runs two sites as deploy/ installs them. West comes in at east with a key of
// its own, which east's gate lets in for the pool that is shared; it follows, takes over and
// hands back. Then west, and the bearer of a token, try what is not theirs.
func TestDeployedPeers(t *testing.T) {
	t.Parallel()
	east, west := installWithTLS(t, "east"), installWithTLS(t, "west")
	trustEachOther(east, west)
	east.startAll()
	west.startAll()
	east.createImage("vms/prod/a", "16MiB")
	east.createImage("private/hr/b", "8MiB")
	peers(t, "vms", east.site, west.site)
	west.must("mirror", "add", "vms/prod")
	l := newLoad(t, 16<<20, "vms/prod/a")
	failOverAndBack(t, l, east, west)

	key := west.siteKey()
	t.Run("peer", func(t *testing.T) { east.visit(t, key).demandRefused(east.notForPeers()) })
	t.Run("token", func(t *testing.T) {
		bearer := bearerOf(t, east.must("mirror", "peer", "create-token", "vms"))
		east.awaitLetIn(bearer)
		east.visit(t, bearer).demandRefused(append([]string{events.EntriesSubject("east", east.directory("vms/prod"))}, east.notForPeers()...))
	})
	east.must("mirror", "peer", "remove", "vms", "west")
	east.awaitShutOut(key)
	l.goOn(east.site)
	east.stopAll()
	west.stopAll()
}

// failOverAndBack writes at east, takes the directory over at west, in order, writes there, and
// hands it back when west is lost: by force, and with no more missing than an end.
func failOverAndBack(t *testing.T, l *load, east, west *installation) {
	t.Helper()
	west.socket = west.replicas
	write := func(at, follower *installation) {
		t.Helper()
		awaitLevel(t, at.site, follower.site, "vms/prod")
		w := l.start(at.site)
		w.awaitWrites(50)
		w.end()
		awaitLevel(t, at.site, follower.site, "vms/prod")
		l.demandComplete(follower.site)
	}
	write(east, west)
	east.must("mirror", "demote", "vms/prod")
	west.promote("vms/prod")
	east.socket, west.socket = east.replicas, west.primaries
	write(west, east)

	w := l.start(west.site)
	w.awaitWrites(50)
	west.killAll()
	w.abandon()
	east.must("mirror", "promote", "--force", "vms/prod")
	east.socket = east.primaries
	verdict := l.judge(east.site)
	if err := verdict.Prefix(); err != nil {
		t.Errorf("east: %v", err)
	}
	west.startAll()
	west.must("mirror", "demote", "vms/prod")
	if verdict.Missing > 0 {
		west.awaitState("vms/prod", "split_brain")
		west.must("mirror", "resync", "vms/prod")
	}
	west.socket = west.replicas
	l.work.Continue(l.look(east.site))
	write(east, west)
}

// directory returns the id of a directory.
func (i *installation) directory(name string) events.DirectoryID {
	i.t.Helper()
	return query[struct {
		ID events.DirectoryID `json:"id"`
	}](i.site, "dir", "info", name).ID
}

// notForPeers lists what is not for who shares pool vms: the other pool's directory, and all that
// only the site itself says. What stands behind "subscribe" is heard, not said.
func (i *installation) notForPeers() []string {
	i.t.Helper()
	name := events.DirectoryName{Pool: "private", Path: "/hr"}
	id := i.directory(name.String())
	journal := events.JournalStream(name, id)
	const js = "$JS.API."
	return []string{
		js + "STREAM.INFO." + journal, js + "CONSUMER.CREATE." + journal + ".c", js + "STREAM.MSG.GET." + journal,
		"tidemark.api.shared.private.resolve", "tidemark.api.shared.private.list", "tidemark.api.holder." + string(id) + ".sync.start",
		events.EntriesSubject(i.name, id), events.PositionSubject(i.directory("vms/prod"), "x"), events.TagSubject(i.name, i.directory("vms/prod")),
		js + "STREAM.DELETE.POOLS", js + "CONSUMER.CREATE.POOLS.c", js + "STREAM.MSG.GET.POOLS", js + "STREAM.NAMES",
		"tidemark.pool.vms.pool_removed", "tidemark.api.pool.create", "tidemark.api.peer.token", "tidemark.control.n.journal",
		"_INBOX." + i.key("operator").Public() + ".x", "$SYS.REQ.SERVER.PING",
		"subscribe", ">", "tidemark.>", events.HeadSubject(id), "tidemark.head.*", "_INBOX.>", "_INBOX." + i.key("operator").Public() + ".>", "$SYS.>",
	}
}

// siteKey is the key with which a site comes in at others.
func (i *installation) siteKey() *keys.Key {
	i.t.Helper()
	key, err := keys.Load(filepath.Join(i.dir, "tidemark/node/site.nk"))
	if err != nil {
		i.t.Fatal(err)
	}
	return key
}

// bearerOf takes the key out of a token.
func bearerOf(t *testing.T, token string) *keys.Key {
	t.Helper()
	_, body, _ := strings.Cut(strings.TrimSpace(token), ".")
	text, err := base64.RawURLEncoding.DecodeString(body)
	var content struct {
		Seed string `json:"seed"`
	}
	if err = errors.Join(err, json.Unmarshal(text, &content)); err != nil || content.Seed == "" {
		t.Fatalf("the token carries no key: %v", err)
	}
	key, err := keys.Parse([]byte(content.Seed))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// awaitLetIn waits until the NATS server lets a key in: its gate takes a moment.
func (i *installation) awaitLetIn(key *keys.Key) {
	i.t.Helper()
	await(i.t, patience, "a key is let in at "+i.name, func() error {
		nc, err := nats.Connect(i.url(), slices.Concat(key.Options(), i.trust())...)
		if err == nil {
			nc.Close()
		}
		return err
	})
}

// awaitShutOut waits until it does not any more.
func (i *installation) awaitShutOut(key *keys.Key) {
	i.t.Helper()
	await(i.t, patience, "a key is shut out at "+i.name, func() error {
		nc, err := nats.Connect(i.url(), slices.Concat(key.Options(), i.trust())...)
		if err == nil {
			nc.Close()
		}
		return unless(errors.Is(err, nats.ErrAuthorization), "%v", err)
	})
}
