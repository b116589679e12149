package e2e_test

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"

	"tidemark/internal/sitetest"
)

// step is a moment of an acquire, by the subject of the message that it begins with.
type step struct{ name, subject string }

// stepsOf returns the steps of an acquire by a service, of a directory that begins with a
// fact.
func stepsOf(service, begins string) []step {
	return []step{
		{"wanted", "tidemark.directory.*.*." + begins},
		{"mapped", "tidemark.directory.*.*.directory_mapped"},
		{"requested", "tidemark.notify.>"},
		{"delivered", "tidemark.control.*." + service},
		{"acknowledged", "tidemark.ack.>"},
	}
}

// killAt runs a command, kills a part of the site at a step of what comes of it, and starts
// the part again.
func (q *quartet) killAt(nc *nats.Conn, s step, part string, command ...string) {
	q.t.Helper()
	sub, err := nc.SubscribeSync(s.subject)
	if err != nil {
		q.t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only with the connection
	if err := nc.Flush(); err != nil {
		q.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = try[any](q.site, command...) // it may be told of the death
	}()
	if _, err := sub.NextMsg(patience); err != nil {
		q.t.Fatalf("%s: %v", s.name, err)
	}
	q.parts[part].kill()
	q.launch(part)
	q.parts[part].awaitReady(q.t)
	<-ended
}

// TestKilledAtEachStepOfAnAcquire runs each service of a site in a process of its own, and
// kills one of them at each step of an acquire, of a replica and of a primary: the directory
// is acquired all the same, by one at a time.
//
// directories 99, 100, 101, 102, 103, 131, 136.
func TestKilledAtEachStepOfAnAcquire(t *testing.T) {
	t.Parallel()
	east, west := startSite(t, "east"), newQuartet(t, "west")
	west.socket = west.dir + "/ro" // it follows
	peers(t, "vms", east, west.site)
	west.must("pool", "create", "own")
	nc := west.jetStream().Conn()
	n := 0
	for _, part := range []string{"policy", "notifier", "replayer"} {
		for _, s := range stepsOf("replayer", "directory_tracked") {
			n++
			if sitetest.RaceDetector && n%3 != 1 { // all of them without it; with it, each part and each step once or twice
				continue
			}
			dir := fmt.Sprintf("vms/d%d", n)
			east.createImage(dir+"/a", "4MiB")
			west.killAt(nc, s, part, "mirror", "add", dir)
			await(t, patience, fmt.Sprintf("%s is followed, %s killed when it was %s", dir, part, s.name), func() error {
				m, err := west.mirrorNow(dir)
				if err != nil {
					_ = west.run("mirror", "add", dir) // if it died before the fact was durable
					return err
				}
				return unless(m.State == "replaying", "it is %s: %s", m.State, m.Error)
			})
		}
	}
	for _, s := range stepsOf("journal", "directory_created") {
		n++
		image := fmt.Sprintf("own/d%d/a", n)
		west.killAt(nc, s, "journal", "image", "create", image, "--size", "4MiB")
		await(t, patience, fmt.Sprintf("%s is there, journal killed when it was %s", image, s.name), func() error {
			if r := west.run("image", "create", image, "--size", "4MiB"); r.code != 0 && r.code != 4 {
				return fmt.Errorf("%s", r)
			}
			return nil
		})
	}
	sitetest.DemandOneHolder(t, west.jetStream().Conn())
}
