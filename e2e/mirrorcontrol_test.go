package e2e_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidemark/internal/sitetest"
)

// control is a way in which an operator ends a replica's following, and has it go on.
type control struct {
	name      string
	stop, run func(t *testing.T, east, west *site)
}

func controls() []control {
	stopSite := func(_ *testing.T, _, west *site) { west.terminate() }
	startSite := func(_ *testing.T, _, west *site) { west.start() }
	token := func(t *testing.T, east, west *site) {
		west.must("mirror", "peer", "remove", "vms", "east") // west still knows it
		peers(t, "vms", east, west)
	}
	return []control{
		{"site", stopSite, startSite},
		{"site, killed", func(_ *testing.T, _, west *site) { west.kill() }, startSite},
		{"primary's site", func(_ *testing.T, east, _ *site) { east.terminate() }, func(_ *testing.T, east, _ *site) { east.start() }},
		{"peer", func(_ *testing.T, east, _ *site) { east.must("mirror", "peer", "remove", "vms", "west") }, token},
		{
			"pool", func(_ *testing.T, east, _ *site) { east.must("mirror", "disable", "vms") },
			func(_ *testing.T, east, _ *site) { east.must("mirror", "enable", "vms") },
		},
		{
			"directory", func(_ *testing.T, _, west *site) { west.must("mirror", "remove", "vms/prod") },
			func(_ *testing.T, _, west *site) { west.addAgain("vms/prod") },
		},
	}
}

