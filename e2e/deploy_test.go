package e2e_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/keys"
)

// TestDeployedSite runs a site as deploy/ installs it: the NATS server as a process of its own
// with the rendered configuration, and each service as its unit runs it, with a user of its
// own. Then each user tries what is another's.
func TestDeployedSite(t *testing.T) {
	t.Parallel()
	east := install(t, "east")
	east.startAll()
	east.createImage("vms/prod/a", "16MiB")
	l := newLoad(t, 16<<20, "vms/prod/a")
	w := l.start(east.site)
	w.awaitWrites(50)
	w.end()
	l.demandComplete(east.site)

	before := query[map[string]any](east.site, "journal", "status", "vms/prod")
	for user, subjects := range east.foreign("vms/prod/a") {
		t.Run(user, func(t *testing.T) { east.visit(t, east.key(user)).demandRefused(subjects) })
	}
	t.Run("nobody", func(t *testing.T) {
		if nc, err := nats.Connect(east.url()); !errors.Is(err, nats.ErrAuthorization) {
			nc.Close()
			t.Errorf("nobody is let in: %v", err)
		}
	})
	after := query[map[string]any](east.site, "journal", "status", "vms/prod")
	for _, key := range []string{"tag", "entry"} {
		if before[key] == nil || before[key] != after[key] {
			t.Errorf("the journal's %s was %v and is %v", key, before[key], after[key])
		}
	}
	l.goOn(east.site)
	l.demandComplete(east.site)
	east.stopAll()
}

// foreign lists, for each user of the site, what is not its own to do: where it must not
// publish (what asks JetStream to delete, purge and read is such a subject too), and from
// "subscribe" on, what it must not hear.
func (i *installation) foreign(image string) map[string][]string {
	i.t.Helper()
	name, err := events.ParseImage(image)
	if err != nil {
		i.t.Fatal(err)
	}
	d := query[struct {
		ID events.DirectoryID `json:"id"`
	}](i.site, "dir", "info", name.DirectoryName.String())
	journal := events.JournalStream(name.DirectoryName, d.ID)
	write, position := events.EntriesSubject(i.name, d.ID), events.PositionSubject(d.ID, "x")
	const (
		js       = "$JS.API."
		pools    = "tidemark.pool.vms.pool_removed"
		acquire  = "tidemark.control.n.journal"
		ack      = "tidemark.ack.n"
		notify   = "tidemark.notify.n"
		instance = "tidemark.instance.n.journal"
	)
	deleteJournal, purgeJournal := js+"STREAM.DELETE."+journal, js+"STREAM.PURGE."+journal
	readJournal, getJournal := js+"CONSUMER.CREATE."+journal+".c", js+"STREAM.MSG.GET."+journal
	everybodys := []string{js + "STREAM.DELETE.POOLS", js + "STREAM.PURGE.POSITIONS", js + "STREAM.SNAPSHOT.POOLS", "$SYS.REQ.SERVER.PING", "anything"}
	heard := []string{"subscribe", ">", "_INBOX.>", "_INBOX." + i.key("operator").Public() + "x.>", "$SYS.>", "$JS.API.>", "tidemark.>", "tidemark.journal.>"}
	all := map[string][]string{
		"journal":  {pools, "tidemark.directory.x.y", ack, notify, instance, acquire, events.EntriesSubject("west", d.ID), js + "CONSUMER.CREATE.NOTIFICATIONS.c"},
		"replayer": {pools, "tidemark.directory.x.y", ack, notify, instance, acquire, events.EntriesSubject("west", d.ID), js + "STREAM.DELETE.LIFECYCLE"},
		"policy":   {write, ack, instance, acquire, deleteJournal, purgeJournal, readJournal, getJournal},
		"notifier": {write, position, pools, notify, deleteJournal, purgeJournal, readJournal, getJournal},
		"operator": {write, position, pools, ack, notify, instance, acquire, deleteJournal, purgeJournal},
		"monitor":  {write, position, pools, deleteJournal, readJournal, getJournal, "tidemark.api.pool.remove", "tidemark.api.peer.token"},
	}
	for user := range all {
		all[user] = slices.Concat(all[user], everybodys, heard)
	}
	return all
}

// visitor is a connection of a user by hand, as somebody has it who stole the user's seed.
type visitor struct {
	t       *testing.T
	nc      *nats.Conn
	refused chan string
}

func (i *installation) visit(t *testing.T, key *keys.Key) *visitor {
	t.Helper()
	v := &visitor{t: t, refused: make(chan string, 64)}
	var err error
	v.nc, err = nats.Connect(i.url(), slices.Concat(key.Options(), i.trust(), []nats.Option{nats.NoReconnect(), nats.ErrorHandler(
		func(_ *nats.Conn, _ *nats.Subscription, err error) { v.refused <- err.Error() })})...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.nc.Close)
	return v
}

// demandRefused tries to publish to each subject, and to subscribe to those behind "subscribe".
func (v *visitor) demandRefused(subjects []string) {
	v.t.Helper()
	what := "Publish"
	for _, subject := range subjects {
		var err error
		switch {
		case subject == "subscribe":
			what = "Subscription"
			continue
		case what == "Publish":
			// Were it taken, somebody would answer: JetStream, or a service.
			err = v.nc.PublishRequest(subject, v.nc.NewInbox(), []byte("{}"))
		default:
			_, err = v.nc.SubscribeSync(subject)
		}
		if err != nil {
			v.t.Fatal(err)
		}
		v.demandRefusal(what, subject)
	}
}

func (v *visitor) demandRefusal(what, subject string) {
	v.t.Helper()
	limit := time.NewTimer(5 * time.Second)
	defer limit.Stop()
	select {
	case got := <-v.refused:
		if want := `Permissions Violation for ` + what + ` to "` + subject + `"`; !strings.Contains(strings.ToLower(got), strings.ToLower(want)) {
			v.t.Errorf("%s to %s: the server says %q", what, subject, got)
		}
	case <-limit.C:
		v.t.Errorf("%s to %s is not refused", what, subject)
	}
}
