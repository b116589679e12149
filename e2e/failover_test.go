package e2e_test

import (
	"context"
	"testing"
)

// TestPromoteRefused checks that a directory is not taken from a primary that is there,
// unless by force. It was seen to fail without life.mayClaim's check of the last tag.
func TestPromoteRefused(t *testing.T) {
	t.Parallel()
	east, west := pair(t)
	east.createImage("vms/prod/a", "8MiB")
	west.must("mirror", "add", "vms/prod")
	awaitLevel(t, east, west, "vms/prod")
	west.refused(5, "busy", "mirror", "promote", "vms/prod")
	l := newLoad(t, 8<<20, "vms/prod/a")
	w := l.start(east)
	w.awaitWrites(100)
	w.end()
	awaitLevel(t, east, west, "vms/prod")
	l.demandComplete(west)
	refuseWrites(t, west, "vms/prod/a")
}

// TestDisaster kills the primary's site under writers and promotes the other by force:
// both images are a prefix of what was written, at one position. The old primary comes
// back with all that it had acknowledged; its entries that the other never saw are a
// split brain, shown, and nothing is applied; journal 212, 302; rivals 1, 5, 9.
func TestDisaster(t *testing.T) {
	t.Parallel()
	east, west, wire := linkedPair(t)
	images := []string{"vms/prod/a", "vms/prod/b"}
	for _, image := range images {
		east.createImage(image, "16MiB", "--object-size", "1MiB")
	}
	west.must("mirror", "add", "vms/prod")
	l := newLoad(t, 16<<20, images...)
	w := l.start(east)
	w.awaitWrites(500)
	awaitMirrored(t, west, "vms/prod")
	w.awaitWrites(500)
	for _, image := range images {
		refuseWrites(t, west, image)
	}
	// West falls behind for certain before east is lost.
	wire.silence()
	w.awaitWrites(100)
	east.kill()
	wire.sever()
	w.abandon()
	west.must("mirror", "promote", "--force", "vms/prod")
	verdict := l.judge(west)
	if err := verdict.Prefix(); err != nil {
		t.Errorf("west: %v", err)
	}
	t.Logf("west holds %d of %d acknowledged writes", verdict.Present, verdict.Acknowledged)
	at := west.mirror("vms/prod")
	if at.Role != "master" || at.Primary != "west" {
		t.Errorf("west after its promotion: %+v", at)
	}
	west.createImage("vms/prod/new", "8MiB")
	after := newLoad(t, 8<<20, "vms/prod/new")
	w = after.start(west)
	w.awaitWrites(50)
	w.end()

	east.start()
	wire.heal()
	l.demandComplete(east)
	splitBrain(t, l, east, west, verdict.Missing > 0)
	after.demandComplete(west)
}

// splitBrain demotes the old primary, which holds entries that the new one never saw.
func splitBrain(t *testing.T, l *load, east, west *site, diverged bool) {
	t.Helper()
	if !diverged {
		t.Error("west had everything when east was killed: this run shows no split brain")
		return
	}
	before := east.mirror("vms/prod").Position
	east.must("mirror", "demote", "vms/prod")
	m := east.awaitState("vms/prod", "split_brain")
	if m.Error == "" || m.Position.before(before) {
		t.Errorf("east in its split brain, demoted at %v: %+v", before, m)
	}
	l.demandComplete(east)
	east.refused(3, "not_found", "image", "info", "vms/prod/new")
	if status := west.awaitState("vms/prod", "split_brain"); status.Role != "master" || status.Error == "" {
		t.Errorf("west, which goes on serving: %+v", status)
	}
}