// TestControlMatrix ends the following in every way that there is and lets it go on, and one
// in the middle of each other one; what was written meanwhile arrives; journal 235, 281,
// 283, 297.
func TestControlMatrix(t *testing.T) {
	t.Parallel()
	east, west := pair(t)
	east.createImage("vms/prod/a", "8MiB", "--object-size", "1MiB")
	west.must("mirror", "add", "vms/prod")
	awaitLevel(t, east, west, "vms/prod")
	l := newLoad(t, 8<<20, "vms/prod/a")
	follows := func(what string) {
		t.Helper()
		awaitLevel(t, east, west, "vms/prod")
		if err := l.judge(west).Complete(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	write := func() {
		w := l.start(east)
		w.awaitWrites(20)
		w.end()
	}
	for i, outer := range controls() {
		outer.stop(t, east, west)
		if outer.name != "primary's site" {
			write()
		}
		outer.run(t, east, west)
		follows(outer.name)
		for j, inner := range controls() {
			if sitetest.RaceDetector && (i+j)%2 == 0 || !reaches(outer, inner) { // half of them under the race detector
				continue
			}
			inner.stop(t, east, west)
			outer.stop(t, east, west)
			outer.run(t, east, west)
			inner.run(t, east, west)
			write()
			follows(outer.name + " within " + inner.name)
		}
	}
}

// reaches reports whether a control can be worked while another one has stopped something: a
// command needs the site that it is said at, a token both.
func reaches(outer, stopped control) bool {
	if outer.name == stopped.name || strings.HasPrefix(outer.name, "site") && strings.HasPrefix(stopped.name, "site") {
		return false
	}
	switch stopped.name {
	case "site", "site, killed":
		return outer.name == "pool" || outer.name == "primary's site"
	case "primary's site":
		return outer.name == "directory" || strings.HasPrefix(outer.name, "site")
	}
	return true
}

// TestNothingIsLeftBehind ends a replica: its journal and its files are gone at its site, and
// the primary waits for nobody any more; journal 286.
func TestNothingIsLeftBehind(t *testing.T) {
	t.Parallel()
	east, west := pair(t)
	east.createImage("vms/prod/a", "8MiB", "--object-size", "1MiB")
	west.must("mirror", "add", "vms/prod")
	l := newLoad(t, 8<<20, "vms/prod/a")
	w := l.start(east)
	w.awaitWrites(100)
	w.end()
	awaitLevel(t, east, west, "vms/prod")
	if left := leftovers(west); len(left) == 0 {
		t.Fatal("nothing is found of a replica that is there")
	}
	west.must("mirror", "remove", "vms/prod")
	await(t, patience, "everything is gone", func() error {
		left := leftovers(west)
		return unless(len(left) == 0, "at west: %v", left)
	})
	await(t, patience, "east knows", func() error {
		status := query[struct {
			Clients []struct {
				ID string `json:"id"`
			} `json:"clients"`
		}](east, "journal", "status", "vms/prod")
		for _, c := range status.Clients {
			if strings.HasPrefix(c.ID, "west") {
				return fmt.Errorf("it waits for %s", c.ID)
			}
		}
		return nil
	})
}

// leftovers names the journals and the files of images at a site.
func leftovers(s *site) (names []string) {
	s.t.Helper()
	streams := s.jetStream().StreamNames(s.t.Context())
	for name := range streams.Name() {
		if strings.HasPrefix(name, "JOURNAL_") {
			names = append(names, name)
		}
	}
	if err := streams.Err(); err != nil {
		s.t.Fatal(err)
	}
	err := filepath.WalkDir(filepath.Join(s.data(), "replicas"), func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			names = append(names, name)
		}
		if os.IsNotExist(err) {
			return nil
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return names
}

// TestDeadLinkHoldsNothingUp asks for what ends a following, and a first sync, over a link
// that has gone silent: each is done in bounded time; rivals 10.
func TestDeadLinkHoldsNothingUp(t *testing.T) {
	t.Parallel()
	const bound, megabytes = 15 * time.Second, 32
	east, west := newSite(t, "east"), newSite(t, "west")
	wire := newLink(t, east.nats, 2<<20)
	east.flags = []string{"--advertise", "nats://" + wire.address}
	east.start()
	west.start()
	east.createImage("vms/prod/a", fmt.Sprintf("%dMiB", megabytes), "--object-size", "1MiB")
	fillImage(t, east, "vms/prod/a")
	peers(t, "vms", east, west)
	timed := func(what string, act func()) {
		t.Helper()
		began := time.Now()
		act()
		sitetest.Prompt(t, what, began, bound)
	}
	west.must("mirror", "add", "vms/prod")
	awaitCopied(t, west, 4)
	wire.silence()
	timed("stop in a first sync", west.terminate)
	timed("start without a source", func() { west.start() })
	timed("remove in a first sync", func() { west.must("mirror", "remove", "vms/prod") })
	wire.heal()
	wire.rate.Store(0)
	west.addAgain("vms/prod")
	awaitLevel(t, east, west, "vms/prod")
	wire.silence()
	timed("stop while following", west.terminate)
	timed("start while following", func() { west.start() })
	timed("promote", func() { west.must("mirror", "promote", "--force", "vms/prod") })
}

// TestLimitIsLive changes what a first sync may fetch while it goes on: the link carries no
// more than the limit soon after, and as much as it can soon after that; rivals 14.
func TestLimitIsLive(t *testing.T) {
	t.Parallel()
	const slow, fast, limit, megabytes = 4 << 20, 8 << 20, 1 << 20, 96
	east, west := newSite(t, "east"), newSite(t, "west")
	wire := newLink(t, east.nats, slow)
	east.flags = []string{"--advertise", "nats://" + wire.address}
	east.start()
	west.start()
	east.createImage("vms/prod/a", fmt.Sprintf("%dMiB", megabytes), "--object-size", "1MiB")
	fillImage(t, east, "vms/prod/a")
	peers(t, "vms", east, west)
	west.must("mirror", "add", "vms/prod")
	awaitCopied(t, west, 2)
	west.must("mirror", "set", "vms/prod", "--limit", "1MiB")
	await(t, patience, "the limit holds", func() error {
		now := wire.rateNow()
		return unless(now < 2*limit, "%.1f MB/s", now/1e6)
	})
	if west.mirror("vms/prod").State == "replaying" {
		t.Fatal("the first sync ended before the limit was seen: slow the link down")
	}
	wire.rate.Store(fast)
	west.must("mirror", "set", "vms/prod", "--limit", "0")
	await(t, patience, "the limit is gone", func() error {
		now := wire.rateNow()
		return unless(now > 3*limit, "%.1f MB/s", now/1e6)
	})
	wire.rate.Store(0)
	awaitLevel(t, east, west, "vms/prod")
	sameContent(t, east, west, "vms/prod/a")
}

// rateNow is how many bytes a second a link carries during a second.
func (l *link) rateNow() float64 {
	before, began := l.carried.Load(), time.Now()
	<-time.After(time.Second)
	return float64(l.carried.Load()-before) / time.Since(began).Seconds()
}
