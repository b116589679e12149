package access_test

import (
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tidemark/internal/access"
	"tidemark/internal/keys"
	"tidemark/internal/natsd"
)

// besides are the commands of the server that destroy, as a reply or a delivery would give them.
var besides = []string{
	"$JS.API.STREAM.DELETE.POOLS", "$JS.API.STREAM.PURGE.POOLS", "$JS.API.STREAM.UPDATE.POOLS", "$JS.API.CONSUMER.DELETE.POOLS.mine",
}

// TestNoReplyIsACommand: the server answers where a user says, also at its own commands. Nothing
// that a peer or a monitor may ask for is answered with something that is one.
func TestNoReplyIsACommand(t *testing.T) {
	t.Parallel()
	journal := "JOURNAL_vms_prod_" + mine
	for _, who := range []struct {
		grant  access.Grant
		stream string
	}{
		{access.Peer("east", "vms", directory(mine, "/prod")), journal},
		{access.Monitor("east"), "POOLS"},
		{access.Gate("east"), "DIRECTORIES"},
	} {
		t.Run(who.grant.Name, func(t *testing.T) {
			t.Parallel()
			key, err := keys.New()
			if err != nil {
				t.Fatal(err)
			}
			s, err := natsd.Start(t.Context(), natsd.Config{
				Name: "east", Dir: t.TempDir(), Listen: "127.0.0.1:0", Sync: natsd.SyncNever, Auth: true,
				Users: []access.User{who.grant.User(key.Public())}, Log: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.Stop)
			js := filled(t, s, journal, "POOLS", "DIRECTORIES")
			v := visit(t, s.URL(), key)
			for _, reply := range besides {
				hostile(v, who.grant, who.stream, key, reply)
			}
			// Deliveries and their heartbeats go on after what was sent is done.
			for until := time.Now().Add(time.Second); !t.Failed() && time.Now().Before(until); {
				unharmed(t, js)
			}
		})
	}
}

// filled makes streams with messages, and a consumer of POOLS.
func filled(t *testing.T, s *natsd.Server, names ...string) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(s.URL(), s.Key().Options()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{name + ".>"}, AllowDirect: true}); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := js.Publish(t.Context(), name+".x", []byte("one")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := js.CreateConsumer(t.Context(), "POOLS", jetstream.ConsumerConfig{Durable: "mine"}); err != nil {
		t.Fatal(err)
	}
	return js
}

// hostile asks for everything that a grant allows to ask of a stream, to be answered at reply.
func hostile(v *visitor, grant access.Grant, stream string, key *keys.Key, reply string) {
	v.t.Helper()
	ask := func(subject, reply string, body any) {
		data, err := json.Marshal(body)
		if err != nil {
			v.t.Fatal(err)
		}
		if err := v.nc.PublishMsg(&nats.Msg{Subject: subject, Reply: reply, Data: data}); err != nil {
			v.t.Fatal(err)
		}
	}
	consumer := func(name, deliver string) any {
		return map[string]any{"stream_name": stream, "config": map[string]any{
			"name": name, "deliver_subject": deliver, "headers_only": true, "ack_policy": "none", "inactive_threshold": time.Minute,
			"idle_heartbeat": 100 * time.Millisecond * time.Duration(min(len(deliver), 1)),
		}}
	}
	api := "$JS.API."
	own := access.Inbox(key.Public()) + ".x"
	ask(api+"CONSUMER.CREATE."+stream+".pull", own, consumer("pull", ""))
	ask(api+"CONSUMER.CREATE."+stream+".push", own, consumer("push", reply))
	subjects := []string{
		"DIRECT.GET." + stream, "STREAM.MSG.GET." + stream, "STREAM.INFO." + stream,
		"CONSUMER.MSG.NEXT." + stream + ".pull", "CONSUMER.MSG.NEXT." + stream + ".push", "CONSUMER.INFO." + stream + ".pull",
	}
	for _, subject := range subjects {
		for _, body := range []any{map[string]int{"seq": 1}, map[string]int{"seq": 99}, map[string]int{"batch": -1}, "x"} {
			ask(api+subject, reply, body)
		}
	}
	ask("$JS.ACK."+stream+".pull.1.1.1.1.1", reply, "x")
	for _, subject := range grant.Publish {
		if !strings.ContainsAny(subject, "*>") {
			ask(subject, reply, map[string]int{})
		}
	}
	if err := v.nc.Flush(); err != nil {
		v.t.Fatal(err)
	}
	for len(v.refused) > 0 {
		<-v.refused
	}
}

func unharmed(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	pools, err := js.Stream(t.Context(), "POOLS")
	if err != nil {
		t.Fatal(err)
	}
	if got := pools.CachedInfo().State.Msgs; got != 3 {
		t.Errorf("POOLS holds %d messages, not 3", got)
	}
	var names []string
	for name := range pools.ConsumerNames(t.Context()).Name() {
		names = append(names, name)
	}
	if !slices.Contains(names, "mine") {
		t.Errorf("the consumer is gone: there are %v", names)
	}
}