// TestSplitBrainIsNotPromoted checks that a site that knows of its split brain does not
// become a second primary unless by force; journal 302.
func TestSplitBrainIsNotPromoted(t *testing.T) {
	t.Parallel()
	east, west, wire := linkedPair(t)
	east.createImage("vms/prod/a", "8MiB")
	west.must("mirror", "add", "vms/prod")
	awaitLevel(t, east, west, "vms/prod")
	wire.sever()
	l := newLoad(t, 8<<20, "vms/prod/a")
	w := l.start(east)
	w.awaitWrites(50)
	w.end()
	west.must("mirror", "promote", "--force", "vms/prod")
	wire.heal()
	east.must("mirror", "demote", "vms/prod")
	east.awaitState("vms/prod", "split_brain")
	r := east.run("mirror", "promote", "vms/prod", "-o", "json")
	if e := r.problem(t); r.code != 5 {
		t.Errorf("west is primary, east is in a split brain: want exit code 5, and split_brain or busy rather than %q: %s", e.Code, r)
	}
	l.demandComplete(east)
}

// awaitMirrored waits until a replica follows, however far behind it is.
func awaitMirrored(t *testing.T, s *site, dir string) {
	t.Helper()
	await(t, patience, s.name+" follows", func() error {
		m, err := s.mirrorNow(dir)
		if err != nil {
			return err
		}
		return unless(m.State == "replaying", "%s: %s", m.State, m.Error)
	})
}

// TestOrderlyFailOver moves a directory to the other site and back, with writes at each
// and without, and never sees a split brain; journal 211, 218, 287, 288, 289, 290;
// rivals 2.
func TestOrderlyFailOver(t *testing.T) {
	t.Parallel()
	east, west := pair(t)
	images := []string{"vms/prod/a", "vms/prod/b"}
	for _, image := range images {
		east.createImage(image, "16MiB", "--object-size", "1MiB")
	}
	west.must("mirror", "add", "vms/prod")
	awaitLevel(t, east, west, "vms/prod")
	l := newLoad(t, 16<<20, images...)
	primary, replica := east, west
	for round := range 6 {
		if round%3 != 2 { // every third round moves it unmodified
			w := l.start(primary)
			w.awaitWrites(200)
			w.end()
		}
		primary.must("mirror", "demote", "vms/prod")
		refuseWrites(t, primary, images[0])
		awaitPromoted(t, replica)
		l.demandComplete(replica)
		primary, replica = replica, primary
		awaitLevel(t, primary, replica, "vms/prod")
	}
	for _, s := range []*site{east, west} {
		l.demandComplete(s)
		if split := s.lifecycle("diverged"); len(split) > 0 {
			t.Errorf("%s saw a split brain: %q", s.name, split)
		}
	}
}

// awaitPromoted promotes a replica as soon as the demotion of the other has arrived.
func awaitPromoted(t *testing.T, s *site) {
	t.Helper()
	s.promote("vms/prod")
	if conn := s.dial("vms/prod/a"); conn.ReadOnly() {
		t.Errorf("%s was promoted, and its export is read-only", s.name)
	}
}

// TestDemotedTakesNothing checks that clients of a demoted primary are told, and that
// nobody can be promoted twice.
func TestDemotedTakesNothing(t *testing.T) {
	t.Parallel()
	east, west := pair(t)
	east.createImage("vms/prod/a", "8MiB")
	west.must("mirror", "add", "vms/prod")
	awaitLevel(t, east, west, "vms/prod")
	l := newLoad(t, 8<<20, "vms/prod/a")
	w := l.start(east)
	w.awaitWrites(100)
	east.must("mirror", "demote", "vms/prod")
	w.abandon()
	if w.failure() == nil {
		t.Error("writers at a demoted primary were not told")
	}
	awaitPromoted(t, west)
	l.demandComplete(west)
	// At once: the other's tag may still be on its way to east, which has to ask.
	east.refused(5, "busy", "mirror", "promote", "vms/prod")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn := west.dial("vms/prod/a")
	if err := conn.WriteAt(ctx, make([]byte, 4096), 0, true); err != nil {
		t.Errorf("write at the new primary: %v", err)
	}
}
